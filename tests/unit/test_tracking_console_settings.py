"""What the one-machine stack tells its services of the console."""

import jwt
import pytest

from tracking.devstack import service_process as module
from tracking.devstack.service_process import console_settings
from tracking_query.settings import QuerySettings

SECRET = "a-secret-of-the-console-tests-0123456789"
PORTS = {"ingest": 1001, "query": 1002, "notifier": 1003, "order-state": 1004}


def test_query_takes_the_settings_and_finds_a_console(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = console_settings(PORTS, SECRET, signed_in=True)
    for name, value in {**environment, "AMQP_URL": "a", "MONGODB_URL": "m", "JWT_SECRET": SECRET}.items():
        monkeypatch.setenv(name, value)
    settings = QuerySettings()
    assert settings.console_dir is not None
    assert (settings.console_dir / "index.html").is_file()
    assert settings.public_ingest_url == "http://127.0.0.1:1001"
    assert settings.public_stream_url == "ws://127.0.0.1:1003/v1/stream"
    claims = jwt.decode(settings.console_demo_token, SECRET, ["HS256"])
    assert (claims["source_type"], claims["merchants"]) == ("operator", ["*"])


def test_nobody_is_signed_in_without_being_asked() -> None:
    assert "CONSOLE_DEMO_TOKEN" not in console_settings(PORTS, SECRET, signed_in=False)


def test_the_console_may_speak_to_the_services_by_both_names_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ALLOWED_ORIGINS", raising=False)
    own = "http://127.0.0.1:1002,http://localhost:1002"
    assert console_settings(PORTS, SECRET, signed_in=False)["ALLOWED_ORIGINS"] == own
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://desk.example")
    assert (
        console_settings(PORTS, SECRET, signed_in=False)["ALLOWED_ORIGINS"] == f"https://desk.example,{own}"
    )


@pytest.mark.parametrize("console", [True, False])
def test_origins_of_the_option_come_beside_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, console: bool
) -> None:
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://desk.example")
    if not console:
        monkeypatch.setattr(module, "CONSOLE_FOLDER", module.CONSOLE_FOLDER / "absent")
    more = ["http://localhost:8080", "http://localhost:5173"]
    environment = console_settings(PORTS, SECRET, signed_in=False, allowed_origins=more)
    assert environment["ALLOWED_ORIGINS"].split(",")[:3] == ["https://desk.example", *more]


def test_where_there_is_no_console_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONSOLE_FOLDER", module.CONSOLE_FOLDER / "absent")
    assert console_settings(PORTS, SECRET, signed_in=True) == {}
