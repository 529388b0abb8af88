"""What each release has written: documents and messages, as files in tests/data/releases.

One folder for each release, one file for each collection (`documents/orders.ndjson`) and for each kind of
message (`messages/commands.ndjson`), one document or message a line, as extended JSON. `make corpus` adds
that of a release (`make_release_corpus`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bson.json_util import RELAXED_JSON_OPTIONS, dumps, loads

FOLDER = Path(__file__).parent / "data" / "releases"
OPTIONS = RELAXED_JSON_OPTIONS.with_options(tz_aware=True)

MESSAGE_KINDS = ("commands", "events", "replies", "dead_letters")
"""What travels over the broker."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was on the broker."""

    body: bytes
    headers: Mapping[str, Any]
    content_type: str | None


@dataclass(frozen=True, slots=True)
class Corpus:
    """What one release has written."""

    release: str
    documents: Mapping[str, Sequence[dict[str, Any]]]
    """By collection."""
    messages: Mapping[str, Sequence[Message]]
    """By kind."""


def read_corpora() -> list[Corpus]:
    """Those of all releases, by name."""
    return [_read(folder) for folder in sorted(FOLDER.iterdir()) if folder.is_dir()]


def _read(folder: Path) -> Corpus:
    documents = {path.stem: _lines(path) for path in sorted(folder.glob("documents/*.ndjson"))}
    messages = {
        path.stem: [
            Message(line["body"].encode(), line["headers"], line["content_type"]) for line in _lines(path)
        ]
        for path in sorted(folder.glob("messages/*.ndjson"))
    }
    return Corpus(folder.name, documents, messages)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [loads(line, json_options=OPTIONS) for line in path.read_text().splitlines()]


def write_corpus(corpus: Corpus) -> Path:
    """Writes the files of a release, which must have none yet. Returns their folder."""
    folder = FOLDER / corpus.release
    (folder / "documents").mkdir(parents=True)
    (folder / "messages").mkdir()
    for name, documents in corpus.documents.items():
        _write(folder / "documents" / f"{name}.ndjson", documents)
    for name, messages in corpus.messages.items():
        lines = [
            {"content_type": one.content_type, "headers": dict(one.headers), "body": one.body.decode()}
            for one in messages
        ]
        _write(folder / "messages" / f"{name}.ndjson", lines)
    return folder


def _write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(dumps(line, json_options=OPTIONS) + "\n" for line in lines))
