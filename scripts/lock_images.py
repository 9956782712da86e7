"""Write docker/requirements/*.txt: what each image installs, with versions and the hashes of all files that may be taken.

    python -m scripts.lock_images [IMAGE...]
    python -m scripts.lock_images onnx --with scikit-learn --as mine

The second way writes mine.txt for an image of your own: `--build-arg REQUIREMENTS=docker/requirements/mine.txt`.

It asks the package index through uv (`pip install uv`), so it is run when constraints.txt changes, and never by a build.
Versions are those of constraints.txt where it has the package. The hashes are those of the source and of every wheel that
fits Linux with glibc, on x86-64 or 64-bit Arm, with one of our Pythons; a package that none of these machines needs is
left out.
"""

import argparse
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from scripts.set_up import with_implied

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docker" / "requirements"

# The extras of pyproject.toml that an image has, and packages that no extra names.
IMAGES: Final[Mapping[str, tuple[Sequence[str], Sequence[str]]]] = {
    "onnx": (["grpc", "json", "onnx"], []),
    "cpu": (["grpc", "json", "onnx", "tensorflow"], []),
    "openvino": (["grpc", "json", "server"], ["onnxruntime-openvino>=1.24"]),
    "torch": (["grpc", "json", "torch"], []),
    "cuda-onnx": (["grpc", "json", "server"], ["onnxruntime-gpu[cuda,cudnn]>=1.22"]),
    "cuda-tensorflow": (["grpc", "json", "server"], ["tensorflow[and-cuda]>=2.21"]),
    "cuda-torch": (["grpc", "json", "torch"], []),
    # What EXTRAS may add to any of them.
    "server": (["server"], []),
    "grpc": (["grpc"], []),
    "json": (["json"], []),
    "tensorflow": (["tensorflow"], []),
    "build": ([], ["hatchling>=1.27"]),  # builds the package in all of them
}
PYTHONS: Final = [(3, 11), (3, 12), (3, 13)]
MACHINES: Final = ["x86_64", "aarch64"]
GLIBC_MAX: Final = 41  # that of Debian 13


def main() -> int:
    parser = argparse.ArgumentParser(description="Write docker/requirements/*.txt.")
    parser.add_argument("image", nargs="*", help=f"one of {', '.join(IMAGES)}; default: all")
    parser.add_argument("--with", dest="more", action="append", default=[], metavar="PACKAGE", help="and this one")
    parser.add_argument("--as", dest="name", default="", metavar="NAME", help="into NAME.txt, for one image")
    options = parser.parse_args()
    wanted = options.image or list(IMAGES)
    if unknown := set(wanted) - set(IMAGES):
        parser.error(f"there is no image {min(unknown)!r}; there are {', '.join(IMAGES)}")
    if (options.more or options.name) and not (options.name and len(wanted) == 1 and options.name not in IMAGES):
        parser.error("a file of your own is one image, --with packages, --as a name that no image has")
    uv = shutil.which("uv")
    if uv is None:
        print("uv is needed to resolve for other machines than this one: pip install uv", file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    for image in wanted:
        lines = [
            f"# What the image {options.name or image!r} installs, for pip. Written by scripts/lock_images.py; do not edit.",
            *(line for package in resolved(uv, [*requirements(image), *options.more]) for line in entry(package)),
        ]
        (FOLDER / f"{options.name or image}.txt").write_text("\n".join(lines) + "\n")
        print(f"{options.name or image}: {sum('==' in line for line in lines)} packages", flush=True)
    return 0


def requirements(image: str) -> list[str]:
    """What the image asks for, before anything is resolved."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras, more = IMAGES[image]
    of_extras = [
        requirement
        for extra in sorted(set().union(*map(with_implied, extras)))
        for requirement in project["optional-dependencies"][extra]
        if not requirement.startswith("graphpipe-rpc[")
    ]
    return [*(project["dependencies"] if extras else []), *of_extras, *more]


def resolved(uv: str, requirements: Sequence[str]) -> list[dict[str, Any]]:
    """The packages that these requirements come to, as a pylock.toml has them (PEP 751)."""
    oldest = ".".join(map(str, PYTHONS[0]))
    command = [uv, "pip", "compile", "--universal", "--python-version", oldest, "--format", "pylock.toml", "--quiet"]
    run = subprocess.run(
        [*command, "--constraint", "constraints.txt", "-"],
        cwd=ROOT, input="\n".join(requirements), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    packages: list[dict[str, Any]] = tomllib.loads(run.stdout)["packages"]
    return packages


def entry(package: Mapping[str, Any]) -> Iterator[str]:
    """The lines of one package: none, if no machine of ours needs it."""
    marker = Marker(package["marker"]) if "marker" in package else None
    needed = [marker is None or marker.evaluate(environment) for environment in environments()]
    if not any(needed):
        return
    condition = "" if all(needed) else f" ; {package['marker']}"
    files = [file for file in package.get("wheels", ()) if fits(file_name(file))]
    files += [package["sdist"]] if "sdist" in package else []
    hashes = sorted({file["hashes"]["sha256"] for file in files})
    if not hashes:
        raise SystemExit(f"{package['name']} {package['version']} has no file that fits")
    yield f"{package['name']}=={package['version']}{condition} \\"
    yield from (f"    --hash=sha256:{digest} \\" for digest in hashes[:-1])
    yield f"    --hash=sha256:{hashes[-1]}"


def environments() -> Iterator[dict[str, str]]:
    """What markers are held against: each of our Pythons on each of our machines."""
    for major, minor in PYTHONS:
        for machine in MACHINES:
            version = f"{major}.{minor}"
            yield {
                "os_name": "posix", "sys_platform": "linux", "platform_system": "Linux", "platform_machine": machine,
                "implementation_name": "cpython", "platform_python_implementation": "CPython",
                "python_version": version, "python_full_version": f"{version}.0", "implementation_version": f"{version}.0",
            }  # fmt: skip


def file_name(file: Mapping[str, Any]) -> str:
    return str(file.get("name") or file["url"].partition("#")[0].rpartition("/")[2].replace("%2B", "+"))


def fits(wheel: str) -> bool:
    """Whether one of our Pythons on one of our machines can install this wheel."""
    _, _, _, tags = parse_wheel_filename(wheel)
    return not tags.isdisjoint(_TAGS)


def _tags() -> Iterator[Tag]:
    for machine in MACHINES:
        platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(5, GLIBC_MAX + 1)]
        platforms += [f"manylinux{old}_{machine}" for old in ("1", "2010", "2014")]
        for python in PYTHONS:
            yield from cpython_tags(python, platforms=platforms)
            yield from compatible_tags(python, f"cp{python[0]}{python[1]}", platforms)


_TAGS: Final = frozenset(_tags())

if __name__ == "__main__":
    sys.exit(main())
