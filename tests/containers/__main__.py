"""`make test-containers`: builds the images, runs the Compose file, and takes it through the scenes.

`python -m containers [--write] [--list] [--no-suite] [SCENE …]`
"""

import argparse
import asyncio
import os
import secrets
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from callers import JWT_SECRET, token
from cluster.measuring import longest_gap_seconds
from containers.commands import CommandFailed, run
from containers.engine import ROOT, Engine, engine
from containers.load import Load, load
from containers.scenes import SCENES, Entry
from containers.stack import Stack
from containers.verdict import LATER, Outcome, misses, row, table, with_rows
from crowd import Crowd, crowd_of
from judge import history_of
from positions import cursor_opener
from tracking.upkeep.record_reader import read_records
from tracking_shared.storage.database import open_database
from viewers import EVERYBODY, Viewer, random_viewers

PAGE = ROOT / "docs/reliability.md"
PASSWORDS = (
    "RABBITMQ_PASSWORD",
    "MONGODB_ROOT_PASSWORD",
    "INGEST_PASSWORD",
    "ORDER_STATE_PASSWORD",
    "NOTIFIER_PASSWORD",
    "WEBHOOKS_PASSWORD",
    "QUERY_PASSWORD",
    "OPERATOR_PASSWORD",
)
DATABASE = "tracking"
VIEWERS = 12
RUNS_AGAIN = 40
"""Updates that must be acknowledged after a scene."""
RUNS_AGAIN_SECONDS = 90.0
SUITE = (
    "tests/integration/test_ingest_http.py",
    "tests/integration/test_query_orders.py",
    "tests/integration/test_notifier_stream.py",
    "tests/integration/test_broker_messages.py",
)
"""The tests that are run on containers by `TEST_SERVERS=containers`."""
SUITE_SECONDS = 300.0

Say = Callable[[str], None]


def main() -> int:
    """0 if each scene met its bars."""
    options = _options()
    if options.list:
        for entry in SCENES:
            print(f"{entry.name:22} {entry.title}")
        return 0
    signal.signal(signal.SIGTERM, _end)
    try:
        return asyncio.run(_main(options))
    except CommandFailed as error:
        print(f"test-containers: this failed: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _end(*_: object) -> None:
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make test-containers", description=__doc__)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help="instead of all; see --list")
    parser.add_argument("--write", action="store_true", help="write the rows into docs/reliability.md")
    parser.add_argument("--list", action="store_true", help="name the scenes, and run nothing")
    parser.add_argument("--no-suite", action="store_true", help="leave the tests of testcontainers out")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".containers", help="as deploy/setup_containers"
    )
    options = parser.parse_args()
    if unknown := set(options.scenes) - {entry.name for entry in SCENES}:
        parser.error(f"no such scene: {', '.join(sorted(unknown))}")
    return options


async def _main(options: argparse.Namespace) -> int:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.0f} s] {text}", flush=True)

    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        os.environ.pop(name, None)  # all is on addresses of this machine
    port = _free_port()
    given = {name: secrets.token_hex(16) for name in PASSWORDS}
    given |= {"JWT_SECRET": JWT_SECRET, "HTTP_PORT": str(port)}
    async with engine(options.folder.absolute(), given) as made:
        say("building the images")
        await made.build_images()
        missed = 0
        chosen = [entry for entry in SCENES if not options.scenes or entry.name in options.scenes]
        missed += await _scenes(Stack(made), chosen, port, options, say)
        await made.compose("--profile", "tools", "down", "--volumes")
        if not options.no_suite:
            missed += await _suite(made, say)
    say(f"{missed} missed a bar or did not run")
    return 1 if missed else 0


