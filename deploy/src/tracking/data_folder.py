"""The folder of one stack: its lock, its secret, its logs, and the data of its broker and database."""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DEFAULT_FOLDER = Path(".tracking")
"""Under the current folder."""

MAX_LOG_BYTES = 16 * 1024 * 1024
"""A log file that grows past this is moved aside; one older one is kept, so a log takes twice this."""

_SECRET_BYTES = 32


class FolderUnusable(Exception):
    """The data folder cannot be written, or another stack runs on it."""


class DataFolder:
    """Paths and small files. Use `open_data_folder` to hold the lock while a stack runs."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.broker = self.path / "broker"
        self.database = self.path / "database"
        self._secret = self.path / "jwt-secret"
        self._stack = self.path / "stack.json"

    def jwt_secret(self) -> str:
        """The secret of the tokens: `JWT_SECRET` of the environment, else the stored one, made where missing.

        Raises:
            FolderUnusable: it cannot be stored.
        """
        given = os.environ.get("JWT_SECRET")
        if given:
            return given
        stored = self.stored_secret()
        if stored is None:
            stored = secrets.token_urlsafe(_SECRET_BYTES)
            write_private(self._secret, stored)
        return stored

    def stored_secret(self) -> str | None:
        """The stored secret, or None if no stack ever ran here.

        Raises:
            FolderUnusable: it cannot be read.
        """
        return _read(self._secret)

    def running_stack(self) -> dict[str, Any] | None:
        """What the running stack says of itself (as in the ready file), or None if none runs.

        Raises:
            FolderUnusable: it cannot be read.
        """
        text = _read(self._stack)
        document: dict[str, Any] | None = json.loads(text) if text else None
        return document

    def announce(self, document: dict[str, Any], ready_file: Path | None) -> None:
        """Writes what the stack says of itself, here and to the file that its starter asked for.

        Raises:
            FolderUnusable: one of the files cannot be written.
        """
        text = json.dumps(document, indent=2) + "\n"
        for path in filter(None, (self._stack, ready_file)):
            write_private(path, text)

    def retract(self, ready_file: Path | None) -> None:
        """Removes what `announce` wrote."""
        for path in filter(None, (self._stack, ready_file)):
            path.unlink(missing_ok=True)

    def wipe(self) -> None:
        """Removes everything that a stack put here, and nothing else."""
        for folder in (self.logs, self.broker, self.database):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self._secret, self._stack):
            file.unlink(missing_ok=True)

    def set_logs_aside(self, larger_than_bytes: int = 0) -> None:
        """Moves the content of each larger log file to `<name>.log.1`, in place of the one there."""
        for log in self.logs.glob("*.log"):
            if log.stat().st_size > larger_than_bytes:
                shutil.copyfile(log, log.with_suffix(".log.1"))
                os.truncate(log, 0)  # its writer appends, and goes on at the new end


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FolderUnusable(f"{path}: cannot be read: {error.strerror}") from error


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, in one step for those who look at it.

    Raises:
        FolderUnusable: the folder cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        draft.replace(path)
    except OSError as error:
        raise FolderUnusable(f"{path}: cannot be written: {error.strerror}") from error


@contextmanager
def open_data_folder(path: Path, *, fresh: bool = False) -> Iterator[DataFolder]:
    """The folder, made where missing, locked while the body runs; emptied first if `fresh`.

    Raises:
        FolderUnusable: it cannot be written, or another stack runs on it.
    """
    folder = DataFolder(path)
    try:
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder.path / "lock").open("a+")
    except OSError as error:
        raise FolderUnusable(f"{folder.path}: cannot be used: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise FolderUnusable(
                f"{folder.path}: another stack runs on this folder (process {lock.read().strip()})"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        if fresh:
            folder.wipe()
        folder.logs.mkdir(exist_ok=True)
        folder.set_logs_aside()
        yield folder
