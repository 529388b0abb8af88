"""Maps the column names of a file to ours. No I/O, no clock."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tracking.load.records import UnreadableFile, quoted

COLUMNS = (
    "op",
    "order_id",
    "merchant_id",
    "reference",
    "customer_name",
    "customer_contact_ref",
    "status",
    "occurred_at",
    "created_at",
    "updated_at",
    "due_at",
    "metadata",
    "expected_version",
    "update_id",
    "kind",
    "message",
    "reason",
    "eta",
)
"""Our columns."""

METADATA_PREFIX = "metadata."
"""`--map weight=metadata.weight` puts a column into one key of the metadata."""

IGNORED = ""
"""The target of a column that is not loaded."""

EXPORT_COLUMNS = frozenset(
    {"order_id", "merchant_id", "status", "version", "active", "created_at", "updated_at", "metadata"}
)
"""A file with all of these is an export of query. Its other columns are derived, and not loaded."""

_CHECKPOINT_COLUMNS = frozenset({"eta"})
"""Columns of ours that an export has, too, and that do not belong to a create."""

_BLANKS = re.compile(r"[\s_\-]+")


@dataclass(frozen=True, slots=True)
class Header:
    """The columns of one file."""

    names: Sequence[str]
    """The names in the file."""
    targets: Sequence[str]
    """Our column for each, `metadata.KEY`, or `IGNORED`."""
    is_export: bool = False

    @property
    def ignored(self) -> list[str]:
        """The names of the columns that are not loaded."""
        return [
            name for name, target in zip(self.names, self.targets, strict=True) if not target and name.strip()
        ]

    def name_of(self, target: str) -> str:
        """The name of one of our columns in the file; our name if the file lacks it."""
        return dict(zip(self.targets, self.names, strict=True)).get(target, target).strip()


@dataclass(slots=True)
class ColumnMap:
    """The mapping of `--map`: normalised name in the file → our column."""

    targets: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    """The names that some file has."""

    @property
    def ignores_others(self) -> bool:
        """True with `--map "*="`."""
        return self.targets.get("*") == IGNORED

    def target_of(self, name: str) -> str | None:
        """Our column for a name; None for an unknown one."""
        key = normalised(name)
        if key in self.targets:
            self.used.add(key)
            return self.targets[key]
        if key in COLUMNS:
            return key
        return IGNORED if not key or self.ignores_others else None

    def unused(self) -> list[str]:
        """The mapped names that no file has."""
        return sorted(set(self.targets) - self.used - {"*"})


def normalised(name: str) -> str:
    """A name in lower case with underscores: ` Order ID` becomes `order_id`."""
    return _BLANKS.sub("_", name.strip().strip("\ufeff").strip().casefold())


def parse_map(texts: Iterable[str]) -> ColumnMap:
    """Parses the values of `--map`, each `theirs=ours`.

    Raises:
        ValueError: one is not of this form, or names a column that is not ours.
    """
    found = ColumnMap()
    for text in texts:
        theirs, equals, ours = (part.strip() for part in text.rpartition("="))
        is_key = ours.startswith(METADATA_PREFIX) and ours != METADATA_PREFIX
        if not equals or not theirs or (theirs == "*" and ours):
            raise ValueError(f"write theirs=ours, not {quoted(text)}")
        if ours and not is_key and ours not in COLUMNS:
            raise ValueError(f"{quoted(ours)} is none of ours: {', '.join(COLUMNS)}, metadata.KEY")
        if normalised(theirs) in found.targets:
            raise ValueError(f"{quoted(theirs)} is mapped twice")
        found.targets[normalised(theirs)] = ours
    return found


def read_header(name: str, names: Sequence[str], column_map: ColumnMap) -> Header:
    """Maps the column names of the file `name`.

    Raises:
        UnreadableFile: a column is duplicate or unknown, or none is ours.
    """
    is_export = {normalised(each) for each in names} >= EXPORT_COLUMNS
    targets = [column_map.target_of(each) for each in names]
    if is_export:
        targets = [IGNORED if target in _CHECKPOINT_COLUMNS else target or IGNORED for target in targets]
    keys = [
        normalised(each) if target is None else target for each, target in zip(names, targets, strict=True)
    ]
    twice = [key for key, number in Counter(filter(None, keys)).items() if number > 1]
    if twice:
        raise UnreadableFile(f"{name}: two columns for {_listed(twice)}; it has {_listed(names)}")
    unknown = [each.strip() for each, target in zip(names, targets, strict=True) if target is None]
    if unknown:
        raise UnreadableFile(_unknown(name, unknown, names))
    header = Header(list(names), [target or IGNORED for target in targets], is_export)
    if not {"order_id", "merchant_id"} & set(header.targets):
        raise UnreadableFile(
            f"{name}: no column order_id; it has {_listed(names)}. Name it with --map theirs=order_id"
        )
    return header


def _unknown(name: str, unknown: Sequence[str], names: Sequence[str]) -> str:
    if len(unknown) == len([each for each in names if each.strip()]):
        return (
            f"{name}: the first line names no column of ours; it has {_listed(names)}."
            f" Ours are {', '.join(COLUMNS)}; name theirs with --map theirs=ours"
        )
    return (
        f"{name}: unknown columns {_listed(unknown)}. Say what they are with --map theirs=ours,"
        " leave one out with --map theirs= or all of them with --map '*='."
        f" Ours are {', '.join(COLUMNS)}, metadata.KEY"
    )


def _listed(names: Iterable[str]) -> str:
    shown = [quoted(name) for name in names]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")
