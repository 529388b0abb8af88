"""Keys that verify tokens: read from JWKS documents and secrets, and fetched again when they change."""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, Request

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tracking_shared.errors import SettingsError, TrackingError
from tracking_shared.settings import Settings

log = logging.getLogger(__name__)

MAX_JWKS_BYTES = 256 * 1024
MAX_KEYS = 64
"""Issuers publish two to five."""

MIN_RSA_BITS = 2048
"""RFC 7518, section 3.3."""

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

_ALGORITHMS: Mapping[tuple[str, str | None], tuple[str, tuple[str, ...]]] = {
    ("RSA", None): ("RS256", ("RS256",)),
    ("EC", "P-256"): ("ES256", ("ES256",)),
    ("OKP", "Ed25519"): ("EdDSA", ("EdDSA", "Ed25519")),
}
"""By `kty` and `crv`: the algorithm that such a key is for, and what it may say itself (`alg`)."""

PUBLIC_KEY_ALGORITHMS = frozenset(algorithm for algorithm, _ in _ALGORITHMS.values())


class InvalidKeys(TrackingError):
    """The document is not a set of keys that tokens could be verified with."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key, and the one algorithm that it verifies."""

    algorithm: str
    key_id: str | None
    """`kid`. A secret has none."""
    material: PublicKey | bytes


@dataclass(frozen=True, slots=True)
class KeySet:
    """All keys that are good now."""

    keys: tuple[Key, ...]

    def candidates(self, algorithm: object, key_id: str | None) -> Sequence[Key]:
        """The keys that may have signed a token whose header says this. Empty: it is none of ours.

        A token that names a key is verified with that key alone. One that names none is verified with a
        secret, or with the only public key of its algorithm.
        """
        fitting = [key for key in self.keys if key.algorithm == algorithm]
        named = [key for key in fitting if key.key_id == key_id]
        if key_id is None and not named and len(fitting) == 1:
            return fitting
        return named


def secret_keys(*secrets: str) -> tuple[Key, ...]:
    """Keys for HS256; "" is none."""
    return tuple(Key("HS256", None, secret.encode()) for secret in secrets if secret)


def parse_jwks(body: bytes) -> tuple[Key, ...]:
    """The public keys of a JSON Web Key Set (RFC 7517) that are for verifying RS256, ES256 or EdDSA.

    Others in it are left out: of other types and uses, too weak, or symmetric (a set is public, so that
    would be no secret).

    Raises:
        InvalidKeys: not such a set, longer than the bounds, or without a usable key.
    """
    if len(body) > MAX_JWKS_BYTES:
        raise InvalidKeys(f"more than {MAX_JWKS_BYTES} bytes")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidKeys("not JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise InvalidKeys(f"no list of at most {MAX_KEYS} keys")
    keys = tuple(_usable(entries))
    if not keys:
        raise InvalidKeys("none of its keys can be used")
    return keys


def _usable(entries: Sequence[object]) -> Iterator[Key]:
    for number, entry in enumerate(entries):
        key = _key_of(entry) if isinstance(entry, dict) else "not an object"
        if isinstance(key, Key):
            yield key
        else:
            log.warning("key %d of the set is not used: %s", number, key)


def _key_of(entry: dict[str, Any]) -> Key | str:
    """The key, or why it is not used."""
    objection = _objection(entry)
    if objection is not None:
        return objection
    algorithm, _ = _ALGORITHMS[entry["kty"], entry.get("crv")]
    try:
        material = jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return "it cannot be read"
    if isinstance(material, RSAPublicKey) and material.key_size < MIN_RSA_BITS:
        return f"it has less than {MIN_RSA_BITS} bits"
    if isinstance(material, EllipticCurvePublicKey) and not isinstance(material.curve, SECP256R1):
        return "it is of another curve"
    return Key(algorithm, entry.get("kid"), material)


def _objection(entry: dict[str, Any]) -> str | None:
    kind = (entry.get("kty"), entry.get("crv"))
    if not all(isinstance(part, str | None) for part in kind) or kind not in _ALGORITHMS:
        return "it is not for RS256, ES256 or EdDSA"
    if "d" in entry:
        return "it is a private key, which belongs to the issuer alone"
    if not isinstance(entry.get("kid"), str | None):
        return "its kid is not text"
    if entry.get("use", "sig") != "sig" or "verify" not in _listed(entry.get("key_ops", ["verify"])):
        return "it is for another use"
    if entry.get("alg") is not None and entry["alg"] not in _ALGORITHMS[kind][1]:  # type: ignore[index] # seen above
        return "it is for another algorithm"
    return None


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


FETCH_SECONDS = 5.0
"""The time limit of an answer of the issuer, in all."""

UNKNOWN_KEY_SECONDS = 10.0
"""Between two fetches of the set because a token names a key that it lacks. Anybody can send such tokens."""

RETRY_SECONDS = 5.0
"""After a failure."""

FILE_LOOK_SECONDS = 2.0
"""Between two looks at the file: one call of `stat`."""

_CHUNK_BYTES = 16 * 1024


class KeysUnavailable(TrackingError):
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
        """True if all keys are known: false until a set at a URL was read once."""
        return not self._url or self._published is not None

    @property
    def learns(self) -> bool:
        """True if an unknown key may become known by looking again."""
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
