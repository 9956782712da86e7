"""Packages: the model in one, behind the problem that it was made for (docs/packages.md).

Where the model is to have processes of its own, or a framework of another version than the one that is installed here,
it alone is there: the package is looked through here, and the problem's promises are kept here.

What a package brings along runs with the rights of this process, as a function of one's own does. Whoever names a folder
or a zip of this machine means that. Of a package that came from a URL, code and libraries of operators are refused,
unless --model-sha256 says which package is meant, or --trust-model that its author is trusted.
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from graphpipe.backends.backend import Backend
from graphpipe.backends.find import opened
from graphpipe.backends.known import ours
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.errors import LoadError
from graphpipe.package.contents import Package, is_package, manifest_at
from graphpipe.package.installed import version_of
from graphpipe.package.manifest import Manifest
from graphpipe.package.recorded import problem_of
from graphpipe.problem import Problem
from graphpipe.signature import Signature
from graphpipe.venvs.environment import environment_at, environment_for, interpreter

__all__ = ["BACKEND", "PackagedModel"]

log = logging.getLogger("graphpipe.backends")

# What is said when a package is loaded, of what the machine has and whom its owner trusts.
_PASSED_ON = ("device", "providers", "intra_threads", "bfloat16", "channels_last", "custom_ops", "trust_model")
_OF_ISOLATION = (
    "isolate", "python", "isolate_container", "isolate_timeout_s", "isolate_memory_bytes", "isolate_cpus",
)  # fmt: skip
_OF_FILES = ("value_inputs", "custom_ops")
# A package in a package would be looked at by nobody, and the others are no files.
_NOT_IN_PACKAGES = ("caffe2", "echo", "package", "placeholder", "remote")
# What reads its files and runs nothing that is in them, but for what is trusted.
_READERS = ("onnx", "tensorflow", "torch")


class PackagedModel:
    """The model of a package: it takes and gives what the problem says, and knows its tests."""

    def __init__(self, model: Model, package: Package, name: str) -> None:
        manifest = package.manifest
        self.posed = manifest.problem.posed(model, manifest.name_map, name)
        self._package = package
        # All that the package is has a part in it.
        self.version = manifest.digest
        self.description = manifest.problem.description or f"package of {manifest.platform}"
        self.tests = len(manifest.tests)
        self.infer, self.close = self.posed.infer, self.posed.close

    @property
    def signature(self) -> Signature:
        """The problem's."""
        return self.posed.signature

    def self_test(self) -> None:
        """Run the package's tests. Raises TestFailed with what is different."""
        self.problem.check(self.posed)

    @property
    def problem(self) -> Problem:
        """The problem, with the package's tests. Raises PackageError where they cannot be read any more."""
        return problem_of(self._package.manifest, self._package.folder)

    def __getattr__(self, name: str) -> Any:
        # kind, runtime, threads and whatever else a model may have.
        return getattr(self.posed, name)


def _open(source: str, options: LoadOptions) -> Model:
    package = Package.at(source, options.download_bytes_max)
    manifest = package.manifest
    if manifest.platform in _NOT_IN_PACKAGES:
        raise LoadError(f"{source}: its platform is {manifest.platform}, which is nothing that a package could hold")
    told = {name: getattr(options, name) for name in (*_PASSED_ON, *_OF_ISOLATION)}
    if not options.isolate_container:  # its image has what it has
        told["python"] = _python(source, manifest, options.python)
    kept = {name: _as_option(package, name, value) for name, value in manifest.options.items()}
    kept["custom_ops"] = (*kept.get("custom_ops", ()), *options.custom_ops)
    for name in ("bfloat16", "channels_last"):
        kept[name] = kept.get(name, False) or told[name]
    name = Path(source).stem
    model, _ = opened(str(package.path(manifest.source)), LoadOptions(**{**told, **kept}), manifest.platform, name)
    try:
        return PackagedModel(model, package, name)
    except BaseException:
        model.close()
        raise


def _as_option(package: Package, name: str, value: Any) -> Any:
    if name in _OF_FILES:
        places = [str(package.path(each)) for each in ([value] if isinstance(value, str) else value)]
        return places[0] if isinstance(value, str) else tuple(places)
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _python(source: str, manifest: Manifest, said: str) -> str:
    """The interpreter that has the framework which the package needs: empty for this one, else the one that was ``said``, or
    the best of the environments that were made. Raises LoadError if there is none.
    """
    needed = manifest.needs
    if said or needed is None:
        if needed is not None and not (there := environment_at(interpreter(said, source))).satisfies(needed):
            has = there.version_of(needed.name)
            raise LoadError(f"{source} needs {needed}, and --python {said} has {has or 'none'}; {_make(manifest)}")
        return said
    here = version_of(needed.name)
    if here and needed.allows(here):
        return ""
    found = environment_for(str(needed))
    if found is None and here:
        raise LoadError(f"{source} needs {needed}, and {here} is installed here; {_make(manifest)}")
    if found is None or found.python == sys.executable:
        return ""  # whoever misses it says how it is had
    log.info("%s needs %s and runs in %s, a process with %s", source, needed, found.name, found.version_of(needed.name))
    return found.python


def _make(manifest: Manifest) -> str:
    """The command, with all that the package asks for: its code needs the rest too."""
    wanted = [str(manifest.needs), *manifest.requirements]
    said = "".join(f" --requirements {shlex.quote(each)}" for each in wanted)
    return f"make an environment that has it: graphpipe venv create NAME{said}"


def _fetched(source: str, options: LoadOptions) -> None:
    """Raise LoadError where a package that came from a URL would run its author's code, and nobody said that it may."""
    if options.trust_model or options.model_sha256:
        return
    manifest = manifest_at(source)
    if manifest.platform in _READERS and not manifest.runs_code:
        return
    raise LoadError(
        f"{Path(source).name}: this package came from a URL, and brings code of its own, Python or a library of operators, "
        "which can do all that this process can; say which package you mean, --model-sha256 HEX, or that whoever made it is "
        "trusted, --trust-model"
    )


def _uses(source: str) -> Collection[str]:
    if not source:
        return (*_PASSED_ON, "download_bytes_max")
    manifest = manifest_at(source)
    by_name: Mapping[str, Backend] = {each.name: each for each in ours()}
    # A class may be a PyTorch module, which its package says where it needs PyTorch.
    platform = "torch" if manifest.platform == "python" and manifest.framework == "torch" else manifest.platform
    inner = by_name.get(platform)
    used = _PASSED_ON if inner is None else {"trust_model", *inner.uses("")} & {*_PASSED_ON}
    return (*used, "download_bytes_max")


BACKEND = Backend("package", is_package, _open, uses=_uses, fetched=_fetched, isolates=True)
