"""Which encoding a text file has, by its first bytes and by whether its lines are UTF-8. Pure."""

import codecs
from collections.abc import Iterable

SAMPLE_BYTES = 4096

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

NAMES = {
    "utf-8": "UTF-8",
    "utf-8-sig": "UTF-8",
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "cp1252": "Windows-1252",
}
"""The encodings that are recognised, as people call them."""

_NOT_TEXT = (
    (b"PK\x03\x04", "a spreadsheet (.xlsx, .ods) or a ZIP archive", 'save the sheet as CSV ("CSV UTF-8")'),
    (b"PK\x05\x06", "an empty ZIP archive", 'save the sheet as CSV ("CSV UTF-8")'),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet (.xls)", 'save the sheet as CSV ("CSV UTF-8")'),
    (b"%PDF", "a PDF", "export the table as CSV"),
    (b"BZh", "packed with bzip2", "unpack it, or pack it with gzip"),
    (b"\xfd7zXZ", "packed with xz", "unpack it, or pack it with gzip"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", "unpack it, or pack it with gzip"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it, or pack the file with gzip"),
    (b"PAR1", "a Parquet file", "export CSV or NDJSON instead"),
)


class UnknownEncoding(ValueError):
    """The bytes are no text in an encoding that is known. The message says why, for a person."""


def by_first_bytes(sample: bytes) -> str | None:
    """The encoding that a byte order mark or the zeros of UTF-16 tell; None: the lines must be looked at.

    Raises:
        UnknownEncoding: it is no text: a spreadsheet, an archive, …
    """
    for magic, what, remedy in _NOT_TEXT:
        if sample.startswith(magic):
            raise UnknownEncoding(f"is {what}, not a text file: {remedy}")
    for mark, encoding in _BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return encoding
    if b"\0" in sample:
        return _by_zeros(sample)
    return None


def _by_zeros(sample: bytes) -> str:
    # Of western text in UTF-16 nearly every other byte is zero.
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    half = len(sample) // 2
    if odd > half * 0.4 > even:
        return "utf-16-le"
    if even > half * 0.4 > odd:
        return "utf-16-be"
    raise UnknownEncoding("is not a text file (it has zero bytes)")


def by_lines(lines: Iterable[bytes]) -> str:
    """UTF-8 where all lines are, Windows-1252 where none with more than ASCII is.

    Raises:
        UnknownEncoding: some lines are UTF-8 and others are not.
    """
    proper, first_other = 0, 0
    for number, line in enumerate(lines, 1):
        if line.isascii():
            continue
        try:
            line.decode()
            proper += 1
        except UnicodeDecodeError:
            first_other = first_other or number
    if proper and first_other:
        raise UnknownEncoding(
            f"is UTF-8 in some lines and not in others (line {first_other}): write it in one encoding,"
            " or insist with --encoding utf-8 or --encoding windows-1252"
        )
    return "cp1252" if first_other else "utf-8"
