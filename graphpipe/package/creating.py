"""``create``: a model, its problem and its tests become a package, which was tried before it is there."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from graphpipe.arguments import came
from graphpipe.backends.options import LoadOptions
from graphpipe.errors import PackageError
from graphpipe.package.code import Code
from graphpipe.package.content import MODEL, Content, put
from graphpipe.package.contents import Package, file_of, is_package
from graphpipe.package.installed import version_of
from graphpipe.package.manifest import OPTIONS, Manifest
from graphpipe.package.names import MANIFEST, why_no_name
from graphpipe.package.packed import pack
from graphpipe.package.pipelines import plan_of, put_pipeline
from graphpipe.package.recorded import record
from graphpipe.package.test_data import Tests, with_tests
from graphpipe.package.trial import try_out
from graphpipe.problem import Problem
from graphpipe.problem.given import problem_given
from graphpipe.setting import declared_in, read_keywords
from graphpipe.venvs.environment import environment_at, interpreter
from graphpipe.venvs.requirement import Requirement
from graphpipe.version import __version__

__all__ = ["create"]

_OPERATORS = "ops"
_ZIP = ".zip"
# torch>=2.13,<3 or, of the framework that is found out, >=2.13
_NEEDS = re.compile(r"\s*([A-Za-z][\w.-]*)?\s*(.*)", re.DOTALL)
# What the name of a file of requirements does not have.
_LINES = re.compile(r"[<>=~!]=|[<>\n]")
_VERSION = re.compile(r"\d[\w.+!]*")
# What is said of one load, and goes for the self-test.
_OF_THE_MACHINE = ("device", "providers", "intra_threads", "trust_model", "isolate", "python")
_OF_FETCHING = ("model_sha256", "download_bytes_max", "download_timeout_s", "download_private")


def create(
    path: str | Path,
    *,
    model: Any,
    problem: Problem | str | Path | Mapping[str, Any] | Sequence[Any],
    name_map: Mapping[str, str] | None = None,
    test_data: Tests | Iterable[Tests] | None = (),
    custom_ops: Iterable[str | Path] = (),
    code: Iterable[str | Path] | str | Path = (),
    requirements: Iterable[str] | str | Path = (),
    framework_version: str = "",
    platform: str = "",
    save_as: str = "",
    overwrite: bool = False,
    self_test: bool = True,
    timeout_s: float = 600.0,
    **options: Any,
) -> Path:
    """Make a package of a model: a folder, or a zip if ``path`` ends like one. Gives where it is.

    ``model`` is what ``graphpipe.load`` takes (a file, a folder, ``FILE.py:NAME``, ``MODULE:NAME``), or a PyTorch module, a
    Keras model, an ONNX ModelProto, a function or a class. ``problem`` is a Problem, the path or the table of one, or its
    two specs. ``name_map`` has the model's names where the problem's are others: ``{"x": "some_namespace/in_x:0"}``.

    ``test_data`` are tests, each ``{"inputs": {...}, "outputs": {...}}`` or an ``.npz`` of both; the problem's own come
    before them. ``code`` are
    files and folders of Python that the model is made of, or calls. ``custom_ops`` are libraries of operators.
    ``requirements`` are those of pip, in lines or in a file, and ``framework_version`` is a range (``>=2.13,<3``; of another
    framework than the one that is found out: ``torch>=2.13,<3``). ``platform`` forces a backend, ``save_as`` is ``.pt2`` or
    ``.pt`` for a PyTorch module. All other options are those of LoadOptions: what is the model's is kept, what is
    the machine's (``device``, ``intra_threads``, ``python``) goes for the self-test.

    The package is looked through, loaded and tested in a fresh process before it takes its place: PackageError or LoadError
    says what is different, and nothing is left then. ``overwrite`` lets it take another package's place.
    """
    target = Path(path)
    _check_place(target, overwrite)
    names = _names(name_map)
    posed = with_tests(problem_given(problem), test_data)
    declared = declared_in(LoadOptions)
    # What was left unsaid is not kept, and what was said as it is anyway neither.
    said = {
        name: value for name, value in read_keywords("create", declared, options).items() if value != declared[name][1]
    }
    for name in said:
        if name not in (*OPTIONS, *_OF_THE_MACHINE, *_OF_FETCHING):
            raise PackageError(f"{name} does nothing for a package that is made; say it when the package is loaded")
    with _beside(target) as folder:
        # Under its own name: errors of the self-test have it.
        staged = folder / "new" / (target.stem or target.name)
        staged.mkdir(parents=True)
        own = Code(staged, [code] if isinstance(code, str | Path) else code)
        content = _put(model, staged, own, posed, names, platform, LoadOptions(**said), save_as)
        kept = {name: _json(value) for name, value in said.items() if name in OPTIONS}
        libraries = _strings([custom_ops] if isinstance(custom_ops, str | Path) else custom_ops, "custom_ops")
        kept |= _operators(libraries, staged)
        kept |= _value_inputs(said.get("value_inputs", ""), staged)
        tests = record(posed, staged)
        manifest = _manifest(content, posed, staged)
        framework, versions = _needed(framework_version, content)
        manifest = replace(
            manifest,
            tests=tests,
            name_map=names,
            options=kept,
            framework=framework,
            framework_version=_version_of(framework, said.get("python", ""), str(target)),
            framework_range=versions,
            requirements=tuple(_requirements(requirements)),
        )
        (staged / MANIFEST).write_bytes(manifest.to_bytes())
        _open_to_all(staged)
        Package.at(str(staged))
        if self_test:
            _try(staged, target, {name: _json(said[name]) for name in _OF_THE_MACHINE if name in said}, timeout_s)
        made = staged
        if target.suffix.lower() == _ZIP:
            made = folder / "packed"
            pack(staged, (MANIFEST, *manifest.files), made)
        _put_in_place(made, target, overwrite, folder)
    return target


def _put(
    model: Any,
    staged: Path,
    code: Code,
    problem: Problem,
    name_map: Mapping[str, str],
    platform: str,
    options: LoadOptions,
    save_as: str,
) -> Content:
    pipeline = plan_of(model, platform)
    if pipeline is None:
        return put(model, staged, code, problem, name_map, platform, options, save_as)
    (staged / MODEL).mkdir()
    content = put_pipeline(pipeline, staged / MODEL, code or None)
    return replace(content, source=f"{MODEL}/{content.source}")


def _check_place(target: Path, overwrite: bool) -> None:
    if target.name in ("", ".", ".."):
        raise PackageError(f"{target} is no name for a package")
    if not target.absolute().parent.is_dir():
        raise PackageError(f"there is no folder {target.absolute().parent} for a package {target.name}")
    if os.path.lexists(target):
        if not overwrite:
            raise PackageError(
                f"{target} is there already; choose another place, or let it be replaced: overwrite=True"
            )
        if target.is_symlink() or not is_package(str(target)):
            raise PackageError(f"{target} is no package, and only a package is overwritten")


def _names(given: object) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise PackageError(
            f"name_map is a table from the problem's names to the model's, as in {_EXAMPLE}; {came(given)}"
        )
    for name, known in given.items():
        if not isinstance(name, str) or not isinstance(known, str):
            raise PackageError(f"name_map is from names to names, as in {_EXAMPLE}; {came(known)} for {name!r}")
    return dict(given)


_EXAMPLE = '{"x": "some_namespace/in_x:0"}'


def _strings(given: Iterable[Any], what: str) -> list[str]:
    values = list(given)
    for value in values:
        if not isinstance(value, str | Path):
            raise PackageError(f"{what} is a list of texts; {came(value)} as one")
    return [os.fspath(value) for value in values]


def _operators(libraries: Sequence[str], staged: Path) -> dict[str, list[str]]:
    names: list[str] = []
    for library in libraries:
        names.append(f"{_OPERATORS}/{Path(library).name}")
        if not Path(library).is_file():
            raise PackageError(f"there is no library of operators {library}")
        (staged / _OPERATORS).mkdir(exist_ok=True)
        if (staged / names[-1]).exists():
            raise PackageError(f"two libraries of operators are called {Path(library).name}")
        shutil.copyfile(library, staged / names[-1])
    return {"custom_ops": names} if names else {}


def _value_inputs(path: str, staged: Path) -> dict[str, str]:
    if not path:
        return {}
    name = f"{MODEL}/value_inputs.json"
    if not Path(path).is_file():
        raise PackageError(f"there is no file {path} that describes inputs")
    if (staged / name).exists():
        raise PackageError(f"the model has a {name} already, and the description of its inputs is called that")
    shutil.copyfile(path, staged / name)
    return {"value_inputs": name}


def _manifest(content: Content, problem: Problem, staged: Path) -> Manifest:
    names = sorted(each.relative_to(staged).as_posix() for each in staged.rglob("*") if each.is_file())
    for name in names:
        if why := why_no_name(name):
            raise PackageError(f"a package cannot hold such a file: {why}")
    return Manifest(
        problem=problem,
        platform=content.platform,
        source=content.source,
        files={name: file_of(staged / name) for name in names},
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        created_by=f"graphpipe {__version__}",
    )


def _version_of(framework: str, python: str, target: str) -> str:
    """Its version in the interpreter that the package is tried with."""
    if not python:
        return version_of(framework)
    return environment_at(interpreter(python, target)).version_of(framework)


def _needed(text: str, content: Content) -> tuple[str, str]:
    match = _NEEDS.fullmatch(text.strip())
    name, versions = (match[1] or "", match[2]) if match else ("", text)
    needed = name or content.framework
    if versions and not needed:
        raise PackageError(f"framework_version: {versions} of which framework? Say it: torch{versions}")
    if _VERSION.fullmatch(versions):
        versions = f"=={versions}"
    try:
        return needed, str(replace(Requirement.of(f"{needed} {versions}"), name="")) if versions else ""
    except ValueError as error:
        raise PackageError(f"framework_version: {error}") from None


def _requirements(given: Iterable[str] | str | Path) -> Iterator[str]:
    """The lines, without remarks."""
    if isinstance(given, str) and not Path(given).is_file() and _LINES.search(given):
        given = given.splitlines()
    elif isinstance(given, str | Path):
        try:
            given = Path(given).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise PackageError(f"requirements: {given} cannot be read: {error}") from None
    for line in _strings(given, "requirements"):
        if (line := re.sub(r"(?:^|\s)#.*", "", line).strip()) and line.isprintable():
            yield line


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _try(staged: Path, target: Path, options: Mapping[str, Any], timeout_s: float) -> None:
    try:
        try_out(staged, options, timeout_s)
    except PackageError as error:
        # Where it was tried is nobody's name for it.
        raise PackageError(str(error).replace(str(staged), str(target))) from None


def _open_to_all(staged: Path) -> None:
    """A package is to be read by whoever may look into the folder that it is in."""
    for each in (staged, *staged.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A new folder in the target's, so that what is made in it gets to its place at one stroke."""
    made = Path(tempfile.mkdtemp(dir=target.absolute().parent, prefix=f".{target.name}."))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _put_in_place(made: Path, target: Path, overwrite: bool, aside: Path) -> None:
    if not overwrite and os.path.lexists(target):
        raise PackageError(f"{target} has come to be there meanwhile; nothing of it was changed")
    if target.is_dir():
        old = aside / "old"
        target.rename(old)
        try:
            made.rename(target)
        except OSError:
            old.rename(target)
            raise
    elif made.is_dir() and target.is_file():
        target.unlink()
        made.rename(target)
    else:
        os.replace(made, target)
