"""The Kubernetes manifests: true to the published schemas and to each other, built as kustomize does it."""

import json
import shutil
import subprocess

import pytest
import yaml
from jsonschema_rs import Draft202012Validator
from pages import read

from kubernetes_manifests import BASE, BUILDS, KUBERNETES, OVERLAYS, SERVICES, documents, workload
from openapi_checks import document_of
from tracking_shared.http.service_app import NEVER_REFUSED

SCHEMAS = json.loads(read("tests/data/kubernetes-spec/kubernetes-1.37.json"))
UNPUBLISHED = {"HTTPRoute"}
"""Kinds of others than Kubernetes itself, whose schemas are not here."""

each_build = pytest.mark.parametrize("build_name", BUILDS)


@each_build
def test_every_manifest_follows_the_schema_of_its_kind(build_name: str) -> None:
    for (kind, name), manifest in BUILDS[build_name].items():
        if kind in UNPUBLISHED:
            continue
        schema = SCHEMAS["kinds"][f"{manifest['apiVersion']} {kind}"] | {"$defs": SCHEMAS["$defs"]}
        errors = Draft202012Validator(schema).iter_errors(manifest)
        assert [f"{kind} {name}{error.instance_path}: {error.message}" for error in errors] == []


@each_build
def test_kustomize_builds_the_same(build_name: str) -> None:
    command = ["kustomize", "build"] if shutil.which("kustomize") else ["kubectl", "kustomize"]
    if shutil.which(command[0]) is None:
        pytest.skip("neither kustomize nor kubectl is installed")
    done = subprocess.run([*command, KUBERNETES / build_name], capture_output=True, check=True)
    built = {(found["kind"], found["metadata"]["name"]): found for found in yaml.safe_load_all(done.stdout)}
    assert built == BUILDS[build_name]


def test_every_file_is_part_of_a_build_or_an_example() -> None:
    named = {folder / "kustomization.yaml" for folder in (BASE, *OVERLAYS)}
    for folder in (BASE, *OVERLAYS):
        (kustomization,) = documents(folder / "kustomization.yaml")
        named |= {(folder / resource).resolve() for resource in kustomization["resources"]}
        named |= {folder / patch["path"] for patch in kustomization.get("patches", [])}
    files = {path for path in KUBERNETES.rglob("*.*") if path.parent.name != "examples" and path.is_file()}
    assert files == {path for path in named if path.is_file()}


@pytest.mark.parametrize("name", SERVICES)
def test_selectors_select_one_workload(name: str) -> None:
    labels = workload(name)["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/part-of"] == "tracking"
    for selector in (
        workload(name)["spec"]["selector"]["matchLabels"],
        BUILDS["base"]["Service", name]["spec"]["selector"],
        BUILDS["base"]["PodDisruptionBudget", name]["spec"]["selector"]["matchLabels"],
    ):
        assert selector["app.kubernetes.io/name"] == name
        assert selector.items() <= labels.items()


def test_only_who_uses_the_broker_may_reach_it() -> None:
    def selected(policy: str) -> set[str]:
        selector = BUILDS["base"]["NetworkPolicy", policy]["spec"]["podSelector"]
        return {name for match in selector["matchExpressions"] for name in match["values"]}

    assert selected("tracking-broker") == set(SERVICES) - {"query"}
    assert selected("tracking-callers") == set(SERVICES) - {"order-state", "webhooks"}
    everybody = BUILDS["base"]["NetworkPolicy", "tracking-default"]["spec"]
    assert everybody["policyTypes"] == ["Ingress", "Egress"]
    ports = [port["port"] for rule in everybody["egress"] for port in rule["ports"]]
    assert ports == [53, 53, 27017]


def routed(method: str, path: str) -> str | None:
    """The service that a request reaches: the longest match wins, then one that names the method."""
    found: list[tuple[bool, int, bool, str]] = []
    for rule in BUILDS["base"]["HTTPRoute", "tracking"]["spec"]["rules"]:
        (backend,) = rule["backendRefs"]
        for match in rule["matches"]:
            exact, value = match["path"]["type"] == "Exact", match["path"]["value"]
            fits = path == value or (not exact and path.startswith(f"{value}/"))
            if fits and match.get("method", method) == method:
                found.append((exact, len(value), "method" in match, backend["name"]))
    return max(found)[-1] if found else None


def test_every_operation_is_routed_to_a_service_that_has_it_and_nothing_else_is() -> None:
    operations: dict[tuple[str, str], set[str]] = {}
    for name in ("ingest", "query"):
        for path, methods in document_of(name)["paths"].items():
            for method in methods:
                operations.setdefault((method.upper(), path), set()).add(name)
    for (method, path), services in operations.items():
        if path in NEVER_REFUSED:
            assert routed(method, path) is None, path
        else:
            assert routed(method, path) in services, (method, path)
    assert routed("GET", "/v1/stream") == routed("GET", "/asyncapi.json") == "notifier"
    for path in ("/console/", "/problems/forbidden", "/docs", "/openapi.json"):
        assert routed("GET", path) == "query"
    for rule in BUILDS["base"]["HTTPRoute", "tracking"]["spec"]["rules"]:
        (backend,) = rule["backendRefs"]
        assert backend["port"] == BUILDS["base"]["Service", backend["name"]]["spec"]["ports"][0]["port"]


@each_build
def test_the_settings_name_the_host_of_the_routes(build_name: str) -> None:
    (host,) = BUILDS[build_name]["HTTPRoute", "tracking"]["spec"]["hostnames"]
    given = BUILDS[build_name]["ConfigMap", "tracking-settings"]["data"]
    assert {value for value in given.values() if "://" in value} == {
        f"https://{host}",
        f"wss://{host}/v1/stream",
    }


def test_the_examples_are_the_servers_that_the_policies_let_the_services_reach() -> None:
    (broker,), (database,) = (documents(KUBERNETES / f"examples/{n}.yaml") for n in ("rabbitmq", "mongodb"))
    policies = json.dumps([m for (kind, _), m in BUILDS["base"].items() if kind == "NetworkPolicy"])
    assert f'"app.kubernetes.io/name": "{broker["metadata"]["name"]}"' in policies
    assert f'"app": "{database["metadata"]["name"]}-svc"' in policies


def lines_of(text: str) -> dict[str, str]:
    return dict(line.split(" = ", 1) for line in text.splitlines() if line and not line.startswith("#"))


def test_the_examples_configure_the_servers_as_everywhere() -> None:
    (broker,), (database,) = (documents(KUBERNETES / f"examples/{n}.yaml") for n in ("rabbitmq", "mongodb"))
    everywhere = lines_of(read("deploy/rabbitmq/rabbitmq.conf"))
    example = lines_of(broker["spec"]["rabbitmq"]["additionalConfig"])
    assert example.items() <= everywhere.items()
    compose = yaml.safe_load(read("docker-compose.yml"))["services"]
    assert broker["spec"]["image"] == compose["rabbitmq"]["image"]
    seconds = database["spec"]["additionalMongodConfig"]["setParameter.transactionLifetimeLimitSeconds"]
    assert f"--setParameter=transactionLifetimeLimitSeconds={seconds}" in compose["mongodb"]["command"]