async def _scenes(stack: Stack, chosen: list[Entry], port: int, options: argparse.Namespace, say: Say) -> int:
    say("starting the containers")
    await stack.up()
    version = (await stack.engine.docker("version", "--format", "{{.Server.Version}}")).strip()
    when = f"{datetime.now(UTC):%Y-%m-%d}, Engine {version}"
    rows: list[str] = []
    missed = 0
    url = f"127.0.0.1:{port}"
    async with load(f"http://{url}") as under_way:
        await under_way.goes_on(20)
        with crowd_of(
            f"ws://{url}/v1/stream", _viewers(under_way), token, await _opened(stack), Random()
        ) as crowd:
            crowd.come(crowd.members)
            await crowd.all_live()
            for entry in chosen:
                outcome = await _outcome(stack, entry, under_way, say)
                rows.append(row(outcome, when))
                faults = list(misses(outcome))
                missed += bool(faults)
                say(f"{entry.title}: {'; '.join(faults) or 'met'}, stopped {outcome.stopped_seconds:.1f} s")
                if options.write:
                    PAGE.write_text(with_rows(PAGE.read_text(), rows, [one.title for one in SCENES]))
            await under_way.end()
            missed += await _dashboards(stack, crowd, say)
    print(table(rows))
    return missed


def _viewers(under_way: Load) -> list[Viewer]:
    random = Random()
    known = {life.order_id: life.merchant_id for life in under_way.lives[:300]}
    return [Viewer("operator-0", EVERYBODY, None, {}), *random_viewers(VIEWERS - 1, known, random)]


async def _outcome(stack: Stack, entry: Entry, under_way: Load, say: Say) -> Outcome:
    since, before = time.monotonic(), len(under_way.acknowledged)
    refused, odd = under_way.refused, len(under_way.odd)
    faults: list[str] = []
    lost: list[str] = []
    check = "not run" if entry.is_checked else LATER
    try:
        faults += await entry.scene(stack, under_way)
        await under_way.goes_on(RUNS_AGAIN, seconds=RUNS_AGAIN_SECONDS)
        until = time.monotonic()
        await stack.all_healthy()
        lost = await under_way.read_back()
        check = await stack.check() if entry.is_checked else LATER
    except Exception as error:  # noqa: BLE001 - the other scenes go on, and this one counts as missed
        until = time.monotonic()
        say(traceback.format_exc())
        faults.append(f"did not run to its end: {error!r}"[:300])
    for line in (*lost[:5], *under_way.odd[odd:][:5]):
        say(f"  {line}")
    return Outcome(
        title=entry.title,
        acknowledged=len(under_way.acknowledged) - before,
        stopped_seconds=longest_gap_seconds(under_way.times, since, until),
        stopped_bar_seconds=entry.bar_seconds,
        refused=under_way.refused - refused,
        odd=len(under_way.odd) - odd,
        lost=len(lost),
        check=check,
        faults=faults,
    )


async def _database_url(stack: Stack) -> str:
    (network,) = (await stack.container("mongodb"))["NetworkSettings"]["Networks"].values()
    password = stack.engine.environment["MONGODB_ROOT_PASSWORD"]
    return f"mongodb://root:{password}@{network['IPAddress']}:27017/?authSource=admin&directConnection=true"


async def _opened(stack: Stack):  # type: ignore[no-untyped-def]
    return await cursor_opener(await _database_url(stack), DATABASE)


async def _dashboards(stack: Stack, crowd: Crowd, say: Say) -> int:
    """1 if a dashboard was sent something twice, out of order or not for it, or was not sent something."""
    async with open_database(await _database_url(stack), DATABASE) as database:
        records, before = await read_records(database), -1
        while len(records.events) != before:  # what was under way is being decided
            before = len(records.events)
            await asyncio.sleep(2)
            records = await read_records(database)
    found = await crowd.faults(history_of(records.events))
    for fault in found[:5]:
        say(f"  {fault}")
    cuts = crowd.ends.total()
    say(f"{len(crowd.members)} dashboards, cut {cuts} times, {crowd.delivered} events: {len(found)} faults")
    return bool(found)


async def _suite(made: Engine, say: Say) -> int:
    say("tests on containers of their own")
    environment = made.environment | {"TEST_SERVERS": "containers", "TESTCONTAINERS_RYUK_DISABLED": "true"}
    words = (sys.executable, "-m", "pytest", "-q", "-m", "not slow", *SUITE)
    try:
        await run(*words, seconds=SUITE_SECONDS, environment=environment, shown=True)
    except CommandFailed as error:
        say(f"  {error}")
        return 1
    return 0


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
