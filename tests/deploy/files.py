"""The files of deploy/, read: their documents, and the arguments that they start servers with."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

__all__ = ["DEPLOY", "ROOT", "VERSIONS", "documents", "reasons", "servers"]

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
# Of Kubernetes: those that were current when the files were written.
VERSIONS = ["1.35.0", "1.36.0", "1.37.0"]


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def containers(node: Any) -> Iterator[dict[str, Any]]:
    """Whatever in a document has an image, at any depth; what compose files keep for later use (x-...) has none."""
    if isinstance(node, dict):
        if "image" in node:
            yield node
        for name, value in node.items():
            if not name.startswith("x-"):
                yield from containers(value)
    elif isinstance(node, list):
        for value in node:
            yield from containers(value)


def servers() -> Iterator[tuple[str, list[str]]]:
    """Where graphpipe-serve is started, and with which arguments."""
    for path in sorted(DEPLOY.rglob("*.y*ml")):
        if "helm" in path.parts:
            continue
        for document in documents(path):
            for container in containers(document):
                if "graphpipe-" in str(container["image"]):
                    yield str(path.relative_to(DEPLOY)), container.get("args") or container.get("command") or []
    for path in sorted(DEPLOY.glob("systemd/*.service")):
        for line in path.read_text().splitlines():
            if line.startswith("ExecStart="):
                yield str(path.relative_to(DEPLOY)), shlex.split(line.partition("=")[2])[1:]


def reasons(document: dict[str, Any], version: str) -> list[str]:
    """What Kubernetes of that version would not take in a document, keys that it does not know included."""
    import kubernetes_validate

    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [error.message]
    return []
