"""Runs the proxies of `deploy/proxies` as they are: only addresses, ports and paths of files are changed."""

import asyncio
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from nginx_process import NGINX
from tls_broker import Authority
from tracking.devstack.processes import ChildProcess, is_port_free, ready

RECIPES = Path(__file__).parents[1] / "deploy/proxies"
HAPROXY = os.environ.get("HAPROXY", "/usr/sbin/haproxy")
PORTS = {"ingest": 8001, "query": 8002, "notifier": 8003}

Replicas = Mapping[str, Sequence[str]]
"""Service → `host:port` of its two replicas."""

Start = Callable[..., AbstractAsyncContextManager["RunningProxy"]]


class RunningProxy:
    """A proxy that listens with a certificate of its own authority."""

    def __init__(self, name: str, port: int, folder: Path) -> None:
        self.name = name
        self.port = port
        self.authority_file = folder / "ca.pem"
        self.admin_socket = folder / "admin.sock"

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def stream_url(self) -> str:
        return f"wss://localhost:{self.port}/v1/stream"

    def tls(self) -> ssl.SSLContext:
        """A context that trusts the authority, and nobody else."""
        return ssl.create_default_context(cafile=self.authority_file)

    async def command(self, text: str) -> str:
        """A command of the administrative socket of HAProxy, and its answer."""
        reader, writer = await asyncio.open_unix_connection(self.admin_socket)
        writer.write(f"{text}\n".encode())
        answer = await reader.read()
        writer.close()
        return answer.decode()


@asynccontextmanager
async def nginx(
    folder: Path, port: int, replicas: Replicas, changes: Mapping[str, str] | None = None
) -> AsyncIterator[RunningProxy]:
    """nginx with its recipe. `changes` are made in the files of its folder `site`."""
    proxy = _with_certificate("nginx", port, folder)
    shutil.copy(RECIPES / "nginx/nginx.conf", folder)
    (folder / "site").mkdir()
    paths = (
        "\n".join(f"{name}_temp_path {folder}/{name};" for name in ("proxy", "fastcgi", "uwsgi", "scgi"))
        + f"\nclient_body_temp_path {folder}/body;\n"
    )
    upstreams = (RECIPES / "nginx/site/upstreams.conf").read_text()
    for service, addresses in replicas.items():
        for number, address in enumerate(addresses, 1):
            upstreams = _replaced(upstreams, f"10.0.0.1{number}:{PORTS[service]}", address)
    server = (RECIPES / "nginx/site/server.conf").read_text()
    here = {"listen 443": f"listen 127.0.0.1:{port}", "/etc/nginx/site": str(folder)}
    for old, new in (here | dict(changes or {})).items():
        server = _replaced(server, old, new)
    (folder / "site/upstreams.conf").write_text(paths + upstreams)
    (folder / "site/server.conf").write_text(server)
    command = [NGINX, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    command += ["-g", f"daemon off; pid {folder}/nginx.pid;"]
    async with _running(proxy, command, dict(os.environ), folder):
        yield proxy


@asynccontextmanager
async def haproxy(
    folder: Path, port: int, replicas: Replicas, changes: Mapping[str, str] | None = None
) -> AsyncIterator[RunningProxy]:
    """HAProxy with its recipe. `changes`: its variables; a name that is none of them is a text to replace."""
    proxy = _with_certificate("haproxy", port, folder)
    text = (RECIPES / "haproxy/haproxy.cfg").read_text()
    environment = {
        "TRACKING_BIND": f"127.0.0.1:{port}",
        "TRACKING_CERTIFICATE": str(folder / "certificate-and-key.pem"),
        "TRACKING_ADMIN_SOCKET": str(proxy.admin_socket),
        "TRACKING_MAX_CONNECTIONS": "500",
    }
    for service, addresses in replicas.items():
        for number, address in enumerate(addresses, 1):
            environment[f"TRACKING_{service.upper()}_{number}"] = address
    for old, new in (changes or {}).items():
        if old.startswith("TRACKING_"):
            environment[old] = new
        else:
            text = _replaced(text, old, new)
    assert all(f"presetenv {name} " in text for name in environment)
    if os.getuid():  # only root may become another user
        for line in ("user haproxy", "group haproxy", "chroot /var/lib/haproxy"):
            text = _replaced(text, f"    {line}\n", "")
    (folder / "haproxy.cfg").write_text(text)
    command = [HAPROXY, "-db", "-f", str(folder / "haproxy.cfg")]
    async with _running(proxy, command, dict(os.environ) | environment, folder):
        yield proxy


PROXIES: dict[str, Start] = {"nginx": nginx, "haproxy": haproxy}


def _with_certificate(name: str, port: int, folder: Path) -> RunningProxy:
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    authority = Authority(folder)
    authority.issue("certificate", "localhost")
    pair = (folder / "certificate.pem").read_bytes() + (folder / "certificate.key").read_bytes()
    (folder / "certificate-and-key.pem").write_bytes(pair)
    return RunningProxy(name, port, folder)


def _replaced(text: str, old: str, new: str) -> str:
    assert old in text, old
    return text.replace(old, new)


@asynccontextmanager
async def _running(
    proxy: RunningProxy, command: Sequence[str], environment: Mapping[str, str], folder: Path
) -> AsyncIterator[None]:
    process = ChildProcess(
        proxy.name, command, environment=environment, log_path=folder / f"{proxy.name}.log"
    )

    async def listens() -> bool:
        return not is_port_free(proxy.port)

    try:
        await ready(process, listens, seconds=20)
        yield
    finally:
        await process.stop(grace_seconds=2)
