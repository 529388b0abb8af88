"""`make test-cluster`: runs the scenarios one after the other, and prints their table.

`python -m cluster [--write] [--list] [--modes hosts,balancer] [SCENARIO …]`
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from cluster.balancer import balancer
from cluster.conduct import RECOVERY_SECONDS, Say, conduct
from cluster.network import ADDRESSES, CommandFailed, Network, network
from cluster.nodes import PORT, Cluster
from cluster.scenarios import SCENARIOS, Scenario
from cluster.scene import BALANCER_PORT
from cluster.table import row, table, with_rows
from cluster.verdict import Outcome, misses
from forked_services import end_fork_servers

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/reliability.md"
MODES = ("hosts", "balancer")
INSIDE = "--inside"
"""For the process that runs in the namespace of the services: the folder that its parent made."""
STOP_SECONDS = 10.0

Plan = list[tuple[Scenario, str]]


def main() -> int:
    """0 if each scenario met its bars."""
    options = _options()
    if options.list:
        for scenario in SCENARIOS:
            print(f"{scenario.name:18} {scenario.mode:9} {scenario.title}")
        return 0
    if options.inside is not None:
        return asyncio.run(_run_all(options))
    return _outside(options)


def _outside(options: argparse.Namespace) -> int:
    """Makes network and folder, and runs this program in them. Whatever happens to that, all ends with it."""
    signal.signal(signal.SIGTERM, _end)
    try:
        with _folder_for(options.keep) as folder, network() as made:
            program = [sys.executable, "-m", "cluster", INSIDE, str(folder), *sys.argv[1:]]
            process = subprocess.Popen([*made.enter(0), *program])
            try:
                return process.wait()
            finally:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_SECONDS)
    except CommandFailed as error:
        print(f"test-cluster needs root and network namespaces; this failed: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


@contextmanager
def _folder_for(kept: Path | None) -> Iterator[Path]:
    """The one that is to be kept, or one that is removed in the end."""
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="tracking-cluster-") as folder:
            yield Path(folder)
    else:
        kept.mkdir(parents=True)
        yield kept


def _end(*_: object) -> None:
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make test-cluster", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="instead of all; see --list")
    parser.add_argument("--modes", help="address modes instead of each scenario's own: hosts,balancer")
    parser.add_argument("--write", action="store_true", help="write the rows into docs/reliability.md")
    parser.add_argument("--list", action="store_true", help="name the scenarios, and run nothing")
    parser.add_argument("--rabbitmq4", type=_folder, default=ROOT / ".rabbitmq4", help="its folder")
    parser.add_argument(
        "--mnesia", action="store_true", help="keep the nodes' metadata in Mnesia, not in Khepri"
    )
    parser.add_argument("--keep", type=_folder, help="a new folder for data and logs, which stays")
    parser.add_argument(INSIDE, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.scenarios) - set(names):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    if options.modes and set(options.modes.split(",")) - set(MODES):
        parser.error(f"the modes are {' and '.join(MODES)}")
    return options


def _folder(text: str) -> Path:
    return Path(text).absolute()


def _plan(options: argparse.Namespace) -> Plan:
    chosen = [one for one in SCENARIOS if not options.scenarios or one.name in options.scenarios]
    if options.modes:
        return list(product(chosen, options.modes.split(",")))
    return [(scenario, scenario.mode) for scenario in chosen]


async def _run_all(options: argparse.Namespace) -> int:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.0f} s] {text}", flush=True)

    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        os.environ.pop(name, None)  # everything is on addresses of this machine
    plan = _plan(options)
    targets = [(address, PORT) for address in ADDRESSES.values()]
    async with balancer(BALANCER_PORT, targets):
        rows, missed = await _run(plan, Network(os.getppid()), options, say)
    print(table(rows))
    say(f"{len(rows)} of {len(plan)} scenarios ran; {missed} missed a bar or did not run")
    return 1 if missed else 0


async def _run(plan: Plan, made: Network, options: argparse.Namespace, say: Say) -> tuple[list[str], int]:
    folder: Path = options.inside
    cluster: Cluster | None = None
    rows: list[str] = []
    missed = 0
    try:
        for number, (scenario, mode) in enumerate(plan):
            if cluster is None:
                say("starting three nodes")
                data = folder / f"cluster-{number}"
                cluster = await _fresh_cluster(made, options.rabbitmq4, data, mnesia=options.mnesia)
            outcome = await _row(cluster, scenario, mode, folder / f"{number}-{scenario.name}-{mode}", say)
            if outcome:
                store = "Mnesia" if options.mnesia else "Khepri"
                on = f"RabbitMQ {cluster.release}, {store}"
                rows.append(row(outcome, f"{datetime.now(UTC):%Y-%m-%d}, {on}"))
                if options.write:
                    _write(rows)
            missed += outcome is None or any(misses(outcome))
            if not await _whole(cluster):
                say("the cluster is not whole again; it is replaced")
                missed += outcome is not None and not any(misses(outcome))
                await _kill(cluster)
                cluster = None
    finally:
        end_fork_servers()
        if cluster:
            await _kill(cluster)
    return rows, missed


def _write(rows: list[str]) -> None:
    order = [(scenario.title, mode) for scenario in SCENARIOS for mode in MODES]
    PAGE.write_text(with_rows(PAGE.read_text(), rows, order))


async def _row(cluster: Cluster, scenario: Scenario, mode: str, folder: Path, say: Say) -> Outcome | None:
    say(f"{scenario.title} ({mode})")
    try:
        outcome = await conduct(cluster, scenario, mode, folder, say)
    except Exception:  # noqa: BLE001 - the other scenarios go on, and this one counts as missed
        say(f"  did not run to its end: {traceback.format_exc()}")
        return None
    pauses = f"accepted {outcome.accepted_seconds:.1f} s, decided {outcome.decided_seconds:.1f} s"
    say(f"  {', '.join(misses(outcome)) or 'met'}; {pauses}, shown {outcome.dashboard_gap_seconds:.1f} s")
    return outcome


async def _fresh_cluster(made: Network, programs: Path, folder: Path, *, mnesia: bool) -> Cluster:
    cluster = Cluster(made, programs, folder)
    await cluster.start(*ADDRESSES)
    await cluster.make_user()
    if not mnesia:
        await cluster.keep_metadata_in_khepri()
    assert await _whole(cluster), "the nodes did not find each other"
    return cluster


async def _whole(cluster: Cluster) -> bool:
    deadline = time.monotonic() + RECOVERY_SECONDS
    while not await cluster.is_whole():
        if time.monotonic() > deadline:
            return False
    return True


async def _kill(cluster: Cluster) -> None:
    for node in cluster.alive():
        await cluster.kill(node)


if __name__ == "__main__":
    sys.exit(main())
