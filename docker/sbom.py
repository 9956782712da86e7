"""Write what an image holds as CycloneDX 1.6 JSON: Python's distributions and the system's packages.

    python3 docker/sbom.py ENVIRONMENT SYSTEM_PACKAGES > sbom.cdx.json

ENVIRONMENT is the virtual environment; SYSTEM_PACKAGES has one line `name version architecture` for each, as dpkg-query
prints them. Nothing in it changes from build to build but what is installed: no time, no serial number.
"""

import json
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

DISTRIBUTION = "debian"


def main() -> None:
    environment, system = map(Path, sys.argv[1:3])
    (site_packages,) = environment.glob("lib/python3*/site-packages")
    print(json.dumps(document(site_packages, system.read_text()), indent=1))


def document(site_packages: Path, system: str) -> dict[str, Any]:
    """The whole document; ours is the component that it is about."""
    components = sorted([*distributions(site_packages), *packages(system)], key=lambda each: str(each["bom-ref"]))
    (ours,) = (each for each in components if each["name"] == "graphpipe-rpc")
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**ours, "type": "application"}},
        "components": [each for each in components if each is not ours],
    }


def distributions(site_packages: Path) -> Iterator[dict[str, Any]]:
    for each in metadata.distributions(path=[str(site_packages)]):
        name = re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower()
        found: dict[str, Any] = {"type": "library", "name": name, "version": each.version}
        fields = each.metadata.json
        licence = str(fields.get("license_expression", ""))
        if licence:
            found["licenses"] = [{"expression": licence}]
        # The field from before SPDX expressions: a name, or by mistake the whole text.
        elif (said := str(fields.get("license", "")).strip()) and "\n" not in said and len(said) < 100:
            found["licenses"] = [{"license": {"name": said}}]
        found["purl"] = found["bom-ref"] = f"pkg:pypi/{name}@{quote(each.version)}"
        yield found


def packages(system: str) -> Iterator[dict[str, Any]]:
    for line in system.splitlines():
        name, version, architecture = line.split()
        purl = f"pkg:deb/{DISTRIBUTION}/{quote(name)}@{quote(version)}?arch={architecture}"
        yield {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}


if __name__ == "__main__":
    main()
