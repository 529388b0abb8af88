"""Claims: what a token says of its holder, and where. Pure.

Issuers have names of their own for what we call `scope`, `merchants`, `orders` and `source_type`. Settings
say which: the name of a claim, or a path into nested ones with `/` between, such as `realm_access/roles`.
A name that holds `/` itself, such as `https://example.com/merchants`, is first looked up as it is.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictStr, ValidationError

from tracking_shared.contracts.access import MAX_GRANTED, SourceType
from tracking_shared.contracts.identifiers import SUBJECT_RULE, Identifier, Subject
from tracking_shared.contracts.strict_json import refuse_ambiguous

MAX_NAME_CHARACTERS = 255

MAX_ROLES = 1000
"""In a map from roles to scopes."""

END_OF_TIME = 7_258_118_400
"""2200-01-01 in seconds since 1970. An `exp` from there on is a mistake: milliseconds are the year 55,000."""

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""One scope (RFC 6749, section 3.3)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_SEPARATORS = re.compile(r"[\s,]+")

_ABSENT = object()


class BadClaimSetting(ValueError):
    """A setting names no claim, or is no map from roles to scopes. The message names the setting."""


class ClaimFault(ValueError):
    """A claim breaks a rule. The message names both, and holds nothing of the claim's value."""

    def __init__(self, claim: str, rule: str) -> None:
        super().__init__(f"{claim}: {rule}")


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """The names of the claims of tokens."""

    scope: tuple[str, ...] = ("scope", "scp")
    """The first one that is there counts."""
    merchants: str = "merchants"
    orders: str = "orders"
    source_type: str = "source_type"
    joined: frozenset[str] = frozenset()
    """The fields whose texts may hold several, with blanks or commas between: no identifier holds either. One
    text may stand for the list, too."""
    role_scopes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Scopes that a value of the scope claim stands for, beside itself."""


class Claims(BaseModel):
    """The claims of a token that are read, under our own names."""

    # Strict: a claim of another type than the contract's is a token of somebody else's.
    model_config = ConfigDict(strict=True)

    sub: Subject
    source_type: SourceType = "system"
    scope: str | list[str] = ""
    merchants: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=MAX_GRANTED)] = []
    orders: Annotated[list[Identifier], Field(max_length=MAX_GRANTED)] = []
    """Narrows if it is there, also if it is empty. null is refused: its issuer may have meant to narrow."""
    exp: FiniteFloat
    jti: StrictStr | None = None
    iat: FiniteFloat | None = None

    @property
    def narrows(self) -> bool:
        """True if the token has a list of orders, were it empty."""
        return "orders" in self.model_fields_set

    def scopes(self, role_scopes: Mapping[str, frozenset[str]]) -> frozenset[str]:
        """The values of the scope claim, and what those that are roles stand for."""
        # A value of a list is not split: a role may have blanks in its name.
        values = self.scope.split() if isinstance(self.scope, str) else self.scope
        return frozenset(values).union(*(role_scopes.get(value, ()) for value in values))


_SECONDS = "must be a number of seconds since 1970"

_RULES: Mapping[str, str] = {
    "sub": SUBJECT_RULE,
    "source_type": "must be driver, system, operator or customer",
    "scope": "must be a text with spaces between, or a list of texts",
    "merchants": f"must be a list of at most {MAX_GRANTED:,} texts of at most 64 characters",
    "orders": f"must be a list of at most {MAX_GRANTED:,} order ids",
    "exp": _SECONDS,
    "iat": _SECONDS,
    "jti": "must be a text",
}

_READ_AS_THEY_ARE = ("sub", "exp", "jti", "iat")


def read_claims(document: Mapping[str, Any], names: ClaimNames) -> Claims:
    """The claims of a token whose signature was right.

    Raises:
        ClaimFault: one of them breaks a rule.
    """
    found = {name: document[name] for name in _READ_AS_THEY_ARE if name in document}
    read_from = {name: name for name in _RULES}
    for name in ("scope", "merchants", "orders", "source_type"):
        for claim in _claims_for(name, names):
            value = _value_at(document, claim)
            if value is not _ABSENT:
                found[name] = _listed(value) if name in names.joined else value
                read_from[name] = claim
                break
    try:
        claims_read = Claims.model_validate(found)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = str(fault["loc"][0])
        rule = "is missing" if fault["type"] == "missing" else _RULES[name]
        raise ClaimFault(read_from[name], rule) from None
    if claims_read.exp >= END_OF_TIME:
        raise ClaimFault("exp", "is beyond the year 2200; it counts seconds, this looks like milliseconds")
    return claims_read


def _claims_for(name: str, names: ClaimNames) -> Sequence[str]:
    claims = getattr(names, name)
    return (claims,) if isinstance(claims, str) else claims


def _value_at(document: Mapping[str, Any], name: str) -> Any:
    if name in document:
        return document[name]
    value: Any = document
    for part in name.split("/"):
        if not isinstance(value, dict):
            # Not the same as absent: its issuer may have meant to narrow.
            raise ClaimFault(name, "must lead through objects")
        if part not in value:
            return _ABSENT
        value = value[part]
    return value


def _listed(value: Any) -> Any:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return value
    return [part for text in texts for part in _SEPARATORS.split(text) if part]


def claim_names(
    *, scope: str = "", merchants: str = "", orders: str = "", source_type: str = "", role_scopes: str = ""
) -> ClaimNames:
    """The names that the settings give; "" is the default.

    Raises:
        BadClaimSetting: one of them cannot be used.
    """
    given = {"scope": scope, "merchants": merchants, "orders": orders, "source_type": source_type}
    for name, text in given.items():
        _check_name(f"CLAIM_{name.upper()}", text)
    standard = ClaimNames()
    return ClaimNames(
        scope=(scope,) if scope else standard.scope,
        merchants=merchants or standard.merchants,
        orders=orders or standard.orders,
        source_type=source_type or standard.source_type,
        joined=frozenset(name for name in ("merchants", "orders") if given[name]),
        role_scopes=_parse_role_scopes(role_scopes) if role_scopes else {},
    )


def _check_name(setting: str, text: str) -> None:
    if len(text) > MAX_NAME_CHARACTERS or _CONTROL.search(text) or text != text.strip():
        raise BadClaimSetting(f"{setting}: write the name of a claim, without blanks around it")
    if text and "://" not in text and "" in text.split("/"):
        raise BadClaimSetting(f"{setting}: a part of the path is empty; write it like realm_access/roles")


def _parse_role_scopes(text: str) -> dict[str, frozenset[str]]:
    try:
        document = orjson.loads(text)
        refuse_ambiguous(text.encode())
    except ValueError:
        raise _bad_roles("not JSON, or a role is there twice") from None
    if not isinstance(document, dict) or len(document) > MAX_ROLES:
        raise _bad_roles(f"not an object of at most {MAX_ROLES:,} roles")
    if not all(role and isinstance(scopes, str) for role, scopes in document.items()):
        raise _bad_roles("a role is empty, or its scopes are not one text")
    roles = {role: frozenset(scopes.split()) for role, scopes in document.items()}
    if not all(scopes and all(map(_SCOPE.fullmatch, scopes)) for scopes in roles.values()):
        raise _bad_roles("a role has no scopes, or they hold what no scope may hold")
    return roles


def _bad_roles(reason: str) -> BadClaimSetting:
    return BadClaimSetting(
        f'ROLE_SCOPES: {reason}; write it like {{"dispatcher": "orders:read orders:write"}}'
    )
