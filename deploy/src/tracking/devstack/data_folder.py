"""The data folder of a stack (lock, secret, logs, broker and database), and the access of commands to it."""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracking.devstack.tokens import ISSUER_SETTINGS, issuer_claims_in, mint_token
from tracking.errors import CommandError

DEFAULT_FOLDER = Path(".tracking")
"""In the current folder."""

MAX_LOG_BYTES = 16 * 1024 * 1024
"""A larger log file is rotated. One older file is kept, so a log takes up to twice this."""

OWN_TOKEN_SECONDS = 24 * 3600
"""The life of the commands' own tokens. A load takes less; `tail` makes a new one for each connection."""

_SECRET_BYTES = 32


class NoStack(CommandError):
    """No stack runs here, or there is no secret to sign with. The message says what to do."""


class FolderUnusable(CommandError):
    """The data folder cannot be written, or another stack runs on it."""


class DataFolder:
    """The paths and small files of a data folder. `open_data_folder` locks it for a stack."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.broker = self.path / "broker"
        self.database = self.path / "database"
        self._secret = self.path / "jwt-secret"
        self._stack = self.path / "stack.json"

    def jwt_secret(self) -> str:
        """The secret for tokens: `JWT_SECRET` of the environment, else the stored one, created if missing.

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
        """The stored secret, or None before the first start of a stack.

        Raises:
            FolderUnusable: it cannot be read.
        """
        return _read(self._secret)

    def running_stack(self) -> dict[str, Any] | None:
        """The ready file of the running stack, or None if none runs.

        Raises:
            FolderUnusable: it cannot be read.
        """
        text = _read(self._stack)
        document: dict[str, Any] | None = json.loads(text) if text else None
        return document

    def announce(self, document: dict[str, Any], ready_file: Path | None) -> None:
        """Writes the ready file, in this folder and to the path that the user chose.

        Raises:
            FolderUnusable: one of the files cannot be written.
        """
        text = json.dumps(document, indent=2) + "\n"
        for path in filter(None, (self._stack, ready_file)):
            write_private(path, text)

    def retract(self, ready_file: Path | None) -> None:
        """Removes the ready files."""
        for path in filter(None, (self._stack, ready_file)):
            path.unlink(missing_ok=True)

    def wipe(self) -> None:
        """Removes all files of a stack, and nothing else."""
        for folder in (self.logs, self.broker, self.database):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self._secret, self._stack):
            file.unlink(missing_ok=True)

    def rotate_logs(self, larger_than_bytes: int = 0) -> None:
        """Moves the content of each larger log file to `<name>.log.1`, which it replaces."""
        for log in self.logs.glob("*.log"):
            if log.stat().st_size > larger_than_bytes:
                shutil.copyfile(log, log.with_suffix(".log.1"))
                os.truncate(log, 0)  # its writer appends, so it continues at the new end


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FolderUnusable(f"{path}: cannot be read: {error.strerror}") from error


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, atomically.

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
    """Opens the folder, creates it if missing, and locks it while the body runs. `fresh`: empties it first.

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
        folder.rotate_logs()
        yield folder


def address_of(data_dir: Path, name: str, otherwise: str = "say where with --url") -> str:
    """The address of `ingest`, `query` or `notifier` in the ready file.

    `otherwise` is advice for a user without a stack.

    Raises:
        NoStack: none runs on this folder.
        FolderUnusable: the folder cannot be read.
    """
    folder = DataFolder(data_dir)
    running = folder.running_stack()
    if running is None:
        raise NoStack(f"no stack runs in {folder.path}: start one (tracking up), or {otherwise}")
    return str(running[name])


def server_url(data_dir: Path, variable: str) -> str:
    """`AMQP_URL` or `MONGODB_URL` of the environment, else that of the running stack.

    Raises:
        NoStack, FolderUnusable: as `address_of`.
    """
    return os.environ.get(variable) or address_of(data_dir, variable.lower(), f"set {variable}")


def secret_of(data_dir: Path) -> str:
    """The signing secret: `JWT_SECRET`, else that of the running stack, else the stored one.

    Raises:
        NoStack: there is none.
        FolderUnusable: the folder cannot be read.
    """
    folder = DataFolder(data_dir)
    running = folder.running_stack() or {}
    secret = os.environ.get("JWT_SECRET") or running.get("jwt_secret") or folder.stored_secret()
    if not secret:
        raise NoStack(
            f"no secret to sign with: set JWT_SECRET, or start a stack in {folder.path} (tracking up)"
        )
    return str(secret)


def issuer_claims_of(data_dir: Path) -> dict[str, str]:
    """Issuer and audience for tokens: those of the environment, else those of the running stack.

    Raises:
        FolderUnusable: the folder cannot be read.
    """
    running = DataFolder(data_dir).running_stack() or {}
    if os.environ.get("JWT_SECRET", "") not in ("", running.get("jwt_secret")):
        running = {}  # the secret belongs to another installation
    settings = {name: running.get(name.lower(), "") for name in ISSUER_SETTINGS.values()}
    return issuer_claims_in(settings | os.environ)


def own_token(data_dir: Path, subject: str, scope: str) -> str:
    """Makes a token for a command's own requests, for all merchants.

    Raises:
        NoStack, FolderUnusable: as `secret_of`.
    """
    return mint_token(
        secret_of(data_dir),
        subject=subject,
        scope=scope,
        merchants=["*"],
        ttl_seconds=OWN_TOKEN_SECONDS,
        issuer_claims=issuer_claims_of(data_dir),
    )
