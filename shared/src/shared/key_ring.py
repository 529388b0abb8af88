"""The keys as a process knows them: the secrets of its settings, and a key set from a file or a URL that is
kept current, so that keys are changed without a restart.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, Request

from shared.keys import MAX_JWKS_BYTES, InvalidKeys, Key, KeySet, parse_jwks, secret_keys
from shared.settings import Settings, SettingsError

log = logging.getLogger(__name__)

FETCH_SECONDS = 5.0
"""How long the issuer may take to answer, in all."""

UNKNOWN_KEY_SECONDS = 10.0
"""How often the set is fetched because a token names a key that it lacks. Anybody can send such tokens."""

RETRY_SECONDS = 5.0
"""After a failure."""

FILE_LOOK_SECONDS = 2.0
"""How often the file is looked at: one call of `stat`."""

_CHUNK_BYTES = 16 * 1024


class KeysUnavailable(Exception):
    """The key set has not been read once since the start: tokens can be neither taken nor refused."""


class KeyRing:
    """Knows the keys. Without a key set in the settings there is nothing to keep current."""

    def __init__(self, settings: Settings, *, unknown_key_seconds: float = UNKNOWN_KEY_SECONDS) -> None:
        """Reads the file, if the set is one.

        Raises:
            SettingsError: that cannot be read as a key set.
        """
        self._secrets = secret_keys(settings.jwt_secret, settings.jwt_secret_previous)
        self._url = settings.jwks_url
        self._file = settings.jwks_file
        self._refresh_seconds = settings.jwks_refresh_seconds
        self._unknown_key_seconds = unknown_key_seconds
        self._published: tuple[Key, ...] | None = None
        self._learned_at = -unknown_key_seconds
        self._loading: asyncio.Task[bool] | None = None
        self._file_state: tuple[int, int, int] | None = None
        self.keys = KeySet(self._secrets)
        """At the newest reading that succeeded."""
        if self._file is not None:
            self._read_at_start(self._file)

    @property
    def is_complete(self) -> bool:
        """Whether all keys are known: false until a set at a URL was read once."""
        return not self._url or self._published is not None

    @property
    def learns(self) -> bool:
        """Whether an unknown key may become known by looking again."""
        return bool(self._url) or self._file is not None

    async def check(self) -> None:
        """Raises `KeysUnavailable` until the keys are known."""
        if not self.is_complete:
            raise KeysUnavailable("the key set has not been read yet")

    async def learn(self) -> None:
        """Looks whether there are new keys now, at most every `UNKNOWN_KEY_SECONDS`; joins a look under way.
        Returns after `FETCH_SECONDS` at the latest.
        """
        if self._loading is None and time.monotonic() - self._learned_at < self._unknown_key_seconds:
            return
        self._learned_at = time.monotonic()
        await asyncio.wait({self._load()}, timeout=FETCH_SECONDS)

    async def follow(self) -> None:
        """Keeps the keys current until cancelled. What is known holds while the set cannot be read."""
        while self.learns:
            succeeded = await asyncio.shield(self._load())
            if self._file is not None:
                await asyncio.sleep(FILE_LOOK_SECONDS)
            else:
                await asyncio.sleep(self._refresh_seconds if succeeded else RETRY_SECONDS)

    def _load(self) -> asyncio.Task[bool]:
        # One at a time, and not the caller's own: whoever asked first may go while others wait.
        if self._loading is None:
            self._loading = asyncio.create_task(self._load_once())
            self._loading.add_done_callback(self._loaded)
        return self._loading

    def _loaded(self, _task: asyncio.Task[bool]) -> None:
        self._loading = None

    async def _load_once(self) -> bool:
        try:
            if self._file is not None:
                state = await asyncio.to_thread(_state_of, self._file)
                if state == self._file_state:
                    return True
                published = parse_jwks(await asyncio.to_thread(_content_of, self._file))
                self._file_state = state
            else:
                published = parse_jwks(await asyncio.to_thread(fetch, self._url))
        except (InvalidKeys, OSError, HTTPException) as error:
            log.warning("keys as they were known before: the set cannot be read: %s", _reason(error))
            return False
        self._take(published)
        return True

    def _take(self, published: tuple[Key, ...]) -> None:
        if published != self._published:
            names = sorted(str(key.key_id) for key in published)
            log.info("key set read: %s", ", ".join(names))
            self._published = published
            self.keys = KeySet(self._secrets + published)

    def _read_at_start(self, path: Path) -> None:
        try:
            state = _state_of(path)
            self._take(parse_jwks(_content_of(path)))
            self._file_state = state
        except (InvalidKeys, OSError) as error:
            raise SettingsError(f"JWKS_FILE {path}: {_reason(error)}") from None


def _state_of(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _content_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_JWKS_BYTES + 1)


def _reason(error: Exception) -> str:
    if isinstance(error, URLError):
        return f"no answer ({type(error.reason).__name__})"
    return str(error) or type(error).__name__


def fetch(url: str, *, seconds: float = FETCH_SECONDS, clock: Callable[[], float] = time.monotonic) -> bytes:
    """The body at `url`. Blocks; no read takes longer than `seconds`, and none is begun after them.

    Raises:
        InvalidKeys: another answer than 200, longer than the bound, or too slow.
        OSError, HTTPException: no answer.
    """
    deadline = clock() + seconds
    # With what is needed only. Nothing in it follows redirects: the keys come from where the operator said.
    opener = OpenerDirector()
    for handler in (HTTPHandler(), HTTPSHandler(context=ssl.create_default_context())):
        opener.add_handler(handler)
    request = Request(url, headers={"Accept": "application/json"})  # noqa: S310 - the settings take http(s) only
    with opener.open(request, timeout=seconds) as response:
        if response.status != 200:
            raise InvalidKeys(f"the answer is {response.status}")
        body = bytearray()
        while chunk := response.read1(_CHUNK_BYTES):
            body += chunk
            if len(body) > MAX_JWKS_BYTES:
                raise InvalidKeys(f"more than {MAX_JWKS_BYTES} bytes")
            if clock() > deadline:
                raise InvalidKeys(f"not read within {seconds:g} s")
        return bytes(body)
