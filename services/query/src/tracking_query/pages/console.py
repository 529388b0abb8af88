"""The operations console: static files, under a policy that lets the page speak to this stack alone."""

import gzip
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from starlette.responses import RedirectResponse

from tracking_query.api.negotiation import prefers_gzip
from tracking_query.pages.sign_in import provider_origins, sign_in_settings
from tracking_query.settings import QuerySettings
from tracking_shared.contracts.problems import ProblemError
from tracking_shared.contracts.timestamps import format_time, now
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.errors import SettingsError
from tracking_shared.http.service_app import JsonResponse
from tracking_shared.policy.claims import ClaimNames
from tracking_shared.settings import claim_names_of

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Kinds of files of a console; others in its folder are not served."""

_PARTS = (MEDIA_TYPES[".js"], MEDIA_TYPES[".css"])

FIRST_PAGE = "index.html"

MAX_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ConsoleFile:
    """One file, ready to be sent plain or compressed."""

    body: bytes
    packed: bytes
    media_type: str
    tag: str

    @property
    def is_document(self) -> bool:
        """True if a browser can open it by itself. On a script or a style the policies of documents have no
        effect, and on fifty files they weigh a tenth of the console.
        """
        return self.media_type not in _PARTS


def add_console(app: FastAPI, settings: QuerySettings, folder: Path, workflow: Workflow) -> None:
    """Adds `/console/`, its files, and its `config.json`. Not part of the API, so not in its description.

    Raises:
        SettingsError: the folder holds no console.
    """
    files = load_files(folder)
    headers = {
        "Cross-Origin-Resource-Policy": "same-origin",
        "Vary": "Accept-Encoding",
        "Cache-Control": "no-cache",
    }
    of_documents = {
        "Content-Security-Policy": content_policy(settings),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    }

    def answer(request: Request, file: ConsoleFile) -> Response:
        return _answer(request, file, headers | (of_documents if file.is_document else {}))

    @app.get("/console", include_in_schema=False)
    async def to_folder(request: Request) -> Response:
        # Relative, so that it is right behind a proxy that puts the console elsewhere.
        asked = request.scope["query_string"].decode("latin-1")
        return RedirectResponse(f"console/?{asked}" if asked else "console/", 308)

    @app.get("/console/config.json", include_in_schema=False)
    async def config() -> Response:
        return JsonResponse(
            configuration(settings, workflow), headers=headers | {"Cache-Control": "no-store"}
        )

    @app.get("/console/{name}", include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        found = files.get(name)
        if found is None:
            raise ProblemError("not-found", "There is no such file.")
        return answer(request, found)

    @app.get("/console/", include_in_schema=False)
    async def first_page(request: Request) -> Response:
        return answer(request, files[FIRST_PAGE])


def load_files(folder: Path) -> dict[str, ConsoleFile]:
    """The files of a console by name, read once: they do not change under a running service.

    Raises:
        SettingsError: the folder holds no console, or cannot be read.
    """
    try:
        paths = [path for path in folder.iterdir() if path.suffix in MEDIA_TYPES]
        files = {path.name: _load(path) for path in sorted(paths)}
    except OSError as error:
        raise SettingsError(f"CONSOLE_DIR {folder}: cannot be read: {error.strerror}") from error
    if FIRST_PAGE not in files:
        raise SettingsError(f"CONSOLE_DIR {folder}: holds no {FIRST_PAGE}")
    return files


def _load(path: Path) -> ConsoleFile:
    body = path.read_bytes()
    if len(body) > MAX_FILE_BYTES:
        raise SettingsError(f"CONSOLE_DIR: {path.name} has more than {MAX_FILE_BYTES} bytes")
    tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    return ConsoleFile(body, gzip.compress(body, mtime=0), MEDIA_TYPES[path.suffix], tag)


def content_policy(settings: QuerySettings) -> str:
    """Scripts and styles from this folder alone, and connections to the three services and to the provider of
    the sign-in alone. Of the notifier over HTTP, too: the page asks if it is there when it refuses a stream.

    Text never becomes markup, whatever a script does: trusted types are required and none are allowed.
    """
    notifier = settings.public_stream_url.replace("ws", "http", 1)
    connect = [
        "'self'",
        *filter(None, map(_origin, (settings.public_ingest_url, settings.public_stream_url, notifier))),
        *provider_origins(settings),
    ]
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            f"connect-src {' '.join(connect)}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def configuration(settings: QuerySettings, workflow: Workflow) -> dict[str, Any]:
    """The addresses of the services, and the time here: the page compares its own clock with it.

    `query` is relative to the console, which query itself serves.
    """
    names = claim_names_of(settings)
    document: dict[str, Any] = {
        "ingest": settings.public_ingest_url.rstrip("/") or None,
        "query": "..",
        "stream": settings.public_stream_url,
        "time": format_time(now()),
        "statuses": {
            "open": [status for status in workflow.transitions if workflow.is_active(status)],
            "final": [status for status in workflow.transitions if not workflow.is_active(status)],
        },
        "late_after_seconds": dict(workflow.late_after_seconds),
        "checkpoints": list(workflow.checkpoints),
        "claims": {
            "scope": names.scope,
            "merchants": names.merchants,
            "orders": names.orders,
            "all": [value for value, scopes in _values(names) if scopes & _ALL],
            "writing": [value for value, scopes in _values(names) if scopes & _WRITING],
            "correcting": [value for value, scopes in _values(names) if scopes & _CORRECTING],
            "managing": [value for value, scopes in _values(names) if scopes & _MANAGING],
        },
    }
    if settings.oidc_issuer:
        document["sign_in"] = sign_in_settings(settings)
    if settings.console_demo_token:
        document["token"] = settings.console_demo_token
    return document


_WRITING = frozenset({"orders:write", "orders:admin"})
_CORRECTING = frozenset({"orders:correct", "orders:admin"})
_MANAGING = frozenset({"webhooks:manage", "orders:admin"})
_ALL = frozenset({"orders:admin"})


def _values(names: ClaimNames) -> Iterable[tuple[str, frozenset[str]]]:
    """The values of the scope claim that are known, and what each stands for."""
    scopes = sorted(_WRITING | _CORRECTING | _MANAGING)
    return [*((scope, frozenset({scope})) for scope in scopes), *sorted(names.role_scopes.items())]


def _answer(request: Request, file: ConsoleFile, headers: dict[str, str]) -> Response:
    sent = headers | {"ETag": file.tag}
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=sent)
    if not prefers_gzip(request.headers.get("accept-encoding")):
        return Response(file.body, headers=sent, media_type=file.media_type)
    return Response(file.packed, headers=sent | {"Content-Encoding": "gzip"}, media_type=file.media_type)
