"""What the services must know so that the operations console works on this machine."""

import os
from collections.abc import Sequence
from pathlib import Path

from tracking.tokens import mint_token

CONSOLE_FOLDER = Path(__file__).resolve().parents[3] / "web" / "console"
"""In the source tree, which the one-machine stack runs from."""

DEMO_TOKEN_SECONDS = 24 * 3600


def console_settings(
    ports: dict[str, int], jwt_secret: str, *, signed_in: bool, allowed_origins: Sequence[str] = ()
) -> dict[str, str]:
    """The environment of the services: where the console is, where it finds them, and whose pages may call.

    `ports` is by service. `signed_in`: whoever loads the console is an operator for a day. `allowed_origins`
    come on top of `ALLOWED_ORIGINS` in the environment and of the console's own. Where this is installed
    without the console there is nothing to say of it.
    """
    given = [*filter(None, [os.environ.get("ALLOWED_ORIGINS")]), *allowed_origins]
    if not CONSOLE_FOLDER.is_dir():
        return {"ALLOWED_ORIGINS": ",".join(given)} if given else {}
    own = [f"http://{host}:{ports['query']}" for host in ("127.0.0.1", "localhost")]
    environment = {
        "CONSOLE_DIR": str(CONSOLE_FOLDER),
        "PUBLIC_INGEST_URL": f"http://127.0.0.1:{ports['ingest']}",
        "PUBLIC_STREAM_URL": f"ws://127.0.0.1:{ports['notifier']}/v1/stream",
        "ALLOWED_ORIGINS": ",".join([*given, *own]),
    }
    if signed_in:
        environment["CONSOLE_DEMO_TOKEN"] = _operator_token(jwt_secret)
    return environment


def _operator_token(jwt_secret: str) -> str:
    return mint_token(
        jwt_secret,
        subject="demo-operator",
        source_type="operator",
        scope="orders:write orders:read",
        merchants=["*"],
        ttl_seconds=DEMO_TOKEN_SECONDS,
    )
