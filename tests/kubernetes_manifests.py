"""Reads the manifests of `deploy/kubernetes`, and builds its kustomizations as far as they go: resources, a
namespace, images, and patches (merged, or the operations test and replace of RFC 6902).
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[1] / "deploy/kubernetes"
BASE = KUBERNETES / "base"
OVERLAYS = sorted(path.parent for path in KUBERNETES.glob("overlays/*/kustomization.yaml"))
SERVICES = ("ingest", "order-state", "notifier", "query", "webhooks")

Manifest = dict[str, Any]


def documents(path: Path) -> list[Manifest]:
    """The documents of a file."""
    return list(yaml.safe_load_all(path.read_text()))


def build(folder: Path) -> dict[tuple[str, str], Manifest]:
    """What `kustomize build` writes, by kind and name."""
    (kustomization,) = documents(folder / "kustomization.yaml")
    unknown = kustomization.keys() - {"apiVersion", "kind", "namespace", "resources", "images", "patches"}
    if unknown:
        raise NotImplementedError(f"{folder}: {unknown}")
    built: dict[tuple[str, str], Manifest] = {}
    for resource in kustomization["resources"]:
        path = folder / resource
        if path.is_dir():
            built |= build(path)
        else:
            # A copy: YAML's aliases stand for one and the same object.
            built |= {key(document): copy.deepcopy(document) for document in documents(path)}
    for patch in kustomization.get("patches", []):
        _patch(built, patch.get("target"), documents(folder / patch["path"])[0])
    for manifest in built.values():
        if "namespace" in kustomization:
            manifest["metadata"]["namespace"] = kustomization["namespace"]
        for container in _containers(manifest):
            container["image"] = _image(container["image"], kustomization.get("images", []))
    return built


def key(manifest: Manifest) -> tuple[str, str]:
    """Kind and name."""
    return manifest["kind"], manifest["metadata"]["name"]


def _containers(manifest: Manifest) -> Iterator[Manifest]:
    template = manifest.get("spec", {}).get("template", {})
    yield from template.get("spec", {}).get("containers", [])


def _image(image: str, images: list[dict[str, str]]) -> str:
    for entry in images:
        if entry["name"] == image:
            return f"{entry['newName']}:{entry['newTag']}"
    return image


def _patch(built: dict[tuple[str, str], Manifest], target: dict[str, str] | None, patch: Any) -> None:
    if target is None:
        _merge(built[key(patch)], patch)
        return
    manifest = built[target["kind"], target["name"]]
    for operation in patch:
        *way, last = (int(part) if part.isdigit() else part for part in operation["path"].split("/")[1:])
        place: Any = manifest
        for part in way:
            place = place[part]
        if operation["op"] == "test":
            assert place[last] == operation["value"], operation
        else:
            assert operation["op"] == "replace", operation
            assert last in place or isinstance(place, list), operation
            place[last] = operation["value"]


def _merge(manifest: Manifest, patch: Manifest) -> None:
    for name, value in patch.items():
        if isinstance(value, dict):
            _merge(manifest[name], value)
        else:
            manifest[name] = value


BUILDS = {path.relative_to(KUBERNETES).as_posix(): build(path) for path in (BASE, *OVERLAYS)}
"""By folder, then by kind and name."""


def workload(name: str, build_name: str = "base") -> Manifest:
    """The Deployment or StatefulSet of a service."""
    kind = "StatefulSet" if name == "order-state" else "Deployment"
    return BUILDS[build_name][kind, name]


def container(name: str, build_name: str = "base") -> Any:
    """The container of a service."""
    (only,) = _containers(workload(name, build_name))
    return only
