"""A Prometheus of the tests' own, with the rules and the jobs of the project."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import ClientError, ClientSession

from callers import eventually
from tracking.devstack.processes import ChildProcess, free_port

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/monitoring"
SCRAPE_SECONDS = 3
"""Also how long a scrape may take: a machine under load needs it."""


def program(name: str) -> Path:
    """Where `make test-monitoring` has put a program of Prometheus."""
    path = Path(os.environ.get("PROMETHEUS", ROOT / ".prometheus")) / "usr/bin" / name
    assert path.exists(), f"{path} is missing: make test-monitoring fetches it"
    return path


def configuration(targets: Mapping[str, list[str]]) -> dict[str, Any]:
    """That of the project, with these targets by job in the place of names that only a network of containers
    knows, and more haste.
    """
    found: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    found["global"] = dict.fromkeys(("scrape_interval", "evaluation_interval"), f"{SCRAPE_SECONDS}s")
    found["rule_files"] = [str(FOLDER / name) for name in found["rule_files"]]
    for job in found["scrape_configs"]:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": targets[job["job_name"]]}]
    return found


class Prometheus:
    """One that runs."""

    def __init__(self, url: str, session: ClientSession) -> None:
        self._url = url
        self._session = session

    async def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its HTTP interface."""
        async with self._session.get(f"{self._url}/api/v1/{path}", params=parameters) as response:
            document = await response.json()
        assert document["status"] == "success", document
        return document["data"]

    async def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The samples that a query has now: labels and value."""
        data = await self.get("query", query=expression)
        return [(sample["metric"], float(sample["value"][1])) for sample in data["result"]]


def _started(data: Path, targets: Mapping[str, list[str]], port: int) -> ChildProcess:
    data.mkdir(parents=True, exist_ok=True)
    (data / "prometheus.yml").write_text(yaml.safe_dump(configuration(targets)))
    return ChildProcess(
        "prometheus",
        [
            *(str(program("prometheus")), f"--config.file={data / 'prometheus.yml'}"),
            *(f"--storage.tsdb.path={data / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"),
        ],
        environment={"PATH": os.environ["PATH"]},
        log_path=data / "prometheus.log",
    )


@asynccontextmanager
async def prometheus(data: Path, targets: Mapping[str, list[str]]) -> AsyncIterator[Prometheus]:
    """Scrapes these targets (host:port, by job) until the end."""
    port = free_port()
    process = _started(data, targets, port)
    try:
        async with ClientSession() as session:
            server = Prometheus(f"http://127.0.0.1:{port}", session)

            async def is_scraping() -> bool:
                try:
                    active = (await server.get("targets"))["activeTargets"]
                except ClientError:
                    return False
                return bool(active) and all(target["health"] == "up" for target in active)

            await eventually(is_scraping, seconds=60)
            yield server
    finally:
        await process.stop()
