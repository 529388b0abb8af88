"""Whatever is wrong: one clear line on standard error, and an exit code that is not 0."""

import socket
from pathlib import Path

import pytest
from command import ANY_PORTS

from command_line import Finished, run
from tracking.devstack.data_folder import open_data_folder
from tracking.devstack.processes import free_port
from tracking_shared.storage.database import open_database

CONFIGURATION, UNAVAILABLE = 78, 69

Environment = dict[str, str]


@pytest.fixture
def environment(service_environment: Environment) -> Environment:
    """The session's broker and database: nothing but the services is started."""
    return service_environment


def _said(finished: Finished, exit_code: int, *words: str) -> None:
    lines = finished.errors.splitlines()
    assert len(lines) == 1, finished
    assert lines[0].startswith("tracking: ")
    assert all(word in lines[0] for word in words), lines
    assert finished.exit_code == exit_code


async def _up(folder: Path, environment: Environment, *arguments: str) -> Finished:
    return await run("up", "--data-dir", str(folder), *ANY_PORTS, *arguments, environment=environment)


async def test_all_busy_ports_are_named_with_their_options(tmp_path: Path, environment: Environment) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as another,
    ):
        query, notifier = (str(taken.getsockname()[1]) for taken in (one, another))
        finished = await _up(tmp_path, environment, "--query-port", query, "--notifier-port", notifier)

    _said(
        finished,
        UNAVAILABLE,
        f"{query} (query, --query-port), {notifier} (notifier, --notifier-port)",
    )
    assert "ingest" not in finished.errors


async def test_an_origin_that_is_none(tmp_path: Path, environment: Environment) -> None:
    finished = await _up(tmp_path, environment, "--allow-origin", "http://localhost:8080/page")

    assert finished.exit_code == 2
    assert "--allow-origin" in finished.errors
    assert "no origin" in finished.errors


async def test_one_port_for_two_services(tmp_path: Path, environment: Environment) -> None:
    port = str(free_port())
    finished = await _up(tmp_path, environment, "--query-port", port, "--ingest-port", port)

    _said(finished, CONFIGURATION, "one port")


async def test_a_second_stack_on_the_same_folder(tmp_path: Path, environment: Environment) -> None:
    with open_data_folder(tmp_path):
        finished = await _up(tmp_path, environment)

    _said(finished, UNAVAILABLE, str(tmp_path), "another stack")


async def test_a_folder_that_cannot_be_written(tmp_path: Path, environment: Environment) -> None:
    (tmp_path / "file").touch()

    _said(await _up(tmp_path / "file" / "data", environment), UNAVAILABLE, "cannot be used")


async def test_a_ready_file_that_cannot_be_written(tmp_path: Path, environment: Environment) -> None:
    finished = await _up(tmp_path, environment, "--ready-file", str(tmp_path / "no" / "ready"))

    _said(finished, UNAVAILABLE, "ready", "cannot be written")


async def test_a_missing_broker_program(tmp_path: Path) -> None:
    finished = await _up(tmp_path, {"RABBITMQ_BIN": str(tmp_path), "AMQP_URL": ""})

    _said(finished, UNAVAILABLE, "rabbitmq-server: not found", "make setup")


@pytest.mark.parametrize(
    ("variable", "template"),
    [("AMQP_URL", "amqp://guest:guest@127.0.0.1:{}/"), ("MONGODB_URL", "mongodb://127.0.0.1:{}/")],
)
async def test_an_address_where_nothing_answers(
    tmp_path: Path, environment: Environment, variable: str, template: str
) -> None:
    environment[variable] = template.format(free_port())

    _said(await _up(tmp_path, environment), UNAVAILABLE, variable)


@pytest.mark.parametrize("variable", ["AMQP_URL", "MONGODB_URL"])
async def test_fresh_data_of_servers_that_are_not_its_own(
    tmp_path: Path, environment: Environment, variable: str
) -> None:
    kept = tmp_path / "database" / "kept"
    kept.parent.mkdir()
    kept.touch()
    given = {"AMQP_URL": "", "MONGODB_URL": ""} | {variable: environment[variable]}

    _said(await _up(tmp_path, given, "--fresh"), CONFIGURATION, "--fresh", variable)
    assert kept.exists()


async def test_a_short_secret(tmp_path: Path, environment: Environment) -> None:
    finished = await _up(tmp_path, environment | {"JWT_SECRET": "short"})

    _said(finished, CONFIGURATION, "JWT_SECRET")
    assert "short" not in finished.errors


async def test_another_partition_count_than_the_stored_one(tmp_path: Path, environment: Environment) -> None:
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        await database.prepare(4)

    finished = await _up(tmp_path, environment | {"PARTITIONS": "8"})

    _said(finished, CONFIGURATION, "PARTITIONS", "4", "8")


async def test_a_token_without_a_secret(tmp_path: Path) -> None:
    finished = await run(
        "token",
        "--sub",
        "s",
        "--scope",
        "orders:read",
        "--data-dir",
        str(tmp_path),
        environment={"JWT_SECRET": ""},
    )

    _said(finished, 1, "JWT_SECRET", "tracking up")


@pytest.mark.parametrize(
    ("command", "way_out"), [(["tail"], "--url"), (["load", "x.csv"], "--url"), (["check"], "set AMQP_URL")]
)
async def test_no_stack_to_speak_to(tmp_path: Path, command: list[str], way_out: str) -> None:
    finished = await run(
        *command, "--data-dir", str(tmp_path), environment={"AMQP_URL": "", "MONGODB_URL": ""}
    )

    _said(finished, 1, "no stack runs", way_out)


async def test_a_check_of_a_database_that_holds_nothing(environment: Environment) -> None:
    _said(await run("check", environment=environment), 1, environment["MONGODB_DATABASE"], "no installation")


@pytest.mark.parametrize(
    ("variable", "template", "name"),
    [
        ("AMQP_URL", "amqp://guest:guest@127.0.0.1:{}/", "broker"),
        ("MONGODB_URL", "mongodb://127.0.0.1:{}/", "database"),
    ],
)
async def test_a_check_where_nothing_answers(
    environment: Environment, variable: str, template: str, name: str
) -> None:
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        await database.prepare(1)
    environment[variable] = template.format(free_port())

    _said(await run("check", environment=environment), 1, f"the {name} does not answer")


async def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    finished = await run("load", str(tmp_path / "x.csv"), "--url", "http://127.0.0.1:1", "--token", "t")

    _said(finished, 1, "x.csv: there is no such file")
