"""The error catalogue: one page for each problem type, for people and for programs. No token is needed.

The `type` of every problem, whichever service it comes from, is the path of its page here.
"""

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response

from tracking_query.api.negotiation import preferred_type
from tracking_shared.contracts.problems import CATALOGUE, MEMBERS, REPEATING, ProblemError, problem_example

JSON_TYPE = "application/json"
HTML_TYPE = "text/html"

_STYLE = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #566273; --line: #d8dee6; --paper: #fff;
  --wash: #f4f6f9 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8edf3; --soft: #a3b0c0; --line: #33404f; --paper: #131a22; --wash: #1c2530 }
}
body { margin: 0 auto; padding: 2.5rem 1.25rem; max-width: 44rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 system-ui, sans-serif }
h1 { margin: .25rem 0 0; font-size: 1.6rem; line-height: 1.25 }
h2 { margin: 2rem 0 .25rem; font-size: 1rem }
p { margin: .25rem 0 }
a { color: inherit; text-underline-offset: .2em }
nav, .slug, dd, td.soft { color: var(--soft) }
code, pre { font: .875rem/1.5 ui-monospace, monospace }
pre { padding: 1rem; overflow-x: auto; background: var(--wash); border: 1px solid var(--line);
  border-radius: .5rem }
dl { margin: 0 } dt { margin-top: .5rem } dd { margin: 0 0 0 1.25rem }
table { width: 100%; margin-top: 1.5rem; border-collapse: collapse }
td { padding: .5rem .75rem .5rem 0; border-top: 1px solid var(--line); vertical-align: top }
td:first-child { font-variant-numeric: tabular-nums }
"""

_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_HEADERS = {
    "Cache-Control": "public, max-age=3600",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    ),
    "Vary": "Accept",
}


@dataclass(frozen=True, slots=True)
class Page:
    """One page in both its forms."""

    html: bytes
    json: bytes


def add_problem_pages(app: FastAPI) -> None:
    """Adds `/problems` and `/problems/{slug}`. Not part of the API, so not in its description."""
    overview = _page("Problems", _overview_html(), overview_document())
    pages = {slug: _page(kind.title, _html(slug), page_document(slug)) for slug, kind in CATALOGUE.items()}

    @app.get("/problems", include_in_schema=False)
    async def get_overview(request: Request) -> Response:
        return _answer(request, overview)

    @app.get("/problems/{slug}", include_in_schema=False)
    async def get_page(request: Request, slug: str) -> Response:
        page = pages.get(slug)
        if page is None:
            raise ProblemError("not-found", "There is no such problem.")
        return _answer(request, page)


def overview_document() -> dict[str, Any]:
    """All problems, in the order of their statuses."""
    items = [
        {"type": f"/problems/{slug}", "status": kind.status, "title": kind.title}
        for slug, kind in CATALOGUE.items()
    ]
    return {"problems": items}


def page_document(slug: str) -> dict[str, Any]:
    """The page as data. `repeat`: `useless` or `later`."""
    kind = CATALOGUE[slug]
    return {
        "type": f"/problems/{slug}",
        "status": kind.status,
        "title": kind.title,
        "meaning": kind.meaning,
        "advice": kind.advice,
        "repeat": kind.repeat,
        "repeating": REPEATING[kind.repeat],
        "members": {name: MEMBERS[name].meaning for name in kind.members},
        "example": problem_example(slug),
    }


def _page(title: str, body: str, document: Mapping[str, Any]) -> Page:
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )
    return Page(html.encode(), orjson.dumps(document))


def _overview_html() -> str:
    rows = "".join(
        f'<tr><td>{kind.status}</td><td><a href="problems/{slug}"><code>{slug}</code></a></td>'
        f'<td class="soft">{escape(kind.title)}</td></tr>'
        for slug, kind in CATALOGUE.items()
    )
    what = "<h1>Problems</h1><p>What the services answer when they refuse.</p>"
    return f"<main>{what}<table>{rows}</table></main>"


def _html(slug: str) -> str:
    page = page_document(slug)
    example = orjson.dumps(page["example"], option=orjson.OPT_INDENT_2).decode()
    parts = [
        f'<nav><a href="../problems">All problems</a></nav><main><p class="slug">{page["status"]}'
        f" <code>{slug}</code></p><h1>{escape(page['title'])}</h1>",
        _section("What it means", page["meaning"]),
        _section("What to do", page["advice"]),
        _section("Is repeating safe?", page["repeating"]),
    ]
    if page["members"]:
        rows = (
            f"<dt><code>{name}</code></dt><dd>{_prose(text)}</dd>" for name, text in page["members"].items()
        )
        parts.append(f"<h2>What it carries</h2><dl>{''.join(rows)}</dl>")
    return "".join([*parts, f"<h2>Example</h2><pre>{escape(example)}</pre></main>"])


def _section(heading: str, text: str) -> str:
    return f"<h2>{heading}</h2><p>{_prose(text)}</p>"


def _prose(text: str) -> str:
    """Escaped, with what stands between backquotes set as code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if number % 2 else piece for number, piece in enumerate(pieces))


def _answer(request: Request, page: Page) -> Response:
    accept = ",".join(request.headers.getlist("accept")) or None
    chosen = preferred_type(accept, (JSON_TYPE, HTML_TYPE))
    if chosen is None:
        offered = [JSON_TYPE, HTML_TYPE]
        raise ProblemError("not-acceptable", f"There is {' and '.join(offered)}.", offered=offered)
    if chosen == HTML_TYPE:
        return Response(page.html, headers=_HEADERS, media_type=f"{HTML_TYPE}; charset=utf-8")
    return Response(page.json, headers=_HEADERS, media_type=JSON_TYPE)
