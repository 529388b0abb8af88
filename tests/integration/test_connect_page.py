"""The commands and programs of `docs/connect.md`: they are run here, and print what is printed there."""

import asyncio
import os
import re
import shutil
from pathlib import Path

import pytest

from fixtures import Spine, StartService

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/connect.md"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the commands of the page use curl")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAVED = re.compile(r"Save this as `([\w.]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BETWEEN = "-- the next one --"

CHANGING = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
    (r"\d+(\.\d)? s, \d+ operations/s", "SPEED"),
    (r"'(iat|exp|jti)': [^,}]*", r"\1"),
]


def steps() -> list[tuple[str, str]]:
    """Each block of commands, with what is printed below it (empty: nothing)."""
    found = FENCE.findall(PAGE.read_text())
    followed = zip(found, [*found[1:], ("", "")], strict=True)
    return [
        (commands, printed if language in ("", "json") else "")
        for (kind, commands), (language, printed) in followed
        if kind == "sh" and (shutil.which("javac") or not commands.startswith("java "))
    ]


def masked(text: str) -> str:
    for pattern, name in CHANGING:
        text = re.sub(pattern, name, text)
    return text.strip()


def here(text: str, addresses: dict[str, str]) -> str:
    for there, url in addresses.items():
        text = text.replace(f"http://{there}", url).replace(there, url)
    return text


async def test_every_command_of_the_page_prints_what_stands_below_it(
    spine: Spine, start_service: StartService, tmp_path: Path
) -> None:
    query = await start_service("query")
    addresses = {"localhost:8001": spine.ingest.url, "localhost:8002": query.url}
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    saved = SAVED.findall(PAGE.read_text())
    assert len(saved) == 2
    for name, program in saved:
        (tmp_path / name).write_text(here(program, addresses))
    asked = steps()
    assert len(asked) >= 7
    script = f"\necho '{BETWEEN}'\n".join(here(commands, addresses) for commands, _ in asked)
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-ec",
        script,
        cwd=tmp_path,
        env=os.environ | {"JWT_SECRET": spine.environment["JWT_SECRET"]},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    found = output.decode().split(f"{BETWEEN}\n")
    assert process.returncode == 0, output.decode()
    for (commands, printed), answer in zip(asked, found, strict=True):
        assert masked(answer) == masked(printed), commands
