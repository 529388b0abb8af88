"""An engine of its own, data, socket and process id in one folder, and the images that the files name."""

import asyncio
import os
import shutil
import subprocess
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from containers.commands import CommandFailed, run

ROOT = Path(__file__).resolve().parents[2]
IMAGES = Path(__file__).with_name("images")
START_SECONDS = 60.0
STOP_SECONDS = 60.0
LEFT_OUT = ("./proc", "./sys", "./dev")


class Engine:
    """A running engine, and Compose on it."""

    def __init__(self, folder: Path, secrets: dict[str, str]) -> None:
        self.folder = folder
        self.environment = os.environ | secrets
        self.environment |= {"DOCKER_HOST": self.host, "DOCKER_CONFIG": str(folder / "client")}
        # What is run in the containers is on this machine.
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            self.environment.pop(name, None)

    @property
    def host(self) -> str:
        """Its socket, as clients take it."""
        return f"unix://{self.folder / 'engine/docker.sock'}"

    async def docker(self, *words: str, seconds: float = 120) -> str:
        """What the client writes."""
        return await run("docker", *words, seconds=seconds, environment=self.environment)

    async def compose(self, *words: str, seconds: float = 180) -> str:
        """What Compose writes, with the project's file as it is."""
        program = str(self.folder / "bin/docker-compose")
        file = str(ROOT / "docker-compose.yml")
        return await run(program, "-f", file, *words, seconds=seconds, environment=self.environment)

    async def build_images(self) -> None:
        """The base images from their file trees, the stand-ins, and the image of the project."""
        for name, tag in (
            ("python", "python:3.11-slim-bookworm"),
            ("nginx", "nginx:stable"),
            ("rabbitmq", "tracking-root-rabbitmq"),
        ):
            await self._import(name, tag)
        await self.docker("build", "--tag", "rabbitmq:4-management", str(IMAGES / "rabbitmq"))
        with TemporaryDirectory() as made:
            context = Path(made) / "mongodb"
            shutil.copytree(IMAGES / "mongodb", context)
            _copy_database(context / "packages")
            await self.docker("build", "--tag", "mongo:8", str(context))
        words = ("build", "--network", "host", "--tag", "tracking", "--target", "service")
        await self.docker(*words, "--file", str(ROOT / "deploy/Dockerfile"), str(ROOT), seconds=400)

    async def _import(self, name: str, tag: str) -> None:
        root = self.folder / "roots" / name
        if name == "python" and not (root / "usr/bin/python").exists():
            (root / "usr/bin/python").symlink_to("python3")
        # Made anew where the tree was: what is built on it is kept otherwise, from run to run.
        marker, archive = self.folder / "engine" / f"{name}.imported", self.folder / f"{name}.tar"
        made = (self.folder / "roots" / f"{name}.complete").stat().st_mtime
        if marker.exists() and marker.stat().st_mtime > made and await self.docker("images", "--quiet", tag):
            return
        try:
            left_out = [f"--exclude={path}" for path in LEFT_OUT]
            await run("tar", "-C", str(root), *left_out, "-cf", str(archive), ".")
            await self.docker("import", str(archive), tag)
            marker.touch()
        finally:
            archive.unlink(missing_ok=True)


def _copy_database(packages: Path) -> None:
    """The embedded database and the driver, from the environment that this runs in."""
    site = Path(sysconfig.get_path("platlib"))
    for name in ("bson", "pymongo", "gridfs", "dns", "secantusdb.scripts", "secantusdb.libs"):
        shutil.copytree(site / name, packages / name)


@asynccontextmanager
async def engine(folder: Path, secrets: dict[str, str]) -> AsyncIterator[Engine]:
    """An engine while the body runs; afterwards nothing of it runs, and the packet filter is as it was.

    Raises:
        CommandFailed: it could not be started.
    """
    made = Engine(folder, secrets)
    place = folder / "engine"
    if _is_running(place / "pid"):
        raise CommandFailed(f"dockerd: one runs already in {place}, process {(place / 'pid').read_text()}")
    place.mkdir(parents=True, exist_ok=True)
    plugins = folder / "client/cli-plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    for name in ("docker-compose", "docker-buildx"):
        (plugins / name).unlink(missing_ok=True)
        (plugins / name).symlink_to(folder / "bin" / name)
    filters = await run("iptables-save")
    words = [f"--data-root={place / 'data'}", f"--exec-root={place / 'exec'}", f"--pidfile={place / 'pid'}"]
    process = _start([*words, f"--host={made.host}"], place / "log")
    try:
        await _answers(made, process)
        yield made
    finally:
        with suppress(CommandFailed):
            await made.compose("--profile", "tools", "down", "--volumes", "--timeout", "5")
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        await asyncio.to_thread(_restore_network, filters)


def _start(options: list[str], log_path: Path) -> "subprocess.Popen[bytes]":
    with log_path.open("wb") as log:
        # In a session of its own: Ctrl-C must not end it before what runs on it.
        return subprocess.Popen(
            ["dockerd", *options],  # noqa: S607 - that of the distribution, wherever it is
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _restore_network(filters: str) -> None:
    # The engine leaves its bridge and its rules; forwarding between others would be forbidden from then on.
    for command in (["ip", "link", "delete", "docker0"], ["iptables-restore"]):
        subprocess.run(command, input=filters, text=True, capture_output=True, check=False)


async def _answers(made: Engine, process: "subprocess.Popen[bytes]") -> None:
    log = made.folder / "engine/log"
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while True:
        with suppress(CommandFailed):
            await made.docker("version", seconds=10)
            return
        if process.poll() is not None or asyncio.get_running_loop().time() > deadline:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            raise CommandFailed(f"dockerd: it does not answer\n{last}")
        await asyncio.sleep(0.3)


def _is_running(pid_file: Path) -> bool:
    with suppress(OSError, ValueError):
        os.kill(int(pid_file.read_text()), 0)
        return True
    return False
