"""The addresses of broker and database: what can be wrong with them is told at the start, without the secrets
that are in them.
"""

import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from shared.broker_addresses import single_host_urls
from shared.settings import Settings, SettingsError

_AMQP_FILES = ("cafile", "certfile", "keyfile")
_DATABASE_FILES = ("tlscafile", "tlscertificatekeyfile", "tlscrlfile")
_UNVERIFIED = frozenset(
    {"no_verify_ssl", "tlsinsecure", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames"}
)
"""Options under which anybody between could pretend to be the server."""

_WEAKENING = {
    "readpreference": ("primary", "every decision is read from the primary"),
    "readpreferencetags": ("", "every decision is read from the primary"),
    "maxstalenessseconds": ("-1", "every decision is read from the primary"),
    "w": ("majority", "every write is confirmed by a majority"),
    "journal": ("true", "every write is confirmed from the journal"),
    "j": ("true", "every write is confirmed from the journal"),
    "fsync": ("", "every write is confirmed by a majority"),
    "readconcernlevel": ("majority", "every read is of what a majority has"),
    "retrywrites": ("true", "a write is repeated where a primary steps down"),
}
"""Options of the database under which reads miss what was acknowledged, or acknowledged writes may be lost.
With each the one value that says what is done anyway, and why there is no other."""

_CREDENTIALS = re.compile(r"(://)[^/@\s]*@")
_TOKEN = re.compile(r"\beyJ[\w-]*\.[\w-]*\.[\w-]*")


class BadAddress(ValueError):
    """Not an address that can be used. The message holds nothing of it."""


def check_addresses(settings: Settings) -> None:
    """Refuses addresses of broker and database that cannot be used, or not safely.

    Raises:
        SettingsError: what is wrong with one of them, and nothing of it.
    """
    for name, url, check in (
        ("AMQP_URL", settings.amqp_url, check_broker_url),
        ("MONGODB_URL", settings.mongodb_url, check_database_url),
    ):
        try:
            check(url)
        except BadAddress as error:
            raise SettingsError(f"{name}: {error}") from None


def check_broker_url(url: str) -> None:
    """Checks an `AMQP_URL`: its form, each host, that the files which it names are there, that TLS verifies.

    Raises:
        BadAddress: what is wrong.
    """
    parts, *_ = [_broker_parts(host_url) for host_url in single_host_urls(url)]
    options = _options(parts.query)  # the same for all hosts
    _check_options(options, _AMQP_FILES)
    if parts.scheme == "amqp" and options.keys() & set(_AMQP_FILES):
        raise BadAddress("names certificates, which need amqps://")


def _broker_parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is none
    except ValueError:
        raise BadAddress("is not a URL; percent-encode what is special in user and password") from None
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise BadAddress("must begin with amqp:// or amqps:// and a host, or hosts with commas between")
    return parts


def check_database_url(url: str) -> None:
    """Checks a `MONGODB_URL`, in the same way.

    Raises:
        BadAddress: what is wrong.
    """
    if not url.startswith(("mongodb://", "mongodb+srv://")):
        raise BadAddress("must begin with mongodb:// or mongodb+srv://")
    query = url.partition("?")[2].replace(";", "&")  # the driver takes either between options
    _check_options(_options(query), _DATABASE_FILES)
    _check_strength(query)
    if url.startswith("mongodb+srv://"):
        return  # to read it, the driver asks the name service
    try:
        parse_uri(url, warn=False)
    except (PyMongoError, ValueError) as error:
        raise BadAddress(
            f"the driver cannot read it ({type(error).__name__}); percent-encode what is special in user and"
            " password"
        ) from None


def _options(query: str) -> dict[str, str]:
    return {name.lower(): value for name, value in parse_qsl(query, keep_blank_values=True)}


def _check_options(options: dict[str, str], files: tuple[str, ...]) -> None:
    unverified = sorted(name for name in _UNVERIFIED & options.keys() if options[name] not in ("0", "false"))
    if unverified:
        raise BadAddress(
            f"{unverified[0]}: TLS that does not verify protects from nobody; name a CA file instead"
        )
    for name in files:
        if name in options and not _is_readable(Path(options[name])):
            raise BadAddress(f"{name}: there is no such file, or it may not be read")


def _check_strength(query: str) -> None:
    for name, value in parse_qsl(query, keep_blank_values=True):
        needed, reason = _WEAKENING.get(name.lower(), (value, ""))
        if value.lower() != needed.lower():
            raise BadAddress(f"{name}: leave it out; {reason}, in all services alike")


def _is_readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def without_secrets(text: str) -> str:
    """`text` with the user and password of every URL in it, and every token, masked.

    For what others write (drivers, mostly); our own lines hold none to begin with.
    """
    if "://" in text:
        text = _CREDENTIALS.sub(r"\1***@", text)
    return _TOKEN.sub("***", text) if "eyJ" in text else text
