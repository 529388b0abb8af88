"""`make test-replica-set`: rounds of the campaign, and their table.

`python -m replica_set [--seed N] [--rounds N] [--seconds N] [--write] [--keep FOLDER]`
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from replica_set.campaign import Round, run_round
from replica_set.table import table, with_table
from tracking.devstack.broker_node import BrokerNode
from tracking.devstack.database_node import DatabaseNode

PAGE = Path(__file__).resolve().parents[2] / "docs/reliability.md"


def main() -> int:
    """0 if the judges found nothing."""
    options = _options()
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory(prefix="tracking-replica-set-") as folder:
        rounds = asyncio.run(_run(options, options.keep or Path(folder)))
    text = table(rounds)
    print(text)
    if options.write:
        PAGE.write_text(with_table(PAGE.read_text(), text))
    return 1 if any(each.faults for each in rounds) else 0


def _end(*_: object) -> None:
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make test-replica-set", description=__doc__)
    parser.add_argument(
        "--seed", default=str(int(time.time())), help="the same faults as the run with this seed"
    )
    parser.add_argument("--rounds", type=int, default=6, help="each with an empty database (6)")
    parser.add_argument("--seconds", type=float, default=45, help="of faults in each round (45)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    parser.add_argument("--keep", type=Path, help="a new folder for data and logs, which stays")
    return parser.parse_args()


async def _run(options: argparse.Namespace, folder: Path) -> list[Round]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        os.environ.pop(name, None)  # everything is on addresses of this machine
    broker, database = BrokerNode(folder / "broker"), DatabaseNode(folder / "database")
    rounds: list[Round] = []
    try:
        await broker.start()
        await database.start()
        for number in range(options.rounds):
            seed = f"{options.seed}.{number}"
            made = await run_round(
                broker, database.url, folder / f"round-{number}", seed=seed, seconds=options.seconds
            )
            rounds.append(made)
            _tell(made)
    finally:
        await database.stop()
        await broker.stop()
    return rounds


def _tell(made: Round) -> None:
    print(
        f"seed {made.seed}: {made.number_of_faults} faults, {made.answered} reports answered,"
        f" {made.events} events announced, longest silence {made.longest_silence:.1f} s",
        flush=True,
    )
    for kind, found in (("set", made.set_events), ("answers", made.answers)):
        print(f"  {kind}: {', '.join(f'{name} {number}' for name, number in sorted(found.items()))}")
    for fault in made.faults[:20]:
        print(f"  FAULT: {fault}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
