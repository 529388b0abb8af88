"""The Kubernetes manifests beside the code that they run: settings, ports, probes, rights, stops, numbers."""

import os
import re
from importlib.util import find_spec
from typing import Any

import pytest
from prometheus_client import REGISTRY

from kubernetes_manifests import BUILDS, KUBERNETES, container, workload
from tracking_ingest.settings import IngestSettings
from tracking_notifier.metrics import CONNECTIONS
from tracking_notifier.session.server import HTTP_PATHS as NOTIFIER_PATHS
from tracking_notifier.session.session import CLOSE_SECONDS
from tracking_notifier.settings import NotifierSettings
from tracking_order_state.processing.worker import STOP_SECONDS
from tracking_order_state.settings import OrderStateSettings
from tracking_query.settings import QuerySettings
from tracking_shared.http.service_app import NEVER_REFUSED
from tracking_shared.serving import GRACEFUL_SECONDS, check_addresses
from tracking_shared.settings import Settings, load_settings
from tracking_webhooks.processing.endpoint import STOP_SECONDS as DELIVERY_STOP_SECONDS
from tracking_webhooks.settings import WebhooksSettings

SETTINGS: dict[str, type[Settings]] = {
    "ingest": IngestSettings,
    "order-state": OrderStateSettings,
    "notifier": NotifierSettings,
    "query": QuerySettings,
    "webhooks": WebhooksSettings,
}
SECRETS = {"AMQP_URL": "amqp://h/", "MONGODB_URL": "mongodb://h/", "JWT_SECRET": "s" * 32}

SPARE_SECONDS = 5
"""For what a stop does besides waiting."""

each_build = pytest.mark.parametrize("build_name", BUILDS)
each_service = pytest.mark.parametrize("name", SETTINGS)


def pod(name: str) -> Any:
    return workload(name)["spec"]["template"]["spec"]


def environment(name: str, build_name: str) -> dict[str, str]:
    """Of a container, with a stand-in for what comes from a Secret, and the first replica's number."""
    found = dict(BUILDS[build_name]["ConfigMap", "tracking-settings"]["data"])
    for entry in container(name, build_name)["env"]:
        source = entry.get("valueFrom", {})
        if "secretKeyRef" in source:
            found[entry["name"]] = SECRETS[entry["name"]]
        else:
            found[entry["name"]] = entry.get("value", "0")
    return found


@each_build
@each_service
def test_a_service_takes_the_environment_that_it_gets(
    name: str, build_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in tuple(os.environ):
        if variable.lower() in SETTINGS[name].model_fields:
            monkeypatch.delenv(variable)
    for variable, value in environment(name, build_name).items():
        monkeypatch.setenv(variable, value)
    settings = load_settings(SETTINGS[name])
    check_addresses(settings)
    assert settings.host == "0.0.0.0"  # noqa: S104 - inside its pod


def test_every_variable_is_a_setting_of_a_service() -> None:
    fields = {name: {field.upper() for field in kind.model_fields} for name, kind in SETTINGS.items()}
    for name in SETTINGS:
        assert {entry["name"] for entry in container(name)["env"]} <= fields[name]
    common = BUILDS["base"]["ConfigMap", "tracking-settings"]["data"].keys()
    assert common <= set.union(*fields.values())


def test_what_is_secret_comes_from_secrets() -> None:
    for name in SETTINGS:
        for entry in container(name)["env"]:
            if entry["name"] in SECRETS and entry.get("value") != "amqp://nobody@unused.invalid/":
                assert "secretKeyRef" in entry["valueFrom"]
    assert not [kind for built in BUILDS.values() for kind, _ in built if kind == "Secret"]
    text = "".join(path.read_text() for path in KUBERNETES.rglob("*.yaml"))
    assert re.findall(r"\w+://[^/\s]+:[^/\s]+@", text) == []


@each_service
def test_a_service_is_run_and_asked_where_it_listens(name: str) -> None:
    module = name.replace("-", "_")
    port = SETTINGS[name].model_fields[f"{module}_port"].default
    assert container(name)["command"] == ["python", "-m", f"tracking_{module}"]
    assert find_spec(f"tracking_{module}.__main__")
    assert container(name)["ports"] == [{"name": "http", "containerPort": port}]
    (exposed,) = BUILDS["base"]["Service", name]["spec"]["ports"]
    assert exposed == {"name": "http", "port": port, "targetPort": "http"}
    served = set(NOTIFIER_PATHS) if name == "notifier" else set(NEVER_REFUSED)
    for probe, path in (("startup", "/healthz"), ("liveness", "/healthz"), ("readiness", "/readyz")):
        assert container(name)[f"{probe}Probe"]["httpGet"] == {"path": path, "port": "http"}
        assert path in served


@each_service
def test_a_pod_has_no_right_that_it_does_not_need(name: str) -> None:
    assert pod(name)["automountServiceAccountToken"] is False
    assert pod(name)["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "volumes" not in pod(name)


@each_service
def test_no_service_of_the_cluster_becomes_a_setting(name: str) -> None:
    # A Service called `ingest` would set INGEST_PORT=tcp://10.0.0.1:8001 in every pod beside it.
    assert pod(name)["enableServiceLinks"] is False


@each_build
@each_service
def test_a_pod_has_the_time_that_its_service_takes_to_stop(name: str, build_name: str) -> None:
    hook = (
        container(name, build_name).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    )
    default = NotifierSettings.model_fields["notifier_stop_seconds"].default
    stop = float(environment(name, build_name).get("NOTIFIER_STOP_SECONDS", default))
    drain = {
        "notifier": stop + 2 * CLOSE_SECONDS,
        "order-state": GRACEFUL_SECONDS + 3 * STOP_SECONDS,
        "webhooks": GRACEFUL_SECONDS + DELIVERY_STOP_SECONDS,
    }.get(name, GRACEFUL_SECONDS)
    assert (hook > 0) == (name not in ("order-state", "webhooks"))  # nobody calls these
    grace = workload(name, build_name)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= hook + drain + SPARE_SECONDS


@each_build
def test_replicas_of_order_state_have_numbers_and_know_how_many_they_are(build_name: str) -> None:
    (ordinal,) = [e for e in container("order-state", build_name)["env"] if e["name"] == "REPLICA_ORDINAL"]
    path = ordinal["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.labels['apps.kubernetes.io/pod-index']"
    given = environment("order-state", build_name)
    replicas = workload("order-state", build_name)["spec"]["replicas"]
    assert int(given["REPLICA_COUNT"]) == replicas <= int(given["PARTITIONS"])


def test_autoscalers_have_what_they_go_by() -> None:
    scaled = {name for kind, name in BUILDS["base"] if kind == "HorizontalPodAutoscaler"}
    assert scaled == {"ingest", "notifier", "query"}
    for name in scaled:
        spec = BUILDS["base"]["HorizontalPodAutoscaler", name]["spec"]
        assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        assert "replicas" not in workload(name)["spec"]
        assert "cpu" in container(name)["resources"]["requests"]
        assert "cpu" in [metric.get("resource", {}).get("name") for metric in spec["metrics"]]
    metrics = BUILDS["base"]["HorizontalPodAutoscaler", "notifier"]["spec"]["metrics"]
    (name,) = [metric["pods"]["metric"]["name"] for metric in metrics if metric["type"] == "Pods"]
    assert [metric.name for metric in CONNECTIONS.collect()] == [name]
    assert REGISTRY.get_sample_value(name) is not None
