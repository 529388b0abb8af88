"""Which claims of an issuer become which of ours, by settings, and which settings are refused."""

from contextlib import suppress
from time import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking_shared.errors import SettingsError
from tracking_shared.policy.claims import BadClaimSetting, ClaimFault, Claims, claim_names, read_claims
from tracking_shared.settings import Settings, claim_names_of

NAMESPACED = "https://example.com/merchants"


def read(document: dict[str, Any], **settings: str) -> Claims:
    return read_claims({"sub": "ann", "exp": time() + 60} | document, claim_names(**settings))


def scopes(document: dict[str, Any], **settings: str) -> frozenset[str]:
    names = claim_names(**settings)
    return read(document, **settings).scopes(names.role_scopes)


@pytest.mark.parametrize(
    ("document", "setting"),
    [
        ({"scope": "orders:read orders:write"}, ""),
        ({"scope": ["orders:read", "orders:write"]}, ""),
        ({"scp": ["orders:read", "orders:write"]}, ""),
        ({"scp": "orders:read orders:write"}, ""),
        ({"scope": "orders:read orders:write", "scp": ["orders:admin"]}, ""),
        ({"permissions": ["orders:read", "orders:write"], "scope": "orders:admin"}, "permissions"),
        ({"realm_access": {"roles": ["orders:read", "orders:write"]}}, "realm_access/roles"),
        ({"a/b": "orders:read orders:write", "a": {"b": "orders:admin"}}, "a/b"),
        ({"https://x.example/roles": ["orders:read", "orders:write"]}, "https://x.example/roles"),
    ],
)
def test_scopes_are_read_where_the_issuer_has_them(document: dict[str, Any], setting: str) -> None:
    assert scopes(document, scope=setting) == {"orders:read", "orders:write"}


@pytest.mark.parametrize("setting", ["", "realm_access/roles", "nothing"])
def test_a_token_without_the_claim_has_no_scope(setting: str) -> None:
    assert scopes({"realm_access": {}}, scope=setting) == frozenset()


def test_roles_stand_for_scopes_and_unknown_ones_for_nothing() -> None:
    roles = '{"dispatcher": "orders:read orders:write", "Fleet manager": "orders:admin"}'
    document = {"roles": ["dispatcher", "offline_access", "Team orders:admin"]}
    got = scopes(document, scope="roles", role_scopes=roles)
    assert got & {"orders:read", "orders:write", "orders:admin"} == {"orders:read", "orders:write"}
    assert "orders:admin" in scopes({"roles": ["Fleet manager"]}, scope="roles", role_scopes=roles)
    assert "orders:read" in scopes({"scope": "openid dispatcher"}, role_scopes=roles)


def test_merchants_orders_and_source_type_are_read_by_name_and_path() -> None:
    document = {
        NAMESPACED: ["acme"],
        "merchants": ["another"],
        "extra": {"orders": ["o-1"], "kind": "driver"},
    }
    claims = read(document, merchants=NAMESPACED, orders="extra/orders", source_type="extra/kind")
    assert (claims.merchants, claims.orders, claims.source_type) == (["acme"], ["o-1"], "driver")
    assert claims.narrows


@pytest.mark.parametrize("text", ["acme bravo", "acme,bravo", " acme, bravo ", "acme\tbravo"])
def test_one_text_is_a_list_where_the_claim_was_named(text: str) -> None:
    assert read({"custom:merchants": text}, merchants="custom:merchants").merchants == ["acme", "bravo"]
    assert read({"extn.merchants": [text]}, merchants="extn.merchants").merchants == ["acme", "bravo"]
    assert read({"o": text}, orders="o").orders == ["acme", "bravo"]
    with pytest.raises(ClaimFault, match=r"^merchants: "):
        read({"merchants": text})
    with pytest.raises(ClaimFault, match=r"^orders: "):
        read({"orders": text})


def test_an_empty_text_of_orders_narrows_to_none() -> None:
    claims = read({"o": ""}, orders="o")
    assert claims.narrows
    assert claims.orders == []


@given(st.none() | st.booleans() | st.integers() | st.dictionaries(st.text(), st.text()) | st.just([["o"]]))
def test_a_claim_of_orders_of_a_wrong_type_is_refused_and_never_taken_for_none(wrong: object) -> None:
    for document in ({"o": {"list": wrong}}, {"o/list": wrong}):
        with pytest.raises(ClaimFault, match=r"^o/list: "):
            read(document, orders="o/list")


@pytest.mark.parametrize("way", [None, "text", ["list"], 7])
def test_a_path_through_what_is_no_object_is_refused(way: object) -> None:
    for setting in ("orders", "merchants", "scope", "source_type"):
        with pytest.raises(ClaimFault, match=r"^o/list: "):
            read({"o": way}, **{setting: "o/list"})


def test_a_token_that_has_no_list_of_orders_is_not_narrowed() -> None:
    assert not read({"orders": ["another's"], "o": {}}, orders="o/list").narrows


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("claim_scope", " scope", "CLAIM_SCOPE"),
        ("claim_merchants", "a\nb", "CLAIM_MERCHANTS"),
        ("claim_orders", "realm_access/", "CLAIM_ORDERS"),
        ("claim_orders", "/", "CLAIM_ORDERS"),
        ("claim_source_type", "x" * 256, "CLAIM_SOURCE_TYPE"),
        ("role_scopes", "dispatcher=orders:read", "ROLE_SCOPES"),
        ("role_scopes", "[]", "ROLE_SCOPES"),
        ("role_scopes", '{"a": ["orders:read"]}', "ROLE_SCOPES"),
        ("role_scopes", '{"a": ""}', "ROLE_SCOPES"),
        ("role_scopes", '{"": "orders:read"}', "ROLE_SCOPES"),
        ("role_scopes", '{"a": "orders:read", "a": "orders:admin"}', "ROLE_SCOPES"),
        ("role_scopes", '{"a": "orders\\u00a0read \\"x\\""}', "ROLE_SCOPES"),
        ("role_scopes", '{"a": {"b": "c"}}', "ROLE_SCOPES"),
    ],
)
def test_settings_that_name_no_claim_are_refused_in_one_line(name: str, text: str, told: str) -> None:
    standard = {"amqp_url": "amqp://x", "mongodb_url": "mongodb://x", "jwt_secret": "s" * 32}
    with pytest.raises(SettingsError, match=f"^{told}: [^\n]+$"):
        claim_names_of(Settings(**(standard | {name: text})))  # type: ignore[arg-type]


@given(st.text())
def test_any_text_is_a_map_of_roles_or_is_refused(text: str) -> None:
    with suppress(BadClaimSetting):
        claim_names(role_scopes=text)
