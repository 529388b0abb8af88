"""What a person sees of a report."""

import pytest

from tracking.cli.report import NoReport, duration_text, report_text, time_of_option

LEG = {"leg_from": "created", "leg_to": "picked_up", "count": 1200, "negative": 1}
BACKWARDS = {"leg_from": "picked_up", "leg_to": "in_transit", "count": 2, "negative": 2}


def durations(**fields: object) -> dict[str, object]:
    rows = [
        LEG | {"p50": 3600.0, "p90": 7200.0, "p99": 14400.0},
        BACKWARDS | {"p50": -90.0, "p90": -60.0, "p99": -1.5},
    ]
    return {"from": "2026-03-01T00:00:00.000Z", "interval": None, "rows": rows} | fields


def test_a_report_is_a_table_and_a_chart() -> None:
    assert report_text("durations", durations(), width=54).splitlines() == [
        "durations · from 2026-03-01T00:00:00.000Z",
        "",
        "leg from   leg to      count  negative       p50       p90     p99",
        "─────────  ──────────  ─────  ────────  ────────  ────────  ──────",
        "created    picked_up   1,200         1     1.0 h     2.0 h   4.0 h",
        "picked_up  in_transit      2         2  -1.5 min  -1.0 min  -1.5 s",
        "",
        "█ to p50, ▓ to p90, ░ to p99",
        "created → picked_up     ██████▓▓▓▓▓▓░░░░░░░░░░░ 4.0 h",
        "picked_up → in_transit  -1.5 s",
    ]


def test_a_chart_is_as_wide_as_the_terminal_where_there_is_room() -> None:
    for width in (60, 100, 200):
        bars = report_text("durations", durations(), width).partition("░ to p99")[2].splitlines()
        assert width - 2 <= max(len(line) for line in bars) <= width
    assert "█" in report_text("durations", durations(), width=1)


def test_a_time_stands_once_in_the_chart() -> None:
    labels: dict[str, object] = {
        "start": "2026-03-01T23:00:00.000Z",
        "local_start": "2026-03-02T00:00:00+01:00",
    }
    rows = [labels | {"status": status, "entered": 4, "left": 1} for status in ("created", "picked_up")]
    text = report_text("status-counts", {"interval": "day", "rows": rows}, width=40)
    assert text.splitlines()[-2:] == [
        "2026-03-02  created    ███████████████ 4",
        "            picked_up  ███████████████ 4",
    ]
    assert "23:00" not in text


def test_what_is_there_is_seen_however_small() -> None:
    senders = [("driver", "dora", 1), ("system", "shop", 100_000)]
    rows = [
        {"reason": "version-conflict", "source_type": kind, "source_id": name, "count": count}
        for kind, name, count in senders
    ]
    text = report_text("refusals", {"rows": rows}, width=60)
    assert "version-conflict  driver  dora  ▏ 1" in text


def test_the_last_class_of_age_has_no_end() -> None:
    row = {"status": "created", "age_from": 2_592_000, "age_to": None, "count": 3}
    assert "created  30.0 d to …  █" in report_text("open-orders", {"rows": [row]}, width=60)


def test_a_report_without_rows_says_so() -> None:
    assert report_text("refusals", {"rows": []}, width=60).endswith("nothing to count")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (60, "1.0 min"), (5400, "1.5 h"), (-172800, "-2.0 d")],
)
def test_a_duration_is_told_in_its_greatest_unit(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_date_is_its_midnight_in_the_zone() -> None:
    assert time_of_option("--from", "2026-03-01", "Europe/Berlin") == "2026-03-01T00:00:00+01:00"
    assert time_of_option("--from", "2026-03-01T08:00:00Z", "Europe/Berlin") == "2026-03-01T08:00:00Z"


@pytest.mark.parametrize(("date", "zone"), [("2026-02-30", "UTC"), ("2026-03-01", "Mars/Crater")])
def test_a_date_that_is_none_is_refused(date: str, zone: str) -> None:
    with pytest.raises(NoReport, match=f"{date}|{zone}"):
        time_of_option("--from", date, zone)
