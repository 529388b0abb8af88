"""Opens files as lines of text: unpacked and decoded. Standard input and pipes are copied first."""

import codecs
import gzip
import io
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

from tracking.load.records import UnreadableFile
from tracking.terminal import printable

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
"""The encodings that are recognised, with their names."""

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
    """The bytes are not text in a known encoding. The message says why."""


def by_first_bytes(sample: bytes) -> str | None:
    """Detects an encoding by a byte order mark or the zero bytes of UTF-16; None: `by_lines` decides.

    Raises:
        UnknownEncoding: it is not text: a spreadsheet, an archive, …
    """
    for magic, kind, remedy in _NOT_TEXT:
        if sample.startswith(magic):
            raise UnknownEncoding(f"is {kind}, not a text file: {remedy}")
    for mark, encoding in _BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return encoding
    if b"\0" in sample:
        return _by_zeros(sample)
    return None


def _by_zeros(sample: bytes) -> str:
    # In western text in UTF-16, nearly every other byte is zero.
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    half = len(sample) // 2
    if odd > half * 0.4 > even:
        return "utf-16-le"
    if even > half * 0.4 > odd:
        return "utf-16-be"
    raise UnknownEncoding("is not a text file (it has zero bytes)")


def by_lines(lines: Iterable[bytes]) -> str:
    """Detects UTF-8 if all lines are valid, and Windows-1252 if no line with more than ASCII is.

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


MAX_LINE_CHARACTERS = 64 * 1024
"""Equal to the largest operation in bytes that the services accept."""

MAX_LINE_BYTES = 4 * MAX_LINE_CHARACTERS
"""The same limit in the longest UTF-8 encoding."""

COPY_MEMORY_BYTES = 16 * 1024**2
"""The part of a copied pipe in memory; a longer one goes to a temporary file."""

STDIN = Path("-")

_GZIP = b"\x1f\x8b"

BROKEN = (OSError, EOFError, zlib.error)
"""The errors of reading a file, gzipped or not."""


class Source:
    """A file that is being read."""

    def __init__(self, name: str, text: IO[str], encoding: str) -> None:
        self.name = name
        """Safe for a terminal."""
        self.encoding = encoding
        """Its usual name."""
        self.line = 0
        """The number of the last line read, from 1."""
        self._text = text

    def __iter__(self) -> Iterator[str]:
        """The lines with their ends.

        Raises:
            UnreadableFile: a line is too long or not of the encoding, or the compression is broken.
        """
        try:
            while line := self._text.readline(MAX_LINE_CHARACTERS + 1):
                self.line += 1
                if len(line) > MAX_LINE_CHARACTERS:
                    raise UnreadableFile(f"{self.location}: longer than {MAX_LINE_CHARACTERS:,} characters")
                yield line
        except UnicodeError:
            raise UnreadableFile(f"{self.name}: not {self.encoding} after line {self.line}") from None
        except BROKEN as error:
            raise UnreadableFile(f"{self.name}: {error}") from None

    def first_character(self) -> str:
        """The first character that is not blank; "" in an empty file. Call it before reading lines."""
        for line in self:
            if line.strip():
                break
        else:
            line = ""
        self._text.seek(0)
        self.line = 0
        return line.strip()[:1]

    @property
    def location(self) -> str:
        """File and line."""
        return f"{self.name}:{self.line}"


def refuse_missing(path: Path) -> None:
    """Raises `UnreadableFile` if there is no such file, or it is a folder."""
    if path != STDIN and (path.is_dir() or not path.exists()):
        reason = "is a directory" if path.is_dir() else "there is no such file"
        raise UnreadableFile(f"{printable(str(path))}: {reason}")


@contextmanager
def open_source(path: Path, encoding: str = "") -> Iterator[Source]:
    """Opens a file, or standard input for `-`, and unpacks it if it is gzipped.

    `encoding`: its encoding; "" = detected.

    Raises:
        UnreadableFile: it cannot be opened, or is not text.
    """
    name = "standard input" if path == STDIN else printable(str(path))
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(_seekable(path))
            data = stack.enter_context(_unpacked(raw, path, name))
            found = _codec(encoding) if encoding else _find_encoding(data)
            data.seek(0)
        except UnknownEncoding as error:
            raise UnreadableFile(f"{name} {error}") from None
        except BROKEN as error:
            raise UnreadableFile(f"{name}: {getattr(error, 'strerror', None) or error}") from None
        # With newline="" the lines keep their ends, as the csv module requires.
        text = stack.enter_context(io.TextIOWrapper(data, encoding=found, newline=""))
        yield Source(name, text, NAMES.get(found, found))


def _codec(encoding: str) -> str:
    try:
        # Also refuses codecs that are not for text, such as hex.
        name = codecs.lookup(io.TextIOWrapper(io.BytesIO(), encoding=encoding).encoding).name
    except LookupError:
        raise UnreadableFile(f"--encoding {printable(encoding)}: there is no such encoding") from None
    return "utf-8-sig" if name == "utf-8" else name


@contextmanager
def _seekable(path: Path) -> Iterator[IO[bytes]]:
    if path != STDIN and path.is_file():
        with path.open("rb") as file:
            yield file
        return
    with tempfile.SpooledTemporaryFile(COPY_MEMORY_BYTES) as copy:
        if path == STDIN:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        else:
            with path.open("rb") as pipe:
                shutil.copyfileobj(pipe, copy)
        copy.seek(0)
        yield cast(IO[bytes], copy)


@contextmanager
def _unpacked(raw: IO[bytes], path: Path, name: str) -> Iterator[IO[bytes]]:
    is_packed = raw.read(len(_GZIP)) == _GZIP
    raw.seek(0)
    if is_packed:
        with gzip.open(raw) as data:
            yield cast(IO[bytes], data)
    elif path.suffix == ".gz":
        raise UnreadableFile(f"{name}: its name ends in .gz, but it is not gzipped")
    else:
        yield raw


def _find_encoding(data: IO[bytes]) -> str:
    found = by_first_bytes(data.read(SAMPLE_BYTES))
    if found is not None:
        return found
    data.seek(0)
    return by_lines(iter(lambda: data.readline(MAX_LINE_BYTES), b""))
