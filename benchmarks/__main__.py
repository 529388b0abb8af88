"""The command line: `python -m benchmarks [floors|latency|single|batches …]`. On a quiet machine, please."""

import argparse
import asyncio
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks import batches, floors, latency, single
from benchmarks.load_process import LoadFailed, WrongResult
from benchmarks.machine import this_machine
from benchmarks.measurement import Measurement
from benchmarks.profiling import Profiler, ProfilerMissing, profiler_program
from benchmarks.report import report, write_results
from benchmarks.stack_under_test import StackUnderTest, use_stack
from shared.database import DatabaseUnavailable
from tracking.stack import SERVICES, StackFailed, StackOptions, run_stack

RESULTS = Path(__file__).parent / "results"

NAMES = ("floors", "latency", "single", "batches")

SHORT_SECONDS = 2.0
SHORT_SAMPLES = 50


@dataclass
class Suite:
    """What was asked for, and what came of it."""

    names: Sequence[str]
    seconds: float | None
    samples: int | None
    profiled: str | None
    floors: dict[str, Measurement] = field(default_factory=dict)
    figures: dict[str, Measurement] = field(default_factory=dict)
    profiles: list[str] = field(default_factory=list)
    is_complete: bool = False

    async def run(self, document: dict[str, Any]) -> None:
        """Everything, one after the other, on a stack that is ready. The floors always: no figure without."""
        profiler = (
            Profiler(self.profiled, document["pids"][self.profiled], RESULTS) if self.profiled else None
        )
        async with use_stack(document, profiler) as stack:
            say("floors …")
            self.floors = {m.name: m for m in await floors.measure(stack, self.seconds)}
            for name in self.names:
                if name != "floors":
                    say(f"{name} …")
                    self.figures[name] = await self._measure(name, stack)
        self.profiles = profiler.reports if profiler else []
        self.is_complete = True

    async def _measure(self, name: str, stack: StackUnderTest) -> Measurement:
        if name == "latency":
            return await latency.measure(stack, self.samples)
        if name == "single":
            return await single.measure(stack, self.seconds)
        return await batches.measure(stack, self.seconds)


def say(line: str) -> None:
    """Tells one line at once; apart from the report, which alone goes to the standard output."""
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Runs and prints. 0 also where a target was not reached; 1 where something broke, in one line."""
    suite = _suite(sys.argv[1:])
    RESULTS.mkdir(exist_ok=True)
    data = Path(mkdtemp(prefix="tracking-bench-"))
    try:
        if suite.profiled:
            profiler_program()
        machine = this_machine(data)
        asyncio.run(run_stack(StackOptions(data=data), say, suite.run))
    except (LoadFailed, WrongResult, StackFailed, DatabaseUnavailable, ProfilerMissing) as error:
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


def _keep_logs(data: Path) -> None:
    logs = data / "logs"
    if logs.exists():
        shutil.copytree(logs, RESULTS / "logs", dirs_exist_ok=True)
        say(f"the logs are in {RESULTS / 'logs'}")


def _suite(arguments: Sequence[str]) -> Suite:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--seconds", type=float, help="of each load, instead of its own 10 to 30")
    parser.add_argument("--samples", type=int, help=f"of the latency, instead of {latency.SAMPLES}")
    parser.add_argument("--short", action="store_true", help="a quick look, not to be quoted")
    parser.add_argument("--profile", metavar="SERVICE", choices=SERVICES, help="sample it with py-spy")
    given = parser.parse_args(arguments)
    unknown = set(given.names) - set(NAMES)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: the names are {', '.join(NAMES)}")
    return Suite(
        names=[name for name in NAMES if name in given.names] if given.names else NAMES,
        seconds=given.seconds or (SHORT_SECONDS if given.short else None),
        samples=given.samples or (SHORT_SAMPLES if given.short else None),
        profiled=given.profile,
    )


if __name__ == "__main__":
    sys.exit(main())
