"""Files as lines of text: opened, unpacked, decoded. Standard input and pipes are copied to disk first."""

import codecs
import gzip
import io
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

from tracking.load.encodings import NAMES, SAMPLE_BYTES, UnknownEncoding, by_first_bytes, by_lines
from tracking.load.faults import UnreadableFile
from tracking.terminal_text import printable

MAX_LINE_CHARACTERS = 64 * 1024
"""As many as the services take bytes as one operation."""

MAX_LINE_BYTES = 4 * MAX_LINE_CHARACTERS
"""The same in the longest that UTF-8 makes of it."""

COPY_MEMORY_BYTES = 16 * 1024**2
"""Of a copied pipe; what is longer goes to a temporary file."""

STDIN = Path("-")

_GZIP = b"\x1f\x8b"

BROKEN = (OSError, EOFError, zlib.error)
"""What reading a file raises, packed or not."""


class Source:
    """A file that is being read."""

    def __init__(self, name: str, text: IO[str], encoding: str) -> None:
        self.name = name
        """For people; safe for a terminal."""
        self.encoding = encoding
        """As people call it."""
        self.line = 0
        """The number of the line that was read last, from 1."""
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
                    raise UnreadableFile(f"{self.place}: longer than {MAX_LINE_CHARACTERS:,} characters")
                yield line
        except UnicodeError:
            raise UnreadableFile(f"{self.name}: not {self.encoding} after line {self.line}") from None
        except BROKEN as error:
            raise UnreadableFile(f"{self.name}: {error}") from None

    def first_character(self) -> str:
        """The first one that is not blank; "" in an empty file. To be asked before the lines are read."""
        for line in self:
            if line.strip():
                break
        else:
            line = ""
        self._text.seek(0)
        self.line = 0
        return line.strip()[:1]

    @property
    def place(self) -> str:
        """File and line, for a person."""
        return f"{self.name}:{self.line}"


def refuse_missing(path: Path) -> None:
    """Raises `UnreadableFile` if there is no such file, or it is a folder."""
    if path != STDIN and (path.is_dir() or not path.exists()):
        what = "is a directory" if path.is_dir() else "there is no such file"
        raise UnreadableFile(f"{printable(str(path))}: {what}")


@contextmanager
def open_source(path: Path, encoding: str = "") -> Iterator[Source]:
    """The file, `-` for standard input. What is gzipped is unpacked.

    `encoding` names the one to read it in; "" = found out.

    Raises:
        UnreadableFile: it cannot be opened, or is no text.
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
        # With newline="" the lines keep their ends, as the csv module wants them.
        text = stack.enter_context(io.TextIOWrapper(data, encoding=found, newline=""))
        yield Source(name, text, NAMES.get(found, found))


def _codec(encoding: str) -> str:
    try:
        # Also refuses what is a codec, but none of text, such as hex.
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
