"""What the dependency audit makes of what pip-audit reports."""

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
from pages import ROOT

CLEAN = {"name": "orjson", "version": "3.11.0", "vulns": []}
VULNERABLE = {
    "name": "requests",
    "version": "2.0",
    "vulns": [{"id": "PYSEC-2018-28", "aliases": ["CVE-2018-18074"], "fix_versions": ["2.20"]}],
}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found and could not be audited: ours (1)"}


@pytest.fixture(scope="module")
def faults_of() -> Callable[[dict[str, Any], dict[str, str]], list[str]]:
    spec = importlib.util.spec_from_file_location("dependency_audit", ROOT / "deploy/dependency_audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[dict[str, Any], dict[str, str]], list[str]] = module.faults_of
    return found


def test_a_known_vulnerability_is_a_fault_unless_it_is_accepted(faults_of: Any) -> None:
    report = {"dependencies": [CLEAN, VULNERABLE]}
    assert faults_of(report, {}) == ["requests 2.0: PYSEC-2018-28, fixed in 2.20"]
    assert faults_of(report, {"CVE-2018-18074": "we never redirect"}) == []
    assert faults_of({"dependencies": [CLEAN]}, {}) == []


def test_a_package_that_was_not_looked_up_is_a_fault(faults_of: Any) -> None:
    """pip-audit itself calls that "no known vulnerabilities", and exits with 0."""
    (fault,) = faults_of({"dependencies": [CLEAN, UNKNOWN]}, {})
    assert fault.startswith("ours: not looked up")
