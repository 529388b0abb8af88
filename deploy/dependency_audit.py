"""Looks every package of the locks up among the known vulnerabilities: ``python deploy/dependency_audit.py``.

It asks a public service, through pip-audit, and so needs the network: a copy of the advisories in this
repository would be out of date within days, and say so to nobody. With `--if-online` a service that does not
answer is told and is no fault; without it, it is. A package that the service does not know is a fault always:
"nothing known" must never mean "not asked".
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-image.lock", "requirements-dev.lock")

ACCEPTED: dict[str, str] = {}
"""Advisory id → why it does not concern this project."""

TIMEOUT_SECONDS = 10
"""For one answer of the service."""

FOUND, NOT_ASKED = 1, 2


def faults_of(report: dict[str, Any], accepted: dict[str, str]) -> list[str]:
    """The vulnerabilities and gaps in a report of pip-audit, one a line."""
    faults = []
    for package in report["dependencies"]:
        if "skip_reason" in package:
            faults.append(f"{package['name']}: not looked up: {package['skip_reason']}")
        for advisory in package.get("vulns", []):
            if not {advisory["id"], *advisory.get("aliases", [])} & accepted.keys():
                fixed = ", ".join(advisory["fix_versions"]) or "no version yet"
                faults.append(f"{package['name']} {package['version']}: {advisory['id']}, fixed in {fixed}")
    return faults


def report_on(lock: Path) -> tuple[dict[str, Any] | None, str]:
    """pip-audit's report on a lock, and what it said beside; None if it came to no end."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "report.json"
        command = ["--requirement", str(lock), "--disable-pip", "--require-hashes", "--progress-spinner=off"]
        options = ["--vulnerability-service=osv", f"--timeout={TIMEOUT_SECONDS}", "--format=json"]
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", *command, *options, f"--output={output}"],
            capture_output=True,
            text=True,
            check=False,
        )
        report = json.loads(output.read_text()) if output.exists() and output.stat().st_size else None
    return report, (done.stderr.strip().splitlines() or [""])[-1]


def main(arguments: list[str]) -> int:
    """The exit code: 0 nothing known, 1 something found, 2 nobody could be asked."""
    code = 0
    for name in LOCKS:
        report, said = report_on(ROOT / name)
        if report is None:
            print(f"dependency audit: {name} NOT looked up, the service of advisories does not answer")
            print(f"  {said[:200]}")
            return 0 if "--if-online" in arguments else NOT_ASKED
        faults = faults_of(report, ACCEPTED)
        print(f"dependency audit: {name}: {len(report['dependencies'])} packages, {len(faults)} faults")
        print("".join(f"  {fault}\n" for fault in faults), end="")
        code = FOUND if faults else code
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
