"""The choice of the servers that tests run on, as far as it shows without Docker."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from servers import ContainerBroker, compose_service, create_vhosts, in_containers, shared_database


class Executed(NamedTuple):
    exit_code: int
    output: bytes


@dataclass
class FakeContainer:
    """The part of a container that is used here."""

    exit_code: int = 0
    commands: list[list[str]] = field(default_factory=list)

    def get_container_host_ip(self) -> str:
        return "docker.example"

    def get_exposed_port(self, port: int) -> int:
        return port + 30_000

    def exec(self, command: list[str]) -> Executed:
        self.commands.append(command)
        return Executed(self.exit_code, b"said")


def test_containers_are_used_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_SERVERS", raising=False)
    assert not in_containers()
    monkeypatch.setenv("TEST_SERVERS", "containers")
    assert in_containers()


async def test_a_misspelt_choice_is_not_taken_for_the_other_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TEST_SERVERS", "container")
    with pytest.raises(ValueError, match="TEST_SERVERS: nodes or containers"):
        async with shared_database(tmp_path):
            pass


def test_the_versions_are_those_of_compose() -> None:
    assert compose_service("rabbitmq")["image"].startswith("rabbitmq:4")
    assert compose_service("mongodb")["image"].startswith("mongo:8")
    assert "--replSet=rs0" in compose_service("mongodb")["command"]


async def test_a_broker_in_a_container_is_reached_and_controlled_through_it() -> None:
    container = FakeContainer()
    broker = ContainerBroker(container)

    assert f"{broker.url}test-1" == "amqp://guest:guest@docker.example:35672/test-1"
    assert await broker.control("status") == "said"
    await create_vhosts(broker, ["test-1", "test-2"])
    assert container.commands[0] == ["rabbitmqctl", "--quiet", "status"]
    assert container.commands[1][:3] == ["rabbitmqctl", "--quiet", "eval"]
    assert container.commands[1][3].count("rabbit_vhost:add") == 2


async def test_a_control_command_that_fails_in_the_container_is_an_error() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        await ContainerBroker(FakeContainer(exit_code=64)).control("nonsense")
