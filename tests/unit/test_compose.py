"""The Compose file and what it names: no container engine is needed to find most mistakes in it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema_rs import Draft7Validator

from ingest.settings import IngestSettings
from notifier.settings import NotifierSettings
from order_state.settings import OrderStateSettings
from query.settings import QuerySettings
from shared.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text().replace("\\\n", " ")

OURS: dict[str, type[Settings]] = {
    "ingest": IngestSettings,
    "order-state": OrderStateSettings,
    "notifier": NotifierSettings,
    "query": QuerySettings,
}

SECRET_NAME = re.compile(r"SECRET|PASS|KEY|TOKEN")
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:?[-?])?([^}]*)\}")


def test_it_follows_the_compose_specification() -> None:
    schema = json.loads((ROOT / "tests/data/compose-spec/compose-spec.json").read_text())
    errors = [
        f"{error.instance_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(COMPOSE)
    ]
    assert errors == []


def test_it_runs_the_four_services_on_a_broker_and_a_database() -> None:
    assert set(SERVICES) == {*OURS, "rabbitmq", "mongodb"}
    assert SERVICES["rabbitmq"]["image"] == "rabbitmq:4-management"
    assert SERVICES["mongodb"]["image"] == "mongo:8"
    assert "--replSet=rs0" in SERVICES["mongodb"]["command"]
    assert "--setParameter=transactionLifetimeLimitSeconds=5" in SERVICES["mongodb"]["command"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check_and_is_restarted(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries", "start_period"} <= check.keys()
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_no_secret_has_a_default() -> None:
    for name, operator, rest in VARIABLE.findall(TEXT):
        if SECRET_NAME.search(name):
            assert operator == ":?", name
            assert rest, f"{name}: say what is missing"


def test_every_other_variable_has_a_default() -> None:
    for name, operator, _ in VARIABLE.findall(TEXT):
        assert SECRET_NAME.search(name) or operator == ":-", name


def test_no_secret_is_written_down() -> None:
    for name, service in SERVICES.items():
        for variable, value in service["environment"].items():
            if SECRET_NAME.search(variable):
                assert str(value).startswith("${"), f"{name}: {variable}"
    for url in re.findall(r"\w+://\S+@", TEXT):
        assert re.fullmatch(r"\w+://tracking:\$\{\w+:\?.*", url), url


@pytest.mark.parametrize("name", OURS)
def test_the_environment_of_a_service_is_what_its_settings_read(name: str) -> None:
    fields = {field.upper() for field in OURS[name].model_fields}
    required = {field.upper() for field, info in OURS[name].model_fields.items() if info.is_required()}
    given = SERVICES[name]["environment"].keys()
    assert given <= fields
    assert required | {"JWT_SECRET"} <= given
    assert SERVICES[name]["environment"]["HOST"] == "0.0.0.0"  # noqa: S104 - inside its container


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_its_module_and_is_asked_on_its_port(name: str) -> None:
    service, module = SERVICES[name], name.replace("-", "_")
    port = service["environment"][f"{module.upper()}_PORT"]
    assert service["command"] == ["python", "-m", module]
    assert f"http://127.0.0.1:{port}/readyz" in service["healthcheck"]["test"][-1]
    assert all(str(mapping).endswith(f":{port}") for mapping in service.get("ports", []))


@pytest.mark.parametrize("name", OURS)
def test_a_health_check_is_a_program(name: str) -> None:
    interpreter, option, program = SERVICES[name]["healthcheck"]["test"][1:]
    assert (interpreter, option) == ("python", "-c")
    compile(program, name, "exec")


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_this_host_only(name: str) -> None:
    for mapping in SERVICES[name].get("ports", []):
        assert str(mapping).startswith("127.0.0.1:")


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_built_from_what_exists_and_runs_without_privileges(name: str) -> None:
    service = SERVICES[name]
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert re.search(rf"^FROM \S+ AS {service['build']['target']}$", DOCKERFILE, re.MULTILINE)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert {d: c["condition"] for d, c in service["depends_on"].items()} == {
        "rabbitmq": "service_healthy",
        "mongodb": "service_healthy",
    }


def test_volumes_are_declared_and_mounted_files_exist() -> None:
    named = set()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), source
                assert volume.endswith(":ro")
            else:
                named.add(source)
    assert named == COMPOSE["volumes"].keys()


def test_the_image_is_made_of_sources_that_exist_and_of_pinned_packages() -> None:
    copied = [
        source
        for sources in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in sources.split()[:-1]
    ]
    assert {source for source in copied if not (ROOT / source).exists()} == set()
    assert {f"services/{name}/src" for name in OURS} < set(copied)
    assert "--require-hashes" in DOCKERFILE
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)


def test_the_builder_is_sent_everything_that_is_copied() -> None:
    ignored = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {"!requirements.lock", "!shared/src", "!services/*/src"} <= set(ignored)


def test_the_broker_waits_longer_for_an_acknowledgement_than_the_database_may_be_away() -> None:
    lines = (ROOT / "deploy/rabbitmq/rabbitmq.conf").read_text().splitlines()
    settings = dict(line.split(" = ", 1) for line in lines if line and not line.startswith("#"))
    assert int(settings["consumer_timeout"]) == 2 * 3600 * 1000
    assert int(settings["max_message_size"]) == 16 * 1024 * 1024


def test_the_start_script_of_the_database_is_valid() -> None:
    script = ROOT / "deploy/mongodb/start.sh"
    subprocess.run(["/bin/bash", "-n", script], check=True)
