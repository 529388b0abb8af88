"""Real messages against the AsyncAPI document. What it does not describe is a fault, though receivers
are told to ignore it: how else would anybody learn that it is missing there?
"""

from functools import cache
from typing import Any

from jsonschema_rs import Draft7Validator

from tracking_notifier.stream.stream_asyncapi import SERVER_MESSAGES, asyncapi_document

_SERVER_MESSAGES = {message.name for message in SERVER_MESSAGES}


def faults_of(name: str, payload: Any) -> list[str]:
    """Where the payload of a message departs from its description."""
    return _faults(f"messages/{name}/payload", payload)


def check_message(name: str, payload: Any) -> None:
    """Fails unless the message is as described."""
    faults = faults_of(name, payload)
    assert not faults, (name, faults[:3], payload)


def check_server_message(message: Any) -> None:
    """Fails unless this is one of the messages that the notifier sends, as described."""
    assert message["type"] in _SERVER_MESSAGES, message
    check_message(message["type"], message)


def check_event(event: Any) -> None:
    """Fails unless this is an event, as described."""
    faults = _faults("schemas/CloudEvent", event)
    assert not faults, (faults[:3], event)


def check_order(order: Any) -> None:
    """Fails unless this is an order, as described."""
    faults = _faults("schemas/OrderView", order)
    assert not faults, (faults[:3], order)


def _faults(component: str, value: Any) -> list[str]:
    validator = _validator(component)
    if validator.is_valid(value):
        return []
    return [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(value)]


@cache
def _validator(component: str) -> Draft7Validator:
    schema = {"allOf": [{"$ref": f"#/components/{component}"}], "components": _closed_components()}
    return Draft7Validator(schema, validate_formats=True)


@cache
def _closed_components() -> Any:
    return closed(asyncapi_document()["components"])


def closed(schema: Any) -> Any:
    """The schema with every object closed that does not say whether it is."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(value) for name, value in schema.items()}
    if made.get("type") == "object" and "properties" in made:
        made.setdefault("additionalProperties", False)
    return made
