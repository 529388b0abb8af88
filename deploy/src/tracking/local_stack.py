"""What the commands need to know of the stack on this machine: where it listens, how to sign for it."""

import os
from pathlib import Path

from tracking.data_folder import DataFolder
from tracking.tokens import PLACES, mint_token, named_places

OWN_TOKEN_SECONDS = 24 * 3600
"""Longer than any load takes; a tail makes a fresh one whenever it connects."""


class NoStack(Exception):
    """There is no stack here to speak to, or no secret to sign with. The message says what to do."""


def address_of(data_dir: Path, name: str, otherwise: str = "say where with --url") -> str:
    """The address of `ingest`, `query` or `notifier`, as the ready file says it.

    `otherwise` is what a person can do who has no stack here.

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
    """The secret to sign with: `JWT_SECRET`, else that of the running stack, else the stored one.

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


def places_of(data_dir: Path) -> dict[str, str]:
    """Issuer and audience for tokens (`tokens.PLACES`): of the environment, else those of the running stack.

    Raises:
        FolderUnusable: the folder cannot be read.
    """
    running = DataFolder(data_dir).running_stack() or {}
    if os.environ.get("JWT_SECRET", "") not in ("", running.get("jwt_secret")):
        running = {}  # the secret is another installation's
    return named_places({name: running.get(name.lower(), "") for name in PLACES.values()} | os.environ)


def own_token(data_dir: Path, subject: str, scope: str) -> str:
    """A token for one of the commands themselves, for all merchants.

    Raises:
        NoStack, FolderUnusable: as `secret_of`.
    """
    return mint_token(
        secret_of(data_dir),
        subject=subject,
        scope=scope,
        merchants=["*"],
        ttl_seconds=OWN_TOKEN_SECONDS,
        places=places_of(data_dir),
    )
