"""The reviewed list: which shapes of statements are known, and why MongoDB 8 takes each."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).parents[1] / "data/database_statements.toml"


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What the list says."""

    rules: dict[str, str]
    """What is documented, by a short name."""
    statements: dict[str, list[str]]
    """By shape, the names of the rules that it rests on."""


def read_list() -> Reviewed:
    """The list as it is stored."""
    found = tomllib.loads(LIST.read_text())
    return Reviewed(found["rules"], found["statements"])


def not_reviewed(shapes: Iterable[str], reviewed: Reviewed) -> list[str]:
    """Shapes without a line, or with one that names no rule."""
    return sorted(shape for shape in set(shapes) if not reviewed.statements.get(shape))
