"""The command line: `python -m benchmarks [NAME …]`. On a quiet machine, please."""

import argparse
import asyncio
import os
import resource
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks import (
    authorisation,
    batches,
    console,
    fan_out,
    floors,
    idle_memory,
    latency,
    query_exports,
    query_reads,
    single,
    storm,
)
from benchmarks.chromium import BrowserMissing, find_browser
from benchmarks.figures import TARGETS
from benchmarks.floors import Measure
from benchmarks.load_process import LoadFailed, WrongResult
from benchmarks.machine import this_machine
from benchmarks.measurement import Measurement
from benchmarks.profiling import Profiler, ProfilerMissing, profiler_program
from benchmarks.query_data import ORDERS, SHORT_ORDERS, query_data
from benchmarks.report import report, write_results
from benchmarks.stack_under_test import use_stack
from benchmarks.ws_peer import PeerMissing, install_peer
from shared.database import DatabaseUnavailable
from tracking.stack import SERVICES, StackFailed, StackOptions, run_stack

RESULTS = Path(__file__).parent / "results"

GROUPS: Mapping[str, tuple[str, ...]] = {
    "idle-memory": ("idle-memory",),  # first: memory that the notifier has had before is not seen
    "latency": ("latency",),
    "single": ("single",),
    "batches": ("batches",),
    "fan-out": ("fan-out-single", "fan-out-stream", "fan-out-bursts"),
    "storm": ("storm", "storm-restart"),
    "authorisation": ("authorisation",),
    "console": tuple(console.FIGURES),
    "query": ("query-order", "query-history", "query-page", "query-csv", "query-ndjson"),
}
"""The figures in the order in which they are measured; a group or a figure can be asked for by its name."""

QUERY_FIGURES = GROUPS["query"]
"""They are measured on a stack with other data than the rest."""

SHORT_SECONDS = 2.0
SHORT_SAMPLES = 50


@dataclass
class Suite:
    """What was asked for, and what came of it. A figure is measured right after its floors: none without."""

    names: Sequence[str]
    """Of figures."""
    seconds: float | None
    samples: int | None
    profiled: str | None
    orders: int
    """That there are when reads are measured."""
    floors: dict[str, Measurement] = field(default_factory=dict)
    figures: dict[str, Measurement] = field(default_factory=dict)
    profiles: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether everything was measured."""
        return set(self.names) == self.figures.keys()

    def run_stacks(self, data: Path) -> None:
        """Measures everything: the reads on the data that are kept for them, the rest on those in `data`."""
        reads = [name for name in self.names if name in QUERY_FIGURES]
        others = [name for name in self.names if name not in QUERY_FIGURES]
        if others:
            asyncio.run(run_stack(StackOptions(data=data), say, partial(self.run, others, data)))
        if reads and self.figures.keys() >= set(others):
            kept = query_data(RESULTS, self.orders, say).folder
            asyncio.run(run_stack(StackOptions(data=kept), say, partial(self.run, reads, kept)))

    async def run(self, names: Sequence[str], data: Path, document: dict[str, Any]) -> None:
        """Measures these, one after the other, on a stack that is ready."""
        profiler = (
            Profiler(self.profiled, document["pids"][self.profiled], RESULTS) if self.profiled else None
        )
        bare, figures = floors.floors(self.samples, self.seconds) | self._reads(), self._figures()
        async with use_stack(document, data, profiler) as stack:
            for name in names:
                for floor in [floor for floor in TARGETS[name].floors if floor not in self.floors]:
                    say(f"{floor} …")
                    self.floors[floor] = await bare[floor](stack)
                say(f"{name} …")
                self.figures[name] = await figures[name](stack)
        self.profiles += profiler.reports if profiler else []

    def _figures(self) -> dict[str, Measure]:
        by_arrival = {
            f"fan-out-{arrival}": partial(
                fan_out.measure, arrival=arrival, samples=self.samples, seconds=self.seconds
            )
            for arrival in fan_out.ARRIVALS
        }
        return {
            "idle-memory": idle_memory.measure,
            "latency": partial(latency.measure, samples=self.samples),
            "single": partial(single.measure, seconds=self.seconds),
            "batches": partial(batches.measure, seconds=self.seconds),
            **by_arrival,
            "storm": storm.measure,
            "storm-restart": storm.measure_after_restart,
            "authorisation": authorisation.measure,
            **console.measures(self.samples, self.seconds),
            **self._reads(),
        }

    def _reads(self) -> dict[str, Measure]:
        """Those through the service and those of the bare driver."""
        return {**query_reads.measures(self.orders, self.samples), **query_exports.measures(self.orders)}


def say(line: str) -> None:
    """Tells one line at once; apart from the report, which alone goes to the standard output."""
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
        _keep_logs(data)
        say(f"broken: {error}")
        return 1
    finally:
        shutil.rmtree(data)
    if not suite.is_complete:
        say("interrupted")
        return 1
    write_results(RESULTS, machine, suite.floors, suite.figures)
    print("\n\n".join([report(machine, suite.floors, suite.figures), *suite.profiles]))
    return 0


def _prepare(suite: Suite) -> None:
    """What can be missing is looked for before anything is started."""
    if suite.profiled:
        profiler_program()
    if any(floor.startswith("ws-") for name in suite.names for floor in TARGETS[name].floors):
        install_peer()
    if any(name in console.FIGURES for name in suite.names):
        find_browser()
    # All load comes from one caller, so its limit would be measured, and not the system.
    os.environ["RATE_LIMIT_PER_SECOND"] = "0"
    # The services inherit it: one socket for each of thousands of clients.
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def _keep_logs(data: Path) -> None:
    logs = data / "logs"
    if logs.exists():
        shutil.copytree(logs, RESULTS / "logs", dirs_exist_ok=True)
        say(f"the logs are in {RESULTS / 'logs'}")


def _figures_of(asked: Collection[str]) -> list[str]:
    return [name for group in GROUPS for name in GROUPS[group] if group in asked or name in asked]


def _suite(arguments: Sequence[str]) -> Suite:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--seconds", type=float, help="of each load, instead of its own 10 to 30")
    parser.add_argument("--samples", type=int, help=f"of the latency, instead of {latency.SAMPLES}")
    parser.add_argument("--short", action="store_true", help="a quick look, not to be quoted")
    parser.add_argument("--profile", metavar="SERVICE", choices=SERVICES, help="sample it with py-spy")
    given = parser.parse_args(arguments)
    unknown = set(given.names) - set(GROUPS) - set(TARGETS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: the names are {', '.join(GROUPS)}")
    return Suite(
        names=_figures_of(given.names or GROUPS),
        seconds=given.seconds or (SHORT_SECONDS if given.short else None),
        samples=given.samples or (SHORT_SAMPLES if given.short else None),
        orders=SHORT_ORDERS if given.short else ORDERS,
        profiled=given.profile,
    )


if __name__ == "__main__":
    sys.exit(main())
