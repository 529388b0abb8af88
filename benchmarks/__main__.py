"""The command line: `python -m benchmarks [NAME …]`. On a quiet machine, please."""

import argparse
import asyncio
import os
import resource
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks.chromium import find_browser
from benchmarks.data import OPEN_ORDERS, ORDERS, SHORT_ORDERS, kept_data
from benchmarks.figures import LOADS, TARGETS
from benchmarks.load import BenchmarkFailed
from benchmarks.machine import describe_machine
from benchmarks.processes import install_peer
from benchmarks.report import Results, report, write_results
from benchmarks.stack import measure
from tracking.devstack.component import StackFailed
from tracking.devstack.stack import StackOptions, run_stack
from tracking_shared.storage.database import DatabaseUnavailable

RESULTS = Path(__file__).parent / "results"
SHORT = {"seconds": 2.0, "samples": 50, "orders": SHORT_ORDERS, "board_orders": SHORT_ORDERS}

KEPT = {"board": "board_orders", "query": "orders"}
"""Kinds of data that are written once, and the numbers of their orders among what is given."""


def main() -> int:
    """Runs and prints. 0 also where a target was not reached; 1 where something broke, in one line."""
    asked = _parse(sys.argv[1:])
    RESULTS.mkdir(exist_ok=True)
    data = Path(mkdtemp(prefix="tracking-bench-"))
    results = Results()
    try:
        _prepare(asked)
        machine = describe_machine(data)
        for names, folder in _stacks(asked, data):
            ready = partial(_measure, asked, names, folder, results)
            asyncio.run(run_stack(StackOptions(data=folder), say, ready))
            if not results.figures.keys() >= set(names):
                say("interrupted")
                return 1
    except (BenchmarkFailed, StackFailed, DatabaseUnavailable) as error:
        for logs in data.glob("**/logs"):
            shutil.copytree(logs, RESULTS / "logs", dirs_exist_ok=True)
            say(f"the logs are in {RESULTS / 'logs'}")
        say(f"broken: {error}")
        return 1
    finally:
        shutil.rmtree(data)
    write_results(RESULTS, machine, results)
    print(report(machine, results))
    return 0


def _stacks(asked: Namespace, data: Path) -> Iterator[tuple[list[str], Path]]:
    """The names by the folder of their stack: reads and large boards on the data kept for them."""
    for kind, names in groupby(asked.names, _kept_kind):
        folder = data
        if kind:
            folder = kept_data(RESULTS, kind, asked.given[KEPT[kind]], say)
        if kind == "board":  # its figures change orders: the next run finds them as they were written
            folder = shutil.copytree(folder, data / kind)
        yield list(names), folder


def _kept_kind(name: str) -> str:
    return next((kind for kind in KEPT if name.startswith(kind)), "")


async def _measure(
    asked: Namespace, names: Sequence[str], data: Path, results: Results, _ready: dict[str, Any]
) -> None:
    """Measures each figure right after its floors."""
    for name in names:
        for floor in TARGETS[name].floors:
            if floor not in results.floors:
                say(f"{floor} …")
                results.floors[floor] = await measure(floor, data, asked.given)
        say(f"{name} …")
        results.figures[name] = await measure(name, data, asked.given)


def say(line: str) -> None:
    """Prints one line at once; apart from the report, which alone goes to the standard output."""
    print(line, file=sys.stderr, flush=True)


def _prepare(asked: Namespace) -> None:
    """Looks for everything that can be missing before anything is started."""
    if any(LOADS[floor].server == "ws" for name in asked.names for floor in TARGETS[name].floors):
        install_peer()
    if any(LOADS[name].function.startswith("console") for name in asked.names):
        find_browser()
    # All load comes from one caller, so its limit would be measured, and not the system.
    os.environ["RATE_LIMIT_PER_SECOND"] = "0"
    # The services inherit it: one socket for each of thousands of clients.
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = (
        "idle-memory event-stream latency single batches fan-out storm authorisation tracing console query"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"a figure, or of {names}; all by default")
    parser.add_argument("--seconds", type=float, help="of each load, instead of its own 10 to 30")
    parser.add_argument(
        "--board-orders", type=int, default=OPEN_ORDERS, help=f"of large boards, instead of {OPEN_ORDERS:,}"
    )
    parser.add_argument("--short", action="store_true", help="a quick look, not to be quoted")
    asked = parser.parse_args(arguments)
    wanted = [*asked.names, *(["board"] if "console" in asked.names else [])]
    if unknown := [name for name in wanted if not any(figure.startswith(name) for figure in TARGETS)]:
        parser.error(f"{', '.join(unknown)}: the names are {names}")
    asked.names = [name for name in TARGETS if not wanted or name.startswith(tuple(wanted))]
    asked.given = (SHORT if asked.short else {"orders": ORDERS, "board_orders": asked.board_orders}) | (
        {"seconds": asked.seconds} if asked.seconds else {}
    )
    return asked


if __name__ == "__main__":
    sys.exit(main())
