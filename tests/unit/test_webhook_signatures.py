"""Signatures and messages, judged by the library of the Standard Webhooks specification."""

import secrets
from base64 import b64encode
from time import time

import orjson
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tracking_shared.contracts.timestamps import now
from tracking_webhooks.domain.message import sample_message
from tracking_webhooks.domain.signature import SECRET_PREFIX, key_of, signed_headers


def new_secret() -> tuple[str, bytes]:
    key = secrets.token_bytes(32)
    return SECRET_PREFIX + b64encode(key).decode(), key


def test_the_published_library_accepts_a_signature() -> None:
    secret, key = new_secret()
    body = orjson.dumps({"id": "o-1:2", "name": "Zoë"})

    assert Webhook(secret).verify(body, signed_headers([key], "o-1:2", int(time()), body)) == orjson.loads(
        body
    )


def test_the_published_library_makes_the_same_signature() -> None:
    secret, key = new_secret()
    body, at = b'{"x":1}', now()
    headers = signed_headers([key], "o-1:2", int(at.timestamp()), body)

    assert headers["webhook-signature"] == Webhook(secret).sign("o-1:2", at, body.decode())


def test_while_a_secret_is_rotated_both_are_accepted() -> None:
    (new, new_key), (old, old_key) = new_secret(), new_secret()
    headers = signed_headers([new_key, old_key], "o-1:2", int(time()), b"{}")

    assert Webhook(new).verify(b"{}", headers) == {}
    assert Webhook(old).verify(b"{}", headers) == {}


@pytest.mark.parametrize("change", ["body", "id", "time", "key"])
def test_the_published_library_refuses_what_was_changed(change: str) -> None:
    secret, key = new_secret()
    headers = signed_headers(
        [secrets.token_bytes(32) if change == "key" else key], "o-1:2", int(time()), b"{}"
    )
    if change == "id":
        headers["webhook-id"] = "o-1:3"
    if change == "time":
        headers["webhook-timestamp"] = str(int(time()) - 10)

    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(b"[]" if change == "body" else b"{}", headers)


def test_a_secret_is_the_key_in_base64() -> None:
    secret, key = new_secret()

    assert key_of(secret) == key
    with pytest.raises(ValueError, match="secret"):
        key_of("whsec_***")


def test_a_test_delivery_is_a_cloud_event_of_its_own_type() -> None:
    message = sample_message("wh_1", "test_1", now())

    document = orjson.loads(message.body)
    assert document["specversion"] == "1.0"
    assert document["type"] == "webhook.test"
    assert document["id"] == message.message_id == "test_1"
