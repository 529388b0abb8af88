"""Installs the built packages into empty environments, without a package index."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "clients/build_packages"

OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
"""Environment variables with which `pip install` takes the wheel alone."""


def build_packages(folder: Path) -> tuple[Path, Path]:
    """Builds the wheel and the tarball into `folder`."""
    subprocess.run([BUILD, folder], check=True, capture_output=True)
    (wheel,), (tarball,) = folder.glob("*.whl"), folder.glob("*.tgz")
    return wheel, tarball


def site_packages(environment: Path) -> Path:
    """The folder of the packages of a virtual environment."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return environment / "lib" / version / "site-packages"


def link_dependencies(requirements: Iterable[str], folder: Path) -> set[str]:
    """Links what these requirements need, and no other package, from this environment into another one.
    Returns the names of the packages.
    """
    linked: dict[str, Distribution] = {}
    waiting = [Requirement(each) for each in requirements]
    while waiting:
        requirement = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if requirement.name in linked:
            continue
        found = linked[requirement.name] = distribution(requirement.name)
        assert requirement.specifier.contains(found.version, prereleases=True), requirement
        waiting += [Requirement(each) for each in found.requires or ()]
    for each in linked.values():
        for top in {path.parts[0] for path in each.files or () if ".." not in path.parts}:
            if top != "__pycache__" and not (folder / top).exists():
                (folder / top).symlink_to(each.locate_file(top))
    return set(linked)


async def run(*command: str | Path, folder: Path, environment: dict[str, str]) -> str:
    """Runs a command to its end, without the variables of this environment, and returns what it prints."""
    process = await start(*command, folder=folder, environment=environment)
    output, errors = await process.communicate()
    assert process.returncode == 0, (output + errors).decode()
    return output.decode()


async def start(
    *command: str | Path, folder: Path, environment: dict[str, str]
) -> asyncio.subprocess.Process:
    """Starts a command."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=inherited | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
