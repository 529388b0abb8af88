"""How a table of text is separated: guessed from its header. Pure."""

import csv
from collections.abc import Callable

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""Those that are tried, as people call them."""

_DECLARATION = "sep="


def declared_delimiter(line: str) -> str | None:
    """What a first line `sep=;` says, as spreadsheets write and read it; None: it is no such line."""
    text = line.strip("\r\n").strip('"').lower()
    if text.startswith(_DECLARATION) and len(text) == len(_DECLARATION) + 1:
        return text[-1]
    return None


def guess_delimiter(header: str, is_known: Callable[[str], bool]) -> str:
    """The delimiter with which most names of the header are known; of equal ones, that with most columns.

    Without any, a comma.
    """

    def merit(delimiter: str) -> tuple[int, int]:
        names = split_header(header, delimiter)
        return sum(map(is_known, names)), len(names)

    return max(DELIMITERS, key=merit)


def split_header(header: str, delimiter: str) -> list[str]:
    """The names of one line, or none where its quoting is broken or goes on in the next."""
    try:
        return next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error:
        return []
