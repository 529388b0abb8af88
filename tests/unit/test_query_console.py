"""The console's files: what is served of a folder, under which policy, and what the page is told."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
import pytest
from pages import ROOT
from pydantic import ValidationError
from starlette.datastructures import Headers

from tracking_query.pages.console import MAX_FILE_BYTES, add_console, content_policy, load_files
from tracking_query.settings import QuerySettings
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.errors import SettingsError
from tracking_shared.http.service_app import install_plumbing, service_app

CONSOLE = ROOT / "web" / "console"
WEIGHT_BYTES = 150 * 1024
WITH_A_PROVIDER = ("oauth4webapi.js", "provider.js", "provider_words.js")
"""Files that a page loads only to sign in with a provider."""
PROVIDER_WEIGHT_BYTES = 25 * 1024

REQUIRED: Mapping[str, Any] = {
    "amqp_url": "amqp://unused",
    "mongodb_url": "mongodb://unused",
    "jwt_secret": "a-secret-of-the-console-tests-0123456789",
}
PUBLIC = {
    "public_ingest_url": "https://ingest.example:8443/",
    "public_stream_url": "wss://stream.example/v1/stream",
    "console_dir": CONSOLE,
}


def settings(**given: Any) -> QuerySettings:
    return QuerySettings.model_validate({**REQUIRED, **PUBLIC, **given})


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Headers
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


async def get(path: str, given: QuerySettings, **headers: str) -> Answer:
    app = service_app("query", "")
    install_plumbing(app, given, dict)
    assert given.console_dir is not None
    add_console(app, given, given.console_dir, DEFAULT_WORKFLOW)
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode("latin-1"),
        "headers": [
            (b"host", b"query"),
            *((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()),
        ],
    }
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(sent[0]["status"], Headers(raw=sent[0]["headers"]), body)


async def test_every_file_of_the_console_is_served_and_the_whole_of_it_is_light() -> None:
    weights: dict[str, int] = {}
    for name in load_files(CONSOLE):
        answer = await get(f"/console/{name}", settings(), accept_encoding="gzip")
        weights[name] = len(answer.body)
        assert answer.status == 200
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["content-type"].split(";")[0] in (
            "text/html",
            "text/javascript",
            "text/css",
            "image/svg+xml",
        )
        assert answer.headers["x-content-type-options"] == "nosniff"
    for_a_provider = sum(weights.pop(name) for name in WITH_A_PROVIDER)
    assert for_a_provider < PROVIDER_WEIGHT_BYTES
    assert sum(weights.values()) < WEIGHT_BYTES


async def test_the_policy_allows_scripts_and_styles_of_the_folder_alone() -> None:
    answer = await get("/console/", settings())
    policies = answer.headers.getlist("content-security-policy")
    assert policies == [content_policy(settings())]
    directives = dict(part.split(" ", 1) for part in policies[0].split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == "'self'"
    assert directives["connect-src"] == (
        "'self' https://ingest.example:8443 wss://stream.example https://stream.example"
    )
    assert directives["frame-ancestors"] == "'none'"
    assert directives["require-trusted-types-for"] == "'script'"


@pytest.mark.parametrize("name", sorted(path.name for path in CONSOLE.iterdir() if path.suffix != ".json"))
async def test_what_a_browser_can_open_by_itself_has_the_policy_and_no_file_is_without_one(name: str) -> None:
    answer = await get(f"/console/{name}", settings())
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert (policy == content_policy(settings())) is name.endswith((".html", ".svg"))
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("page", ["index.html", "track.html"])
def test_no_page_holds_what_the_policy_forbids(page: str) -> None:
    text = (CONSOLE / page).read_text()
    assert " style=" not in text
    assert "<style" not in text
    assert " onclick=" not in text
    assert "<script>" not in text
    assert "//" not in text.replace("http://www.w3.org", "")


@pytest.mark.parametrize(("page", "script"), [("index.html", "app.js"), ("track.html", "track.js")])
def test_everything_that_a_page_imports_is_fetched_at_once(page: str, script: str) -> None:
    imported: set[str] = set()
    to_read = [script]
    while to_read:
        names = set(re.findall(r'from "\./([\w-]+\.js)"', (CONSOLE / to_read.pop()).read_text()))
        to_read += names - imported
        imported |= names
    preloaded = re.findall(r'rel="modulepreload" href="([\w-]+\.js)"', (CONSOLE / page).read_text())
    assert sorted(preloaded) == sorted(imported)


def test_no_script_makes_markup_of_text() -> None:
    for script in CONSOLE.glob("*.js"):
        text = script.read_text()
        for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"):
            assert sink not in text, script.name


async def test_the_page_is_told_where_everything_is() -> None:
    answer = await get("/console/config.json", settings())
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json
    assert document.pop("time").endswith("Z")
    assert document == {
        "ingest": "https://ingest.example:8443",
        "query": "..",
        "stream": "wss://stream.example/v1/stream",
        "statuses": {"open": ["created", "picked_up", "in_transit"], "final": ["delivered", "cancelled"]},
        "late_after_seconds": {},
        "checkpoints": ["note", "delivery_attempted", "delayed", "eta_changed", "proof_added"],
        "claims": {
            "scope": ["scope", "scp"],
            "merchants": "merchants",
            "orders": "orders",
            "all": ["orders:admin"],
            "writing": ["orders:admin", "orders:write"],
            "correcting": ["orders:admin", "orders:correct"],
            "managing": ["orders:admin", "webhooks:manage"],
        },
    }


async def test_the_page_is_told_where_tokens_have_their_claims() -> None:
    roles = (
        '{"dispatcher": "orders:read orders:write", "head": "orders:correct", "viewer": "orders:read",'
        ' "shop": "webhooks:manage"}'
    )
    names = {"claim_scope": "realm_access/roles", "claim_merchants": "m", "role_scopes": roles}
    assert (await get("/console/config.json", settings(**names))).json["claims"] == {
        "scope": ["realm_access/roles"],
        "merchants": "m",
        "orders": "orders",
        "all": ["orders:admin"],
        "writing": ["orders:admin", "orders:write", "dispatcher"],
        "correcting": ["orders:admin", "orders:correct", "head"],
        "managing": ["orders:admin", "webhooks:manage", "shop"],
    }


async def test_a_console_without_ingest_can_only_look() -> None:
    assert (await get("/console/config.json", settings(public_ingest_url=""))).json["ingest"] is None


async def test_what_the_reader_has_already_is_not_sent_again() -> None:
    tag = (await get("/console/app.js", settings())).headers["etag"]
    again = await get("/console/app.js", settings(), if_none_match=tag)
    assert (again.status, again.body) == (304, b"")


async def test_it_is_plain_for_those_who_cannot_unpack() -> None:
    answer = await get("/console/app.js", settings(), accept_encoding="identity")
    assert "content-encoding" not in answer.headers
    assert answer.body == (CONSOLE / "app.js").read_bytes()


async def test_the_address_without_its_slash_leads_to_the_one_with_it() -> None:
    answer = await get("/console?order=o-1", settings())
    assert (answer.status, answer.headers["location"]) == (308, "console/?order=o-1")


@pytest.mark.parametrize("name", ["nothing.js", "..%2fpackage.json", "%2e%2e%2fpackage.json", ".git", "%00"])
async def test_nothing_but_the_files_is_served(name: str) -> None:
    answer = await get(f"/console/{name}", settings())
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_files_of_other_kinds_stay_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / "notes.txt").write_text("not for everybody")
    assert list(load_files(tmp_path)) == ["index.html"]


def test_a_folder_without_a_console_is_a_wrong_configuration(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"CONSOLE_DIR .*holds no index.html"):
        load_files(tmp_path)
    with pytest.raises(SettingsError, match=r"CONSOLE_DIR .*cannot be read"):
        load_files(tmp_path / "absent")
    (tmp_path / "index.html").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    with pytest.raises(SettingsError, match=r"index.html has more than"):
        load_files(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"host": "0.0.0.0", "console_demo_token": "a.b.c"}, "only with HOST on the loopback"),  # noqa: S104
        ({"public_stream_url": ""}, "a console needs PUBLIC_STREAM_URL"),
        ({"public_stream_url": "https://stream.example"}, "begins with ws or wss"),
        ({"public_ingest_url": "ingest.example"}, "begins with http or https"),
        ({"public_ingest_url": "https://a; script-src *"}, "begins with http or https"),
    ],
)
def test_an_unsafe_configuration_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**wrong)


async def test_on_this_machine_readers_may_be_signed_in() -> None:
    answer = await get("/console/config.json", settings(host="::1", console_demo_token="a.b.c"))
    assert answer.json["token"] == "a.b.c"


@pytest.mark.parametrize(
    ("asked", "told"), [("", ""), ("?order=o-1", "?order=o-1"), ("?\xff", "?%C3%BF"), ("?%FF", "?%FF")]
)
async def test_the_folder_without_its_slash_leads_to_it_whatever_is_asked(asked: str, told: str) -> None:
    answer = await get(f"/console{asked}", settings())
    assert (answer.status, answer.headers["location"]) == (308, f"console/{told}")
