"""Build the images, run each, and print a table of what was seen.

    python -m scripts.images [--write] [--base IMAGE] [--engine PROGRAM] [IMAGE...]

Builds with docker, podman or buildah, whichever is there, on python:3.13-slim or, where no registry can be reached, on a
Debian that mmdebstrap makes. Everything is kept below .build/images and is gone at the end, but for the table, the log
and that Debian. --write puts the table into docs/images.md; nothing else in the checkout is changed.
"""

import argparse
import os
import secrets
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from scripts.images import table
from scripts.images.base import base
from scripts.images.checks import checked
from scripts.images.engines import Engine, EngineFailed, engine
from scripts.images.models import ROOT, made
from scripts.images.subjects import IMAGES, Failed, Image, Subject

BUILD = ROOT / ".build" / "images"
CERTIFICATES = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make images", description="Build the images, and run each.")
    parser.add_argument("image", nargs="*", help=f"one of {', '.join(IMAGES)}; default: all")
    parser.add_argument("--write", action="store_true", help="put the table into docs/images.md")
    parser.add_argument("--base", default="", help="the image to build on")
    parser.add_argument(
        "--engine", default="", choices=["", "docker", "podman", "buildah"], help="what builds and runs"
    )
    options = parser.parse_args()
    if unknown := set(options.image) - set(IMAGES):
        parser.error(f"there is no image {min(unknown)!r}; there are {', '.join(IMAGES)}")
    wanted = [IMAGES[name] for name in options.image or IMAGES]
    if os.getuid() != 0:
        print("NOT RUN: it looks into the networks of containers, and makes a base, as root alone can", file=sys.stderr)
        return 1
    with engine(BUILD, options.engine) as found:
        if found is None:
            print("NOT RUN: no docker, podman or buildah that works here", file=sys.stderr)
            return 1
        try:
            below, what = base(found, BUILD, options.base)
        except EngineFailed as problem:
            print(problem, file=sys.stderr)
            return 1
        rows = [_row(found, image, below) for image in wanted]
    rows = table.kept(BUILD / "table.json", rows)
    text = table.text(rows, f"{found.program}, on {what}")
    print(text)
    if options.write:
        table.write(ROOT / "docs" / "images.md", text)
    return int(any(row["failed"] for row in rows if row["image"] in [image.name for image in wanted]))


def _row(found: Engine, image: Image, below: str) -> table.Row:
    """Build one image and try it, saying so as it goes. What fails is in the row."""
    tag = f"localhost/graphpipe-{image.name}"
    row: table.Row = {
        "image": image.name, "bytes": 0, "base_bytes": 0, "build_s": 0.0, "answered": [], "seen": [], "failed": "",
    }  # fmt: skip
    token = f"graphpipe-secret-{secrets.token_hex(16)}"
    try:
        print(f"{image.name}: building ...", flush=True)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as hidden, tempfile.TemporaryDirectory() as folder:
            arguments, secrets_of_build = {"BASE_IMAGE": below, "VERSION": version()}, _secrets(Path(hidden), token)
            found.build(ROOT / "docker" / f"Dockerfile.{image.name}", tag, arguments, secrets_of_build)
            row["build_s"] = time.monotonic() - began
            row["bytes"], row["base_bytes"] = found.unpacked_bytes(tag), found.unpacked_bytes(below)
            if 0 < image.beside_bytes_max < row["bytes"] - row["base_bytes"]:
                raise Failed(f"more than {image.beside_bytes_max / 1e6:.0f} MB beside its base")
            models = {name: made(name, Path(folder)) for name in image.models}
            subject = Subject(image, tag, found, models, [token.encode()], version(), below, secrets_of_build)
            for name, seen in checked(subject):
                print(f"{image.name}: {name}: {seen}", flush=True)
                row["seen"].append((name, seen))
            # Each check calls every one of them.
            row["answered"] = list(models)
    except (Failed, EngineFailed, RuntimeError) as problem:
        row["failed"] = str(problem)
        print(f"{image.name}: FAILED: {problem}", flush=True)
    finally:
        found("rmi", "--force", tag, check=False)
    return row


def _secrets(folder: Path, token: str) -> dict[str, Path]:
    """What a user's index and certificates would be: those of this machine, each with a line that must not be found."""
    pip = folder / "pip.conf"
    mine = [Path(os.environ.get("PIP_CONFIG_FILE", "/etc/pip.conf")), Path.home() / ".config/pip/pip.conf"]
    text = next((path.read_text() for path in mine if path.is_file()), "[global]\n")
    pip.write_text(f"{text.rstrip()}\n# {token}\n")
    pip.chmod(0o600)
    given = {"pip": pip}
    if CERTIFICATES.is_file():
        given["ca"] = folder / "certificates.pem"
        given["ca"].write_text(f"{CERTIFICATES.read_text()}\n# {token}\n")
    return given


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


if __name__ == "__main__":
    sys.exit(main())
