"""The release's number, in every place that tells it: check that all say the same, or write another.

    python scripts/one_version.py [NEW]

graphpipe/version.py is the one that the others follow. Without an argument what differs is listed, and the status is 1;
with one it is written everywhere.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "graphpipe/version.py"
NUMBER = r"(\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)"

# Files, as globs, and what stands around the number there. A glob that finds nothing is a part that a checkout lacks; one
# whose pattern finds nothing is a mistake.
PLACES = {
    SOURCE: [rf'__version__ = "{NUMBER}"'],
    "pyproject.toml": [rf'(?m)^version = "{NUMBER}"'],
    "clients/go/version.go": [rf'const Version = "{NUMBER}"'],
    "clients/go/README.md": [
        rf"git tag clients/go/v{NUMBER}",
        rf"push origin clients/go/v{NUMBER}",
        rf"clients/go@v{NUMBER}",
    ],
    "clients/java/pom.xml": [rf"<artifactId>graphpipe-java</artifactId>\s*<version>{NUMBER}<"],
    "clients/java/*/pom.xml": [
        rf"<artifactId>graphpipe-java</artifactId>\s*<version>{NUMBER}<|<graphpipe\.version>{NUMBER}<"
    ],
    "clients/java/client/src/main/java/org/graphpipe/RequestHead.java": [rf'VERSION = "{NUMBER}"'],
    "clients/java/README.md": [
        rf"<artifactId>graphpipe-client</artifactId>\s*<version>{NUMBER}<",
        rf"graphpipe-client-{NUMBER}\.jar",
        rf"graphpipe-examples-{NUMBER}\.jar",
    ],
    "deploy/compose/compose.yaml": [rf"graphpipe-onnx:{NUMBER}"],
    "deploy/kubernetes/deployment.yaml": [rf"app\.kubernetes\.io/version: {NUMBER}", rf"graphpipe-onnx:{NUMBER}"],
    "deploy/knative/service.yaml": [rf"graphpipe-onnx:{NUMBER}"],
    "deploy/kserve/clusterservingruntime.yaml": [rf"graphpipe-onnx:{NUMBER}"],
    "deploy/helm/*/Chart.yaml": [rf"(?m)^version: {NUMBER}$", rf"(?m)^appVersion: {NUMBER}$"],
    "docker/Dockerfile.*[a-z]": [rf"ARG VERSION={NUMBER}"],
}
# The same, where nothing may be found: prose shows a number or does not.
MAYBE = {
    page: [
        rf'"Server": "graphpipe/{NUMBER}"',
        rf"graphpipe-(?:onnx|cpu|openvino|torch|cuda):{NUMBER}",
        rf"graphpipe(?:-serve |_rpc-| ){NUMBER}",
        rf"labels: version {NUMBER}",
    ]
    for page in ("README.md", "docs/*.md", "docker/*.md", "deploy/README.md")
}


def told() -> Iterator[tuple[str, str, int, int]]:
    """Every place: its file, the number that it tells, and where in the file's text that begins and ends."""
    for glob, patterns in (*PLACES.items(), *MAYBE.items()):
        for path in sorted(ROOT.glob(glob)):
            if path.name.endswith(".dockerignore"):
                continue
            text, name = path.read_text(), path.relative_to(ROOT).as_posix()
            for pattern in patterns:
                matches = list(re.finditer(pattern, text))
                if not matches and glob not in MAYBE:
                    yield name, "", 0, 0
                for match in matches:
                    group = match.lastindex or 1
                    yield name, match[group], *match.span(group)


def differing(wanted: str) -> list[str]:
    """A line for each place that does not tell this number."""
    return [
        f"{name} says {number}, not {wanted}" if number else f"{name} does not say {wanted} where it should"
        for name, number, _, _ in told()
        if number != wanted
    ]


def current() -> str:
    """The number in graphpipe/version.py."""
    return next(number for name, number, _, _ in told() if name == SOURCE)


def write(new: str) -> None:
    """Put another number everywhere, from the end of each file, so that places stay where they are."""
    for name, number, begin, end in sorted(told(), key=lambda place: place[2], reverse=True):
        if number:
            path = ROOT / name
            text = path.read_text()
            path.write_text(text[:begin] + new + text[end:])


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the release's number in every place, or write another.")
    parser.add_argument("new", nargs="?", help="write this one everywhere")
    new = parser.parse_args().new
    if new:
        if not re.fullmatch(NUMBER, new):
            parser.error(f"a version is 1.2.3, or 1.2.3rc1, not {new!r}")
        write(new)
    wrong = differing(new or current())
    print("\n".join(wrong) or f"{len(list(told()))} places say {new or current()}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
