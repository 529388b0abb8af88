"""The Compose file and what it names: no container engine is needed to find most mistakes in it."""

import json
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema_rs import Draft7Validator

from tracking_ingest.settings import IngestSettings
from tracking_notifier.settings import NotifierSettings
from tracking_order_state.settings import OrderStateSettings
from tracking_query.settings import QuerySettings
from tracking_shared.settings import Settings
from tracking_webhooks.settings import WebhooksSettings

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
    "webhooks": WebhooksSettings,
}

RUNNING = sorted(set(SERVICES) - {"tracking"})

SECRET_NAME = re.compile(r"SECRET|PASS|KEY|TOKEN")
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:?[-?])?([^}]*)\}")


def test_it_follows_the_compose_specification() -> None:
    schema = json.loads((ROOT / "tests/data/compose-spec/compose-spec.json").read_text())
    errors = [
        f"{error.instance_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(COMPOSE)
    ]
    assert errors == []


def test_it_runs_the_five_services_on_a_broker_and_a_database() -> None:
    assert set(SERVICES) == {*OURS, "proxy", "tracking", "rabbitmq", "mongodb", "prometheus", "grafana"}
    profiles = {name: SERVICES[name]["profiles"] for name in SERVICES if "profiles" in SERVICES[name]}
    assert profiles == {"tracking": ["tools"], "prometheus": ["monitoring"], "grafana": ["monitoring"]}
    assert SERVICES["rabbitmq"]["image"] == "rabbitmq:4-management"
    assert SERVICES["mongodb"]["image"] == "mongo:8"
    assert "--replSet=rs0" in SERVICES["mongodb"]["command"]
    assert "--setParameter=transactionLifetimeLimitSeconds=5" in SERVICES["mongodb"]["command"]


@pytest.mark.parametrize("name", RUNNING)
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
        for variable, value in service.get("environment", {}).items():
            if SECRET_NAME.search(variable):
                assert str(value).startswith("${"), f"{name}: {variable}"
    for url in re.findall(r"\w+://\S+@", TEXT):
        assert re.fullmatch(r"\w+://[a-z-]+:\$\{\w+:\?.*", url) or url == "amqp://nobody@", url


@pytest.mark.parametrize("name", [*OURS, "tracking"])
def test_a_service_has_a_narrow_user_of_its_own_in_broker_and_database(name: str) -> None:
    user = "operator" if name == "tracking" else name
    variable = f"{user.upper().replace('-', '_')}_PASSWORD"
    environment = SERVICES[name]["environment"]
    # The URLs as text, since their passwords are not filled in.
    assert environment["MONGODB_URL"].startswith(f"mongodb://{user}:${{{variable}:?")
    if name == "query":
        assert environment["AMQP_URL"] == "amqp://nobody@unused.invalid/"
    else:
        assert environment["AMQP_URL"].startswith(f"amqp://{user}:${{{variable}:?")
        assert variable in SERVICES["rabbitmq"]["environment"]
    assert variable in SERVICES["mongodb"]["environment"]
    others = {other for other in re.findall(r"\$\{(\w+_PASSWORD)", str(SERVICES[name])) if other != variable}
    assert others == set()


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
    assert service["command"] == ["python", "-m", f"tracking_{module}"]
    assert f"/dev/tcp/127.0.0.1/{port};" in service["healthcheck"]["test"][-1]
    assert "GET /readyz HTTP/1.1" in service["healthcheck"]["test"][-1]


@pytest.mark.parametrize(("answer", "healthy"), [(b"200 OK", True), (b"503 Service Unavailable", False)])
def test_a_health_check_tells_ready_from_not_ready(answer: bytes, healthy: bool) -> None:
    words = SERVICES["ingest"]["healthcheck"]["test"][1:]
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = words[-1].replace("/8001;", f"/{server.getsockname()[1]};").replace("$$", "$")
        with subprocess.Popen([*words[:-1], program]) as check:
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as lines:
                asked = [lines.readline() for _ in range(4)]
                connection.sendall(b"HTTP/1.1 " + answer + b"\r\n\r\n")
                assert (check.wait(10) == 0) is healthy
    assert asked == [b"GET /readyz HTTP/1.1\r\n", b"Host: here\r\n", b"Connection: close\r\n", b"\r\n"]


def test_the_proxy_alone_has_a_port_of_the_host_and_on_this_host_only() -> None:
    started = {name: service for name, service in SERVICES.items() if "profiles" not in service}
    published = {name: service["ports"] for name, service in started.items() if "ports" in service}
    assert published == {"proxy": ["127.0.0.1:${HTTP_PORT:-8080}:8080"]}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"mongodb"}))
def test_a_container_has_no_capability_and_writes_to_no_image(name: str) -> None:
    # MongoDB's own image has never been run here, so nothing of its own ways is changed.
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_nothing_is_asked_of_the_host_that_it_may_not_have() -> None:
    for name, service in SERVICES.items():
        assert "ulimits" not in service, f"{name}: fails where the hard limit of the host is lower"
        assert "start_interval" not in service.get("healthcheck", {}), f"{name}: needs Docker Engine 25"


@pytest.mark.parametrize("name", [*OURS, "tracking"])
def test_a_service_is_built_from_what_exists_and_waits_for_its_servers(name: str) -> None:
    service = SERVICES[name]
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert re.search(rf"^FROM \S+ AS {service['build']['target']}$", DOCKERFILE, re.MULTILINE)
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
    assert {"!requirements-image.lock", "!shared/src", "!services/*/src", "!deploy/src"} <= set(ignored)


def test_what_the_console_links_to_is_in_the_image_at_the_same_place() -> None:
    links = [path for path in (ROOT / "web").rglob("*") if path.is_symlink()]
    assert links
    copied = dict(re.findall(r"^COPY (\S+) (/srv/\S+)$", DOCKERFILE, re.MULTILINE))
    for link in links:
        folder = link.resolve().parent.relative_to(ROOT).as_posix()
        assert copied[folder] == f"/srv/{folder}"
    assert "!clients/js" in (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()


def test_the_broker_waits_longer_for_an_acknowledgement_than_the_database_may_be_away() -> None:
    lines = (ROOT / "deploy/rabbitmq/rabbitmq.conf").read_text().splitlines()
    settings = dict(line.split(" = ", 1) for line in lines if line and not line.startswith("#"))
    assert int(settings["consumer_timeout"]) == 2 * 3600 * 1000
    assert int(settings["max_message_size"]) == 16 * 1024 * 1024


@pytest.mark.parametrize(
    "script", ["deploy/mongodb/start.sh", "deploy/rabbitmq/ready.sh", "deploy/setup_containers"]
)
def test_a_script_is_valid(script: str) -> None:
    subprocess.run(["/bin/bash", "-n", ROOT / script], check=True)


def test_the_lock_of_the_image_has_the_versions_of_the_others_and_no_embedded_database() -> None:
    def pinned(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / name).read_text(), re.MULTILINE))

    image = pinned("requirements-image.lock")
    assert pinned("requirements.lock").items() <= image.items() <= pinned("requirements-dev.lock").items()
    assert "secantusdb" not in image
    assert "opentelemetry-exporter-otlp-proto-http" in image  # traces are a matter of variables alone
    assert "pyarrow" in image  # so is an archive
