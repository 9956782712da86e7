"""What stands below the package when it is installed, as CycloneDX 1.6 JSON.

Nothing in it changes from build to build but what is installed: no time, no serial number.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.requirements import Requirement

__all__ = ["document"]

OURS = "graphpipe-rpc"
EXTRA = "onnx"
# What an environment has from its start.
NOT_BELOW_US = {"pip", "setuptools", "wheel"}


def document(environment: Path) -> dict[str, Any]:
    """The bill of an environment into which the package was installed with its extra."""
    (site_packages,) = environment.glob("lib/python3*/site-packages")
    found = {canonical(each.metadata["Name"]): each for each in metadata.distributions(path=[str(site_packages)])}
    components = {name: component(each) for name, each in sorted(found.items()) if name not in NOT_BELOW_US}
    ours = components.pop(OURS)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": ours},
        "components": list(components.values()),
        "dependencies": [
            {
                "ref": reference(found[name]),
                "dependsOn": sorted(reference(found[below]) for below in wants(found, name)),
            }
            for name in (OURS, *components)
        ],
    }


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def reference(each: metadata.Distribution) -> str:
    return f"pkg:pypi/{canonical(each.metadata['Name'])}@{quote(each.version)}"


def component(each: metadata.Distribution) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "library", "name": canonical(each.metadata["Name"]), "version": each.version}
    if expression := field(each, "License-Expression"):
        found["licenses"] = [{"expression": expression}]
    # The field from before SPDX expressions: a name, or by mistake the whole text.
    elif (said := field(each, "License").strip()) and "\n" not in said and len(said) < 100:
        found["licenses"] = [{"license": {"name": said}}]
    found["purl"] = found["bom-ref"] = reference(each)
    return found


def field(each: metadata.Distribution, name: str) -> str:
    return each.metadata[name] if name in each.metadata else ""  # noqa: SIM401 -- it has no get() by its type


def wants(found: dict[str, metadata.Distribution], name: str) -> set[str]:
    """The names of what it needs and what is there."""
    extras = ["", EXTRA, "server"] if name == OURS else [""]
    needed = set()
    for requirement in map(Requirement, found[name].requires or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            needed.add(canonical(requirement.name))
    return needed & (set(found) - {name} - NOT_BELOW_US)
