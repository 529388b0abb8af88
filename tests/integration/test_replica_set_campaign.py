"""A short round of `make test-replica-set`, and whether its judges notice a fault that is planted."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from replica_set.campaign import run_round
from servers import Broker
from statements.recording import recorded_shapes, with_recording
from statements.reviewed import not_reviewed, read_list
from tracking.devstack.service_process import PORT_VARIABLES, ServiceProcess

TIME_LIMITS = frozenset({"time limit", "time limit, written", "time limit, not written"})
"""After these the driver does not find out by itself whether a commit was done."""


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_nothing_is_lost_repeated_or_reordered_while_the_database_changes_its_primary(
    broker_node: Broker, mongodb_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = tmp_path / "recorded"
    monkeypatch.setenv("RECORDED_STATEMENTS", str(recorded))
    monkeypatch.setenv("PYTHONPATH", with_recording(os.environ.get("PYTHONPATH", "")))
    result = await run_round(broker_node, mongodb_url, tmp_path, seed="short", seconds=5, readers=False)
    assert not result.faults
    assert result.number_of_faults > 5
    assert result.events > 50
    assert not not_reviewed(recorded_shapes(recorded), read_list())


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("careless", "noticed"), [("presuming", "is lost"), ("forgetful", "was answered")])
async def test_the_judges_notice_an_order_state_that_is_careless_about_commits(
    *,
    careless: str,
    noticed: str,
    broker_node: Broker,
    mongodb_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PORT_VARIABLES, "careless_order_state", "ORDER_STATE_PORT")
    monkeypatch.setenv("PYTHONPATH", with_recording(str(Path(__file__).parents[1])))

    def start(name: str, module: str, environment: Mapping[str, str], logs: Path) -> ServiceProcess:
        if module == "order_state":
            module, environment = "careless_order_state", {**environment, "CARELESS": careless}
        return ServiceProcess(module, environment=environment, logs=logs, name=name)

    result = await run_round(
        broker_node,
        mongodb_url,
        tmp_path,
        seed="careless",
        seconds=6,
        readers=False,
        start=start,
        per_thousand={"commit": 300, "statement": 50},
        only=TIME_LIMITS,
        judge_seconds=5,
    )
    assert noticed in "\n".join(result.faults)
