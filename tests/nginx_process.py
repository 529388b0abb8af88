"""The distribution's nginx, in front of a notifier that listens on this machine."""

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nginx_routes import CONFIGURATION
from tracking.devstack.processes import ChildProcess, free_port, is_port_free, ready

NGINX = os.environ.get("NGINX", "/usr/sbin/nginx")

TYPICAL = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    types {{ text/html html; text/javascript js; }}
    gzip on;
    gzip_types *;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/pages;
        location /v1/stream {{
            proxy_pass http://127.0.0.1:{notifier};
            {directives}
        }}
    }}
}}
"""
"""As one writes it who thinks of no streams: answers are buffered and compressed, the notifier gets
HTTP/1.0 and no offers of a WebSocket. It also serves pages."""


@asynccontextmanager
async def typical_proxy(folder: Path, notifier: int, directives: str = "") -> AsyncIterator[str]:
    """The origin of a proxy without any regard for streams, which also serves the files of `folder/pages`."""
    port = free_port()
    # Its workers must be able to read a folder of the tests.
    user = "user root;" if os.getuid() == 0 else ""
    text = TYPICAL.format(folder=folder, port=port, notifier=notifier, directives=directives, user=user)
    async with _running(folder, text, port):
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def deployed_proxy(folder: Path, notifier: int) -> AsyncIterator[str]:
    """The origin of the proxy of the containers, for a notifier at this port of this machine."""
    port, health = free_port(), free_port()
    text = re.sub(r"(?<= )/tmp(?=/)", str(folder), CONFIGURATION.read_text())
    text = text.replace("listen 8080;", f"listen 127.0.0.1:{port};").replace("8081", str(health))
    text = re.sub(r"\bnotifier:8003", f"127.0.0.1:{notifier}", text)
    text = text.replace("worker_processes auto", "worker_processes 1").replace("24000", "64")
    async with _running(folder, text, port):
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def _running(folder: Path, text: str, port: int) -> AsyncIterator[None]:
    configuration = folder / "nginx.conf"
    configuration.write_text(text)
    command = [NGINX, "-p", str(folder), "-e", "stderr", "-c", str(configuration)]
    process = ChildProcess("nginx", command, environment=dict(os.environ), log_path=folder / "nginx.log")

    async def listens() -> bool:
        return not is_port_free(port)

    try:
        await ready(process, listens, seconds=20)
        yield
    finally:
        await process.stop()
