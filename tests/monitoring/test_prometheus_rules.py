"""The alerts and the configuration, read and tried by Prometheus' own tool."""

import subprocess
from pathlib import Path

import pytest
from prometheus_server import FOLDER, program

pytestmark = pytest.mark.monitoring


def promtool(*arguments: str | Path) -> str:
    """What it says; it must agree."""
    process = subprocess.run(
        [program("promtool"), *arguments], cwd=FOLDER, capture_output=True, text=True, check=False, timeout=30
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_the_configuration_and_the_alerts_are_valid() -> None:
    promtool("check", "config", "prometheus.yml")


def test_every_alert_fires_when_it_is_due_and_not_before() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")
