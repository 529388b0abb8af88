"""Terminals whose encoding has not all characters: what is written there instead of the missing ones."""

import codecs

REPLACEMENT = "tracking.replacement"
"""The name of the error handler: what tables and charts are drawn with has a stand-in of the same width, any
other character becomes its escape.
"""

_STAND_INS = str.maketrans("█▓░▏─━→·…", "#=-|--> ~")


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end].translate(_STAND_INS)
    return missing.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error(REPLACEMENT, _replace)
