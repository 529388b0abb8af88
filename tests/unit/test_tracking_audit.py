"""What `tracking audit` is asked for, and how an act is told."""

import getpass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tracking.devstack.tokens import InvalidClaims
from tracking.upkeep.audit import actor_of, audit_trail_of, describe, time_since
from tracking_shared.contracts.documents import AuditDocument
from tracking_shared.contracts.timestamps import now
from tracking_shared.storage.audit_trail import Actor, AuditTrail

TIME = datetime(2026, 3, 1, 8, tzinfo=UTC)


def entry(**details: Any) -> AuditDocument:
    return {
        "_id": "e-1",
        "at": TIME,
        "actor": {"sub": "ann", "via": "command-line"},
        "action": "parked.skip",
        "subject": "o-1",
        "details": details,
        "expires_at": None,
    }


def test_the_user_of_the_system_acts_unless_somebody_is_named() -> None:
    assert actor_of("") == Actor(getpass.getuser(), "command-line")
    assert actor_of("Ann Abel") == Actor("Ann Abel", "command-line")


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "a" * 129])
def test_a_name_that_would_spoil_the_trail_is_refused(name: str) -> None:
    with pytest.raises(InvalidClaims, match="--as"):
        actor_of(name)


def test_an_act_is_one_line_whatever_its_details_are() -> None:
    told = describe(entry(update_id="u-1", error="ValueError in a.b", behind=2, until=None))
    assert told == (
        "2026-03-01T08:00:00.000Z  ann (command-line)  parked.skip  o-1"
        '  update_id=u-1 error="ValueError in a.b" behind=2 until=null'
    )
    assert describe(entry(text="a\nb")).count("\n") == 0
    assert describe(entry()).endswith("  o-1")


def test_since_is_a_time_or_how_long_ago() -> None:
    assert time_since("") is None
    assert time_since("2026-03-01T09:00:00+01:00") == TIME
    ago = time_since("2h")
    assert ago is not None
    assert timedelta(0) <= now() - timedelta(hours=2) - ago < timedelta(minutes=1)


@pytest.mark.parametrize("text", ["yesterday", "2026-01-31", "2026-01-31T08:15:00", "999999999d", "1w"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InvalidClaims, match="--since"):
        time_since(text)


@pytest.mark.parametrize("days", ["0", "-1", "x", "36501", "٤"])
def test_a_wrong_number_of_days_is_refused(days: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_DAYS", days)
    with pytest.raises(InvalidClaims, match="AUDIT_DAYS"):
        audit_trail_of(None)  # type: ignore[arg-type] # it is not reached


def test_the_days_of_the_environment_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_DAYS", "7")
    assert isinstance(audit_trail_of(None), AuditTrail)  # type: ignore[arg-type] # only kept
