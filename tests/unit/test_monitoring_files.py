"""The alerts, the runbook and the dashboard: that they go together, and name what the services count."""

import json
import re
from typing import Any

import pytest
import yaml
from pages import ROOT, anchors, read, section
from test_docs_tables import metrics

FOLDER = "deploy/monitoring"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(read(f"{FOLDER}/alerts.yml"))["groups"]
    for rule in group["rules"]
}
DASHBOARD: dict[str, Any] = json.loads(read(f"{FOLDER}/dashboards/tracking.json"))
RUNBOOK = read("docs/runbook.md")

OF_OTHERS = {
    *("up", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"),
    *("rabbitmq_queue_messages", "rabbitmq_queue_messages_ready", "rabbitmq_queue_consumers"),
    "rabbitmq_raft_log_commit_index",
}
"""Of Prometheus, of its client library, and of the broker's plug-in."""

METRIC = re.compile(r"\b(?:tracking|rabbitmq|process)_\w+|\bup\b")


def expressions() -> list[str]:
    """All queries of the dashboard."""
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def named_in(text: str) -> set[str]:
    """The metrics named in a text; the series of a histogram count as the histogram."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in METRIC.findall(text)}


def test_every_metric_of_alerts_dashboard_and_runbook_exists() -> None:
    ours = {name for (name, _, _), _ in metrics()}
    asked = {name for rule in ALERTS.values() for name in named_in(rule["expr"])}
    asked |= {name for expression in expressions() for name in named_in(expression)}
    asked |= {name for name in named_in(RUNBOOK) if name.startswith("tracking_")}
    assert asked <= ours | OF_OTHERS
    unwatched = ours - {name for expression in expressions() for name in named_in(expression)}
    assert unwatched <= {
        # Answered by alerts, or told from the outside.
        "tracking_waits_for_upgrade",
        *("tracking_ingest_undecodable_total", "tracking_feed_undecodable_total"),
        "tracking_stream_messages_total",
        "tracking_stream_no_request_total",
    }


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    page, anchor = rule["annotations"]["runbook_url"].split("#")
    assert (page, anchor) == ("docs/runbook.md", name.lower())
    assert anchor in anchors(RUNBOOK)
    entry = section(RUNBOOK, f"## {name}")
    assert f"*{rule['labels']['severity'].capitalize()}.*" in entry
    assert "Look at: " in entry


def test_the_runbook_has_no_entry_for_an_alert_that_is_gone() -> None:
    assert re.findall(r"^## (.*)$", RUNBOOK, re.MULTILINE) == [*ALERTS]
    assert {*re.findall(r"Tracking[A-Z]\w+", RUNBOOK)} <= ALERTS.keys()


def test_every_alert_has_a_test() -> None:
    tests = yaml.safe_load(read(f"{FOLDER}/alerts_test.yml"))["tests"]
    for name in ALERTS:
        (test,) = [test for test in tests if test["name"] == name]
        firing = [s for check in test["promql_expr_test"] for s in check.get("exp_samples", ())]
        assert any(f'alertname="{name}"' in sample["labels"] for sample in firing)


def test_the_dashboard_asks_the_data_source_that_is_provisioned() -> None:
    (source,) = yaml.safe_load(read(f"{FOLDER}/grafana/datasources/prometheus.yml"))["datasources"]
    asked = {
        part["datasource"]["uid"]
        for panel in DASHBOARD["panels"]
        for part in (panel, *panel.get("targets", ()))
        if "datasource" in part
    }
    assert asked == {source["uid"]}
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert len({(place["x"], place["y"]) for place in places}) == len(places)


def test_prometheus_asks_every_service_of_the_compose_file_at_its_port() -> None:
    compose = yaml.safe_load(read("docker-compose.yml"))["services"]
    jobs = yaml.safe_load(read(f"{FOLDER}/prometheus.yml"))["scrape_configs"]
    for job in jobs:
        (found,) = job["dns_sd_configs"]
        name = job["job_name"].removeprefix("tracking-")
        assert found["names"] == [name]
        port = compose[name]["environment"].get(f"{name.replace('-', '_').upper()}_PORT", 15692)
        assert found["port"] == port
    assert len(jobs) == 6
    mounted = [volume.split(":")[0] for volume in compose["grafana"]["volumes"][1:]]
    assert all((ROOT / folder).is_dir() for folder in mounted)
