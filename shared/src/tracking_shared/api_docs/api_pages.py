"""`/openapi.json`, and `/docs`: the same for people, as a page that needs nothing from outside."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path

import orjson
from fastapi import FastAPI, Response
from fastapi.responses import FileResponse

from tracking_shared.api_docs.schemas import Document
from tracking_shared.contracts.problems import ProblemError

_STYLE = "swagger-ui.css"
_PROGRAM = "swagger-ui-bundle.js"
_START = "start.js"

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # the arrows of Swagger UI's style sheet
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The page runs scripts of this service alone, none of them inline, and speaks to this service alone."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>%(title)s API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/%(style)s">
<script src="docs/%(program)s" defer></script>
<script src="docs/%(start)s" defer></script>
</head>
<body>
<div id="page"></div>
<noscript>This page needs scripts; the description itself is <a href="openapi.json">here</a>.</noscript>
</body>
</html>
"""

_START_PROGRAM = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  validatorUrl: null,
  queryConfigEnabled: false,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
});
"""
"""No validator elsewhere, no document from elsewhere; the token that is typed in is not kept."""

_CACHED = {"Cache-Control": "private, max-age=3600"}


def add_api_pages(app: FastAPI, document: Callable[[], Document]) -> None:
    """Adds the two to `app`. `document` is called once, when it is first asked for."""

    @cache
    def encoded() -> bytes:
        return orjson.dumps(document())

    @app.get("/openapi.json", include_in_schema=False)
    async def get_document() -> Response:
        return Response(encoded(), media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    async def get_page() -> Response:
        names = {"title": app.title, "style": _STYLE, "program": _PROGRAM, "start": _START}
        headers = {"Content-Security-Policy": _POLICY}
        return Response(_PAGE % names, headers=headers, media_type="text/html")

    @app.get("/docs/{name}", include_in_schema=False)
    async def get_part(name: str) -> Response:
        if name == _START:
            return Response(_START_PROGRAM, headers=_CACHED, media_type="text/javascript")
        if name not in (_STYLE, _PROGRAM):
            raise ProblemError("not-found", "There is no such file.")
        return FileResponse(_packaged(name), headers=_CACHED)


def _packaged(name: str) -> Path:
    return Path(str(files("fastapi_offline") / "static" / name))
