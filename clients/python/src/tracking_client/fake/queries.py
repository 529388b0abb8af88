"""Query parameters and cursors. Pure."""

from collections.abc import Iterable

from tracking_client.fake.problems import Refusal, invalid


def flag(name: str, text: str) -> bool:
    """The value of a query parameter that is `true` or `false`.

    Raises:
        Refusal: `validation-failed`.
    """
    if text not in ("true", "false"):
        raise invalid(f"/query/{name}", "must be true or false")
    return text == "true"


def number(name: str, text: str, most: int) -> int:
    """The value of a query parameter that is a number from 1 to `most`.

    Raises:
        Refusal: `validation-failed`.
    """
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise invalid(f"/query/{name}", f"must be a whole number from 1 to {most}")
    return int(text)


def position_of(cursor: str | None, newest: int) -> int:
    """The position behind which a reader goes on.

    Raises:
        Refusal: `invalid-cursor`.
    """
    if not cursor:
        return 0
    kind, _, number = cursor.partition("-")
    if kind != "fake" or not number.isdecimal() or int(number) > newest:
        raise Refusal("invalid-cursor", "The cursor is not one of this server.")
    return int(number)


def cursor_at(position: int) -> str:
    """The cursor of a position."""
    return f"fake-{position}"


def check_parameters(given: Iterable[str], known: tuple[str, ...]) -> None:
    """Raises `Refusal` for a query parameter that the fake does not have."""
    for name in given:
        if name not in known:
            raise Refusal("not-in-the-fake", f"The fake server does not have the parameter {name}.")
