"""The script that makes the broker's users, run with a `rabbitmqctl` that writes down how it was called."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy/rabbitmq/permissions.sh"
PASSWORDS = {
    "ingest": "first-secret",
    "order-state": "second-secret",
    "notifier": "third-secret",
    "webhooks": "another-secret",
    "operator": "fourth-secret",
}

CONTROL = """\
#!{python} -S
import json, sys
arguments = sys.argv[1:]
if arguments[-1] == "list_users":
    print("user\\ttags")
    print("ingest\\t[]")
read = sys.stdin.read() if arguments[0] in ("add_user", "change_password") else None
with open({calls!r}, "a") as calls:
    print(json.dumps([arguments, read]), file=calls)
"""

Call = tuple[list[str], str | None]


@pytest.fixture
def calls(tmp_path: Path) -> list[Call]:
    """Arguments and standard input of each call; of the users only ingest is there."""
    control, log = tmp_path / "rabbitmqctl", tmp_path / "calls"
    control.write_text(CONTROL.format(python=sys.executable, calls=str(log)))
    control.chmod(0o755)
    environment = {f"{name.upper().replace('-', '_')}_PASSWORD": secret for name, secret in PASSWORDS.items()}
    subprocess.run(
        [SCRIPT, "orders"],
        env={"PATH": "/usr/bin:/bin", "RABBITMQCTL": str(control), **environment},
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return [tuple(json.loads(line)) for line in log.read_text().splitlines()]


def test_no_password_is_an_argument(calls: list[Call]) -> None:
    words = " ".join(word for arguments, _ in calls for word in arguments)
    assert not [secret for secret in PASSWORDS.values() if secret in words]


def test_a_password_is_read_from_standard_input_by_a_call_of_two_words(calls: list[Call]) -> None:
    # RabbitMQ 4 reads no standard input if there is any third argument.
    expected = [
        (["change_password" if name == "ingest" else "add_user", name], f"{secret}\n")
        for name, secret in PASSWORDS.items()
    ]
    assert [call for call in calls if call[1] is not None] == expected


def test_every_user_gets_its_permissions_in_the_virtual_host(calls: list[Call]) -> None:
    granted = [arguments for arguments, _ in calls if "set_permissions" in arguments]
    assert [arguments[2:5] for arguments in granted] == [["--vhost", "orders", name] for name in PASSWORDS]
