"""Which tokens prove who somebody is, and which do not, whatever is tried."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from issuers import Issuer
from tracking_shared.auth import tokens
from tracking_shared.auth.keys import KeyRing
from tracking_shared.auth.tokens import MAX_TOKEN_BYTES, TokenError, TokenVerifier, UnknownKey
from tracking_shared.contracts.access import Principal
from tracking_shared.settings import Settings

SECRET = "a-secret-of-the-tests-0123456789abcdef"
OLD_SECRET = "an-older-secret-of-the-tests-0123456789"
CLAIMS: Mapping[str, Any] = {"sub": "ann", "scope": "orders:read", "merchants": ["acme"]}


def verifier(**settings: Any) -> TokenVerifier:
    standard = {"amqp_url": "amqp://x", "mongodb_url": "mongodb://x", "jwt_secret": SECRET}
    return TokenVerifier(Settings(**(standard | settings)))


def claims(**changed: Any) -> dict[str, Any]:
    return {**CLAIMS, "exp": time() + 60, **changed}


def signed(secret: str = SECRET, *, headers: dict[str, Any] | None = None, **changed: Any) -> str:
    # Not by `jwt.encode`, which would refuse some of the wrong ones itself.
    content = json.dumps(claims(**changed)).encode()
    return jwt.PyJWS().encode(content, secret, "HS256", headers=headers)


def by_hand(header: object, payload: object, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path / "keys.json")


def test_a_good_token_says_who_it_is() -> None:
    principal = verifier().verify(signed(jti="t-1", iat=time()))
    assert (principal.subject, principal.token_id) == ("ann", "t-1")
    assert principal.grant.merchants == {"acme"}


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_token_of_each_family_is_taken(issuer: Issuer, algorithm: str) -> None:
    issuer.publish(algorithm)
    by_file = verifier(jwt_secret="", jwks_file=issuer.path)
    assert by_file.verify(issuer.token(algorithm, claims())).subject == "ann"
    assert by_file.verify(issuer.token(algorithm, claims(), key_id=None)).subject == "ann"


def test_a_secret_and_a_key_set_may_stand_beside_each_other(issuer: Issuer) -> None:
    issuer.publish("RS256")
    both = verifier(jwks_file=issuer.path)
    assert both.verify(signed()).subject == "ann"
    assert both.verify(issuer.token("RS256", claims())).subject == "ann"


def test_the_previous_secret_still_verifies() -> None:
    rotated = verifier(jwt_secret_previous=OLD_SECRET)
    assert rotated.verify(signed(OLD_SECRET)).subject == rotated.verify(signed()).subject == "ann"
    with pytest.raises(TokenError):
        verifier().verify(signed(OLD_SECRET))


def test_a_token_that_nobody_signed_is_refused() -> None:
    for header in ({"alg": "none"}, {"alg": "None"}, {"alg": "NONE", "typ": "JWT"}, {"alg": ""}, {}):
        with pytest.raises(TokenError):
            verifier().verify(by_hand(header, claims()))


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_public_key_is_no_secret(issuer: Issuer) -> None:
    issuer.publish("RS256")
    public = issuer.keys["RS256"].public_key()
    forms = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        issuer.path.read_bytes(),
        b"",
    ]
    by_file = verifier(jwt_secret="", jwks_file=issuer.path)
    for form in forms:
        for key_id in ({}, {"kid": "RS256"}):
            header = {"alg": "HS256", "typ": "JWT"} | key_id
            unsigned = by_hand(header, claims()).removesuffix(".")
            signature = jwt.get_algorithm_by_name("HS256").sign(unsigned.encode(), form)
            forged = f"{unsigned}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"
            with pytest.raises(TokenError):
                by_file.verify(forged)


def test_each_key_verifies_its_own_algorithm_only(issuer: Issuer) -> None:
    issuer.publish("RS256", "ES256")
    by_file = verifier(jwt_secret="", jwks_file=issuer.path)
    for algorithm in ("RS384", "RS512", "PS256"):
        forged = jwt.encode(claims(), issuer.keys["RS256"], algorithm, headers={"kid": "RS256"})
        with pytest.raises(TokenError):
            by_file.verify(forged)
    with pytest.raises(TokenError):
        by_file.verify(issuer.token("RS256", claims(), key_id="ES256"))


def test_a_foreign_key_is_refused_whatever_name_it_takes(issuer: Issuer, tmp_path: Path) -> None:
    issuer.publish("RS256")
    stranger = Issuer(tmp_path / "strange.json")
    by_file = verifier(jwks_file=issuer.path)
    for key_id in ("RS256", "unheard-of", "", "../../dev/null", "RS256' OR 1=1", None):
        with pytest.raises(TokenError):
            by_file.verify(stranger.token("RS256", claims(), key_id=key_id))
    with pytest.raises(UnknownKey):
        by_file.verify(issuer.token("RS256", claims(), key_id="unheard-of"))
    with pytest.raises(TokenError):
        by_file.verify(signed(headers={"kid": "unheard-of"}))


def test_a_token_cannot_bring_its_own_key(issuer: Issuer, tmp_path: Path) -> None:
    issuer.publish("RS256")
    stranger = Issuer(tmp_path / "strange.json")
    stranger.publish("RS256")
    brought = {
        "jwk": stranger.document()["keys"][0],
        "jku": f"file://{stranger.path}",
        "x5u": "http://127.0.0.1:9/x",
        "x5c": ["MIIB"],
    }
    token = stranger.token("RS256", claims(), headers=brought)
    with pytest.raises(TokenError):
        verifier(jwks_file=issuer.path).verify(token)


def test_a_token_with_demands_that_we_do_not_know_is_refused() -> None:
    for headers in ({"crit": ["exp"], "exp": 1}, {"crit": ["b64"], "b64": False}, {"crit": []}):
        header = {"alg": "HS256"} | headers
        with pytest.raises(TokenError):
            verifier().verify(by_hand(header, claims(), b"x" * 32))


def test_a_changed_token_is_refused() -> None:
    head, body, signature = signed().split(".")
    other = signed(scope="orders:admin").split(".")
    for forged in (
        f"{head}.{other[1]}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}..{signature}",
    ):
        with pytest.raises(TokenError):
            verifier().verify(forged)


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": time() - 1},
        {"exp": -1},
        {"nbf": time() + 86_400},
        {"iat": time() + 86_400},
        {"iss": "another"},
        {"aud": "another"},
        {"aud": ["another", "one-more"]},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_token_for_another_time_or_place_is_refused(changed: dict[str, Any]) -> None:
    strict = verifier(jwt_issuer="ours", jwt_audience="tracking")
    ours = {"iss": "ours", "aud": ["tracking"]}
    assert strict.verify(signed(**ours)).subject == "ann"
    with pytest.raises(TokenError):
        strict.verify(signed(**(ours | changed)))


@pytest.mark.parametrize("missing", ["exp", "sub", "iss", "aud"])
def test_a_token_must_say_what_is_asked_for(missing: str) -> None:
    content = claims(iss="ours", aud="tracking")
    del content[missing]
    with pytest.raises(TokenError):
        verifier(jwt_issuer="ours", jwt_audience="tracking").verify(jwt.encode(content, SECRET, "HS256"))


def test_clocks_may_differ_by_the_leeway_but_a_token_ends_when_it_says() -> None:
    ahead = time() + 20
    assert verifier(jwt_leeway_seconds=30).verify(signed(nbf=ahead, iat=ahead))
    with pytest.raises(TokenError):
        verifier(jwt_leeway_seconds=10).verify(signed(nbf=ahead))
    with pytest.raises(TokenError, match="expired"):
        verifier(jwt_leeway_seconds=30).verify(signed(exp=time() - 0.01))


def test_an_oversized_token_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(jwt, "get_unverified_header", read.append)
    token = signed(padding="x" * MAX_TOKEN_BYTES)
    with pytest.raises(TokenError, match="too long"):
        verifier().verify(token)
    assert read == []


def test_a_refusal_holds_no_part_of_the_token() -> None:
    for token in (
        signed("another-secret-of-the-tests-0123456789"),
        signed(exp=1),
        "aaaa.bbbb.cccc",
        "x" * 9000,
    ):
        with pytest.raises(TokenError) as refusal:
            verifier().verify(token)
        assert not any(part in str(refusal.value) for part in token.split(".") if part)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_NAMES = ("sub", "source_type", "scope", "merchants", "orders", "exp", "nbf", "iat", "jti", "iss", "aud")


@given(st.dictionaries(st.sampled_from(_NAMES), _json, min_size=1, max_size=4))
def test_whatever_the_claims_are_there_is_a_caller_or_a_refusal(changed: dict[str, Any]) -> None:
    token = signed(**changed)
    with suppress(TokenError):
        verifier(jwt_issuer="ours", jwt_audience="tracking").verify(token)
    try:
        principal = verifier().verify(token)
    except TokenError:
        return
    assert principal.expires_at > time()
    assert principal.grant.merchants <= set(changed.get("merchants", CLAIMS["merchants"])) | {"*"}


@pytest.mark.parametrize(
    ("claim", "wrong"),
    [
        *(("sub", value) for value in (None, 7, "", "a\nb", "a\x85", "x" * 256, ["ann"], {"$gt": ""})),
        *(("source_type", value) for value in (None, "root", 1, ["driver"])),
        *(("scope", value) for value in (None, [["orders:admin"]], {"orders:admin": True}, True)),
        *(("merchants", value) for value in (None, "*", {"*": 1}, [1], [None], ["x" * 65], ["m"] * 1001)),
        *(("orders", value) for value in (None, "o-1", {"o-1": 1}, [1], [""], ["a/b"], ["o"] * 1001)),
        *(("exp", value) for value in (None, "9999999999", True, [], float("inf"), float("nan"), 10**400)),
        *(("exp", value) for value in (7_258_118_400, 1_790_000_000_000, 1e300)),
        *(("iat", value) for value in ("1", True, float("nan"), 10**400)),
        *(("nbf", value) for value in ("soon", [], float("nan"), float("inf"), 10**400)),
        *(("jti", value) for value in (1, ["t"], {})),
    ],
)
def test_a_claim_of_a_wrong_type_makes_the_token_invalid(claim: str, wrong: object) -> None:
    with pytest.raises(TokenError, match=f"^{claim}: .+\\.$"):
        verifier().verify(signed(**{claim: wrong}))
    with pytest.raises(
        TokenError, match=r"^The token is not valid\.$"
    ):  # whoever cannot sign is told nothing
        verifier().verify(signed(OLD_SECRET, **{claim: wrong}))


@pytest.mark.parametrize(
    ("changed", "settings", "told"),
    [
        ({"exp": 1}, {}, "exp: the token has expired."),
        ({"exp": (time() + 60) * 1000}, {}, "exp: .*year 2200.*milliseconds.*"),
        ({"nbf": time() + 86_400}, {}, "nbf: is in the future."),
        ({"iat": time() + 86_400}, {}, "iat: is in the future."),
        ({"iss": "https://other"}, {"jwt_issuer": "https://ours"}, "iss: is not the issuer .*"),
        ({}, {"jwt_issuer": "https://ours"}, "iss: is missing."),
        ({"aud": "other"}, {"jwt_audience": "tracking"}, "aud: is not this service."),
        ({}, {"jwt_audience": "tracking"}, "aud: is missing."),
    ],
)
def test_a_refusal_names_the_claim_once_the_signature_was_right(
    changed: dict[str, Any], settings: dict[str, str], told: str
) -> None:
    with pytest.raises(TokenError, match=f"^{told}$"):
        verifier(**settings).verify(signed(**changed))
    with pytest.raises(TokenError, match=r"^The token is not valid\.$"):
        verifier(**settings).verify(signed(OLD_SECRET, **changed))


@pytest.mark.parametrize(
    "subject",
    [
        "auth0|5f7c8ec7c33c6c004bbafe82",
        "google-oauth2|103547991597142817347",
        "ann.smith@example.com",
        "0oa1b2c3@clients",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "https://issuer.example/people/7",
        "=cmd|' /C calc'!A0",
        "Jörg \u202e",
        "x" * 255,
    ],
)
def test_a_subject_is_any_text_that_issuers_give(subject: str) -> None:
    assert verifier().verify(signed(sub=subject)).subject == subject


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: urlsafe_b64encode(raw).decode()))
def test_any_text_is_refused_as_a_token(text: str) -> None:
    for token in (text, f"{text}.{text}", f"{text}.{text}.{text}"):
        with pytest.raises(TokenError):
            verifier().verify(token)


@given(_json, _json)
def test_any_header_and_content_is_refused_without_a_signature(header: object, content: object) -> None:
    with pytest.raises(TokenError):
        verifier().verify(by_hand(header, content, b"x" * 32))


def test_deeply_nested_claims_are_refused() -> None:
    nested = b'{"sub":"ann","exp":9999999999,"a":' + b"[" * 2000 + b"]" * 2000 + b"}"
    with pytest.raises(TokenError):
        verifier().verify(jwt.PyJWS().encode(nested, SECRET, "HS256"))


def remembered(verify: Callable[[str], Principal], token: str) -> bool:
    """Whether the very same principal comes back, which is not made anew."""
    return verify(token) is verify(token)


def test_a_verified_token_is_remembered_until_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    one = verifier()
    token = signed(exp=time() + 60)
    assert remembered(one.verify, token)
    monkeypatch.setattr(tokens, "time", lambda: time() + 61)
    with pytest.raises(TokenError, match="expired"):
        one.verify(token)


def test_the_tokens_used_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "CACHED_TOKENS", 2)
    one = verifier()
    first, second, third = (signed(sub=f"s-{number}") for number in range(3))
    of_first, of_second = one.verify(first), one.verify(second)
    assert one.verify(first) is of_first
    one.verify(third)
    assert one.verify(first) is of_first
    assert one.verify(second) is not of_second


def test_the_remembered_texts_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    long = [signed(sub=f"s-{number}", padding="x" * 1000) for number in range(4)]
    monkeypatch.setattr(tokens, "CACHED_CHARACTERS", len(long[0]) * 5 // 2)
    one = verifier()
    principals = [one.verify(token) for token in long]
    assert [one.verify(token) is known for token, known in zip(long[2:], principals[2:], strict=True)] == [
        True,
        True,
    ]
    assert one.verify(long[0]) is not principals[0]


def test_what_was_refused_is_not_remembered() -> None:
    one = verifier()
    kept = signed()
    known = one.verify(kept)
    for number in range(100):
        with pytest.raises(TokenError):
            one.verify(signed("another-secret-of-the-tests-0123456789", sub=f"s-{number}"))
    assert one.verify(kept) is known


async def test_a_key_that_is_withdrawn_ends_the_tokens_that_it_signed(issuer: Issuer) -> None:
    issuer.publish("RS256", "ES256")
    settings = Settings(
        amqp_url="amqp://x", mongodb_url="mongodb://x", jwks_file=issuer.path, jwt_secret=SECRET
    )
    one = TokenVerifier(settings, KeyRing(settings, unknown_key_seconds=0))
    by_rsa, by_curve = issuer.token("RS256", claims()), issuer.token("ES256", claims())
    assert remembered(one.verify, by_rsa)
    issuer.publish("ES256")
    await one.ring.learn()
    with pytest.raises(UnknownKey):
        one.verify(by_rsa)
    assert one.verify(by_curve).subject == "ann"
