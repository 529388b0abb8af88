"""Programs that are run, each with a bound; what fails is named."""

import asyncio
import shlex
import subprocess
from collections.abc import Mapping, Sequence


class CommandFailed(Exception):
    """A program ended with an error or took too long; the message has its words and last lines."""


async def run(
    *words: str, seconds: float = 120, environment: Mapping[str, str] | None = None, shown: bool = False
) -> str:
    """What it writes. `shown`: that goes where ours does, instead.

    Raises:
        CommandFailed: it did.
    """
    return await asyncio.to_thread(_run, words, seconds, environment, shown)


def _run(words: Sequence[str], seconds: float, environment: Mapping[str, str] | None, shown: bool) -> str:
    where = None if shown else subprocess.PIPE
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=where,
            stderr=None if shown else subprocess.STDOUT,
            env=environment,
            timeout=seconds,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise CommandFailed(f"{words[0]}: there is no such program") from None
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{shlex.join(words)}\ntook longer than {seconds:g} s") from None
    if done.returncode:
        last = "\n".join((done.stdout or "").splitlines()[-15:])
        raise CommandFailed(f"{shlex.join(words)}\nended with {done.returncode}: {last}")
    return done.stdout or ""
