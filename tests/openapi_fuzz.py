"""Requests made from the OpenAPI documents, by `schemathesis`: all that they allow, and what they do not.

Both documents are put into one, whose operations say which service they are of: so what ingest creates is
looked for in query.
"""

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from openapi_checks import SERVICES, Service, document_of
from tracking_ingest.api.submission_routes import LINES_TYPE as NDJSON


@dataclass(frozen=True, slots=True)
class Report:
    """What `schemathesis` says in its JSON report when it has found nothing."""

    content: Any

    @property
    def requests(self) -> int:
        """How many were sent."""
        return int(self.content["test_cases"]["generated"])

    @property
    def accepted(self) -> frozenset[str]:
        """The operations with good requests that were taken, like `GET /v1/orders`."""
        return frozenset(
            operation
            for operation, phases in self.content["valid_rates"].items()
            if any(phase["accepted"] for phase in phases.values())
        )


def common_document(urls: Mapping[Service, str]) -> dict[str, Any]:
    """The operations of both documents. Of those that every service has, query's stand there."""
    documents = [_named(service, urls[service]) for service in SERVICES]
    common = documents[0] | {"paths": {}, "components": {}}
    for document in documents:
        for path, methods in document["paths"].items():
            common["paths"].setdefault(path, {}).update(methods)
        for kind, parts in document["components"].items():
            common["components"].setdefault(kind, {}).update(parts)
    batches = common["paths"]["/v1/batch"]["post"]["requestBody"]["content"]
    batches[NDJSON] = batches["application/json"]  # what the lines hold; `fuzz_hooks` makes lines of them
    for path, methods in common["paths"].items():
        if "{reference}" in path:
            for method, operation in methods.items():
                _name_an_order(operation["parameters"], is_read=method == "get")
    for path, status in (("/v1/orders", "201"), ("/v1/orders/{order_id}/updates", "200")):
        _link(common["paths"][path]["post"]["responses"][status])
    return common


REFERENCED = {"merchant_id": "acme", "reference": "WH/OUT/00012"}
"""The order that is there before, for operations that name one by its reference: made-up ones meet none."""


def _name_an_order(parameters: list[dict[str, Any]], *, is_read: bool) -> None:
    for parameter in parameters:
        if parameter["in"] == "path":
            parameter["example"] = REFERENCED[parameter["name"]]
        elif is_read:
            parameter.pop("example", None)  # that of `If-Match` is of another order


def _link(answer: dict[str, Any]) -> None:
    """What ingest has recorded is found in query."""
    order = {"order_id": "$response.body#/order_id"}
    update = order | {"update_id": "$response.body#/update_id"}
    names = ("get_order", "get_history", "get_order_updates")
    found = {name: {"operationId": name, "parameters": order} for name in names}
    found["get_update"] = {"operationId": "get_update", "parameters": update}
    answer["links"] = answer.get("links", {}) | found


def _named(service: Service, url: str) -> Any:
    """The document of a service, with its name on every part and operation."""
    text = orjson.dumps(document_of(service)).decode()
    document = orjson.loads(re.sub(r'"#/components/(\w+)/', rf'"#/components/\1/{service}.', text))
    for methods in document["paths"].values():
        for operation in methods.values():
            operation["servers"] = [{"url": url, "description": service}]
    for kind, parts in document["components"].items():
        if kind != "securitySchemes":  # operations refer to them by their bare names
            document["components"][kind] = {f"{service}.{name}": part for name, part in parts.items()}
    return document


async def fuzz(urls: Mapping[Service, str], folder: Path, bearer: str | None, *options: str) -> Report:
    """Sends the requests and returns the report. Fails with what was found if anything was."""
    _write_document(folder, urls)
    authorization = ["--header", f"Authorization: Bearer {bearer}"] if bearer else []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", urls["query"]),
        *("--checks", "all", "--continue-on-failure", "--generation-database", "none"),
        *("--report", "json", "--report-json-path", "report.json", "--no-color", "--warnings", "off"),
        *authorization,
        *options,
        cwd=folder,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "fuzz_hooks", "PYTHONPATH": str(Path(__file__).parent)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, _cut(output.decode())
    return _report(folder, output)


def _write_document(folder: Path, urls: Mapping[Service, str]) -> None:
    folder.mkdir()
    (folder / "openapi.json").write_bytes(orjson.dumps(common_document(urls)))


def _report(folder: Path, output: bytes) -> Report:
    (folder / "output.txt").write_bytes(output)
    return Report(orjson.loads((folder / "report.json").read_bytes()))


def _cut(output: str) -> str:
    """What was found, without what was sent in full."""
    return "\n".join(line[:600] for line in output.splitlines()[:400])
