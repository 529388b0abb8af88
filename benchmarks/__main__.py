"""The command line: `python -m benchmarks [NAME …]`. On a quiet machine, please."""

import argparse
import asyncio
import os
import resource
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks.chromium import BrowserMissing, find_browser
from benchmarks.data import OPEN_ORDERS, ORDERS, SHORT_ORDERS, kept_data
from benchmarks.figures import GROUPS, PLANS, TARGETS
from benchmarks.load import LoadFailed, WrongResult
from benchmarks.machine import this_machine
from benchmarks.profiling import ProfilerMissing, profiler_program
from benchmarks.report import Measurement, report, write_results
from benchmarks.stack import RESULTS, use_stack
from benchmarks.ws_peer import PeerMissing, install_peer
from tracking.devstack.component import StackFailed
from tracking.devstack.stack import SERVICES, StackOptions, run_stack
from tracking_shared.storage.database import DatabaseUnavailable

SHORT_SECONDS = 2.0
SHORT_SAMPLES = 50


class Suite:
    """The figures that were asked for, and their results. A figure is measured right after its floors."""

    def __init__(self, names: Sequence[str], given: dict[str, Any], profiled: str | None) -> None:
        self.names = names
        self.given = given
        self.profiled = profiled
        self.floors: dict[str, Measurement] = {}
        self.figures: dict[str, Measurement] = {}

    @property
    def is_complete(self) -> bool:
        """Everything was measured."""
        return set(self.names) == self.figures.keys()

    def run_stacks(self, data: Path) -> None:
        """Measures everything: reads and large boards on the data kept for them, the rest in `data`."""
        kept = {"board": self.given["board_orders"], "query": self.given["orders"]}
        special = [name for name in self.names if name.startswith(("board-", "query-"))]
        self._run_stack([name for name in self.names if name not in special], data)
        for kind, orders in kept.items():
            names = [name for name in special if name.startswith(kind)]
            if not names or not self.figures.keys() >= set(self.names) - set(special):
                continue
            folder = kept_data(RESULTS, kind, orders, say)
            if kind == "board":  # its figures change orders: the next run finds them as they were written
                folder = shutil.copytree(folder, data / kind)
            self._run_stack(names, folder)

    def _run_stack(self, names: Sequence[str], data: Path) -> None:
        if names:
            asyncio.run(run_stack(StackOptions(data=data), say, partial(self._run, names, data)))

    async def _run(self, names: Sequence[str], data: Path, document: dict[str, Any]) -> None:
        async with use_stack(document, data, self.profiled) as stack:
            for name in names:
                for floor in TARGETS[name].floors:
                    if floor not in self.floors:
                        say(f"{floor} …")
                        self.floors[floor] = await stack.measure(floor, self.given)
                say(f"{name} …")
                self.figures[name] = await stack.measure(name, self.given)


def say(line: str) -> None:
    """Prints one line at once; apart from the report, which alone goes to the standard output."""
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Runs and prints. 0 also where a target was not reached; 1 where something broke, in one line."""
    suite = _suite(sys.argv[1:])
    RESULTS.mkdir(exist_ok=True)
    data = Path(mkdtemp(prefix="tracking-bench-"))
    try:
        _prepare(suite)
        machine = this_machine(data)
        suite.run_stacks(data)
    except (
        LoadFailed,
        WrongResult,
        StackFailed,
        DatabaseUnavailable,
        ProfilerMissing,
        PeerMissing,
        BrowserMissing,
    ) as error:
        for logs in data.glob("**/logs"):
            shutil.copytree(logs, RESULTS / "logs", dirs_exist_ok=True)
            say(f"the logs are in {RESULTS / 'logs'}")
        say(f"broken: {error}")
        return 1
    finally:
        shutil.rmtree(data)
    if not suite.is_complete:
        say("interrupted")
        return 1
    write_results(RESULTS, machine, suite.floors, suite.figures)
    print(report(machine, suite.floors, suite.figures))
    return 0


def _prepare(suite: Suite) -> None:
    """Looks for everything that can be missing before anything is started."""
    if suite.profiled:
        profiler_program()
    if any(PLANS[floor].server == "ws" for name in suite.names for floor in TARGETS[name].floors):
        install_peer()
    if any(name in GROUPS["console"] for name in suite.names):
        find_browser()
    # All load comes from one caller, so its limit would be measured, and not the system.
    os.environ["RATE_LIMIT_PER_SECOND"] = "0"
    # The services inherit it: one socket for each of thousands of clients.
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def _suite(arguments: Sequence[str]) -> Suite:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--seconds", type=float, help="of each load, instead of its own 10 to 30")
    parser.add_argument("--samples", type=int, help="of single operations, instead of 300 of the latency")
    parser.add_argument("--short", action="store_true", help="a quick look, not to be quoted")
    parser.add_argument(
        "--profile", metavar="SERVICE", choices=SERVICES, help="sample it with py-spy, for flame graphs"
    )
    asked = parser.parse_args(arguments)
    unknown = set(asked.names) - set(GROUPS) - set(TARGETS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: the names are {', '.join(GROUPS)}")
    wanted = asked.names or list(GROUPS)
    names = [
        name for group, members in GROUPS.items() for name in members if group in wanted or name in wanted
    ]
    given = {
        "seconds": asked.seconds or (SHORT_SECONDS if asked.short else None),
        "samples": asked.samples or (SHORT_SAMPLES if asked.short else None),
        "orders": SHORT_ORDERS if asked.short else ORDERS,
        "board_orders": SHORT_ORDERS if asked.short else OPEN_ORDERS,
    }
    return Suite(names, given, asked.profile)


if __name__ == "__main__":
    sys.exit(main())
