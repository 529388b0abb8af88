"""What the page on security promises: each threat with its test, each action of the audit trail."""

import re

from pages import ROOT, read, section, tables

from tracking_shared.storage.audit_trail import ACTIONS

PAGE = "docs/security.md"


def test_every_threat_is_answered_and_shown_by_a_test_that_exists() -> None:
    rows = tables(section(read(PAGE), "## Threats"))[0]
    assert len(rows) > 20
    for row in rows:
        assert row["what answers it"], row["threat"]
        named = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", row["shown by"])
        assert named, row["threat"]
        for path, name in named:
            assert (ROOT / path).is_file(), path
            assert not name or re.search(rf"^(async )?def {name}\(", read(path), re.MULTILINE), name


def test_every_action_of_the_audit_trail_is_in_its_table() -> None:
    rows = tables(section(read(PAGE), "## The audit trail"))[0]
    assert {row["action"]: row["what it says"] for row in rows} == {
        action: said.replace("`", "") for action, said in ACTIONS.items()
    }
