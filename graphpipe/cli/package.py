"""``graphpipe package``: makes packages, shows what is in one, tests and runs it, and tells two of them apart."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphpipe.commandline import Argument, Command, Group, option
from graphpipe.completion import Offered, source
from graphpipe.progress import readable_bytes
from graphpipe.words import counted, visible

if TYPE_CHECKING:
    from graphpipe.package.contents import Package
    from graphpipe.package.manifest import Manifest

__all__ = ["RUN_EXAMPLES", "group"]

_ABOUT = "Make packages of models, look into them, test and run them."

_EXAMPLES = """\
examples:
  graphpipe package create adder.zip --model add.onnx --problem addition.toml
  graphpipe package inspect adder.zip
  graphpipe package test adder.zip
  graphpipe package run adder.zip --input x=1.npy --input y=2.npy
  graphpipe package diff adder.zip better.zip
  graphpipe-serve --model adder.zip

A package is a folder or a zip: a model of any framework, the problem that it solves, tests with their answers, and the code
and libraries that it needs. docs/packages.md has the rest.
"""

_CREATE_EXAMPLES = """\
examples:
  graphpipe package create adder.zip --model add.onnx --problem addition.toml --test-data test.npz
  graphpipe package create adder --model graph.pb --problem addition.toml --name-map x=some_namespace/in_x:0
  graphpipe package create adder.zip --model net.py:Adder --problem addition.toml --code net.py --code layers
  graphpipe package create adder.zip --model mylib.adder:add --problem addition.toml --code mylib --requirements numpy
  graphpipe package create adder.zip --model saved_model --problem addition.toml --custom-ops add_op.so --overwrite

A file of test data has an array for each input and each output, by their names:
  numpy.savez("test.npz", x=..., y=..., out=...)
The package is loaded and tested in a fresh process before it is there; if that fails, there is none.
"""

RUN_EXAMPLES = """\
examples:
  graphpipe package run adder.zip --input x=1.npy --input y=2.npy
  graphpipe package run adder.zip --input '{"x": [1, 2], "y": [3, 4]}' --json
  graphpipe package run detector --input photo.jpg --output corners.npy
"""


def group(run: Command) -> Group:
    """The command and its own commands; ``run`` is the one that calls a model."""
    return Group(
        "package",
        {
            "create": ("Make a package of a model, and test it.", _create_command),
            "inspect": ("Show what a package holds.", _inspect_command),
            "test": ("Run a package's tests in a fresh process.", _test_command),
            "run": ("Load a package and run it in this process.", lambda: run),
            "diff": ("Show what two packages have different, and what they answer otherwise.", _diff_command),
        },
        help=_ABOUT,
        examples=_EXAMPLES,
    )


def _create_command() -> Command:
    from graphpipe.package.manifest import OPTIONS

    model, code, rest = "The model", "What it needs", "Options"
    return Command(
        "create", help="Make a package of a model, and test it.", examples=_CREATE_EXAMPLES, callback=_create,
        params=[
            Argument("path", help="Where it goes: a folder, or a zip if it ends in .zip."),
            option("--model", section=model, required=True, metavar="SOURCE", type=Offered(source),
                   help="What graphpipe-serve --model takes: a file, a folder, FILE.py:NAME, MODULE:NAME."),
            option("--problem", section=model, required=True, metavar="FILE", type=click.Path(dir_okay=False),
                   help="The problem that it solves, in TOML, YAML or JSON; its tests become the package's."),
            option("name_map", "--name-map", section=model, multiple=True, metavar="NAME=MODEL'S",
                   help="The model's name for an input or output of the problem, where it is another; repeat it for more."),
            option("test_data", "--test-data", section=model, multiple=True, metavar="FILE.npz", type=click.Path(),
                   help="A test: an array for each input, and for outputs that are known; repeat it for more."),
            option("--platform", section=model, default="", metavar="BACKEND", help="Its kind.  [default: found out]"),
            option("--code", section=code, multiple=True, metavar="PATH", type=click.Path(),
                   help="A file or a folder of Python that the model is made of; repeat it for more."),
            option("--requirements", section=code, multiple=True, metavar="FILE|TEXT",
                   help="What pip is to install for it: a requirement, or a file of them; repeat it for more."),
            option("framework_version", "--framework-version", section=code, default="", metavar="RANGE",
                   help="Versions of its framework that it may run with: '>=2.13,<3', 'torch>=2.13'.  [default: any]"),
            option("--overwrite", section=rest, is_flag=True, help="Take the place of a package that is there."),
            option("no_self_test", "--no-self-test", section=rest, is_flag=True, help="Do not load it, nor run its tests."),
            option("timeout_s", "--timeout-s", section=rest, type=float, default=600, show_default=True, metavar="SECONDS",
                   help="For the self-test."),
            *_loading({*OPTIONS, *_OF_THE_MACHINE, "model_sha256"}),
        ],
    )  # fmt: skip


_OF_THE_MACHINE = ("device", "providers", "intra_threads", "trust_model", "python")


def _loading(names: set[str]) -> list[click.Option]:
    from graphpipe.server.settings.options import loading

    return [each for each in loading() if each.name in names]


def _inspect_command() -> Command:
    return Command(
        "inspect", help="Show what a package holds.", callback=_inspect,
        params=[_package(), option("as_json", "--json", is_flag=True, help="As JSON, with the digest of each file.")],
    )  # fmt: skip


def _test_command() -> Command:
    return Command(
        "test", help="Run a package's tests in a fresh process. The status is 0 if all answers are as they should be.",
        callback=_test,
        params=[
            _package(),
            option("timeout_s", "--timeout-s", type=float, default=600, show_default=True, metavar="SECONDS",
                   help="For all of them."),
            *_loading({*_OF_THE_MACHINE, "model_sha256"}),
        ],
    )  # fmt: skip


def _diff_command() -> Command:
    return Command(
        "diff", help="Show what two packages have different, and what they answer otherwise to the tests of both. The "
        "status is 1 if there is something.", callback=_diff,
        params=[
            Argument("a", metavar="PACKAGE", help="A folder or a zip.", type=Offered(source)),
            Argument("b", metavar="PACKAGE", help="Another.", type=Offered(source)),
            option("no_answers", "--no-answers", is_flag=True, help="Do not load them: compare what is in them alone."),
        ],
    )  # fmt: skip


def _package() -> Argument:
    return Argument("package", metavar="PACKAGE", help="A folder or a zip.", type=Offered(source))


# --- what they do -----------------------------------------------------------------------------------------------------


def _create(path: str, model: str, problem: str, **told: Any) -> None:
    from graphpipe.package import create
    from graphpipe.package.contents import manifest_at

    called = {name: told.pop(name) for name in ("overwrite", "timeout_s", "code", "platform", "framework_version")}
    made = create(
        path,
        model=model,
        problem=problem,
        name_map=_pairs(told.pop("name_map")),
        test_data=told.pop("test_data"),
        requirements=list(_requirements(told.pop("requirements"))),
        self_test=not (untested := told.pop("no_self_test")),
        **called,
        **{name: value for name, value in told.items() if value is not None},
    )
    tests = counted(len(manifest_at(str(made)).tests), "test")
    print(f"{made}: {f'{tests}, none of which was run' if untested else f'loaded, {tests} passed'}")


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, other = text.partition("=")
        if not equals or not name or not other:
            raise click.UsageError(f"--name-map is NAME=MODEL'S NAME, as in x=some_namespace/in_x:0; {text!r} came")
        pairs[name] = other
    return pairs


def _requirements(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        if Path(text).is_file():
            yield from Path(text).read_text("utf-8").splitlines()
        else:
            yield text


def _inspect(package: str, as_json: bool) -> None:
    found = _at(package)
    manifest = found.manifest
    if as_json:
        said = json.loads(manifest.to_bytes())
        print(json.dumps({"digest": manifest.digest, **said}, indent=2))
        return
    # Whoever made it chose the words.
    print("\n".join(visible(line, "") for line in _lines(package, manifest)))


def _lines(package: str, manifest: Manifest) -> Iterator[str]:
    yield f"{package}  {manifest.digest[:12]}"
    yield from (f"  {line}" for line in str(manifest.problem).splitlines())
    framework = " ".join(part for part in (manifest.framework, manifest.framework_version) if part)
    rows = {
        "platform": manifest.platform,
        "model": manifest.source,
        "names": ", ".join(f"{name}={other}" for name, other in manifest.name_map.items()),
        "options": ", ".join(f"{name}={_text(value)}" for name, value in manifest.options.items()),
        "framework": f"{framework}; runs with {manifest.framework_range}"
        if str(manifest.framework_range)
        else framework,
        "python": manifest.python,
        "needs": ", ".join(manifest.requirements),
        "tests": str(len(manifest.tests)),
        "code": "yes: loading it runs what is in it" if manifest.runs_code else "none",
        "made by": manifest.created_by,
    }
    yield ""
    yield from (f"{what:<10} {value}" for what, value in rows.items() if value)
    yield ""
    sizes = {name: readable_bytes(file.size) for name, file in manifest.files.items()}
    width = max(map(len, sizes.values()), default=0)
    yield from (f"{size:>{width}}  {name}" for name, size in sizes.items())
    total = readable_bytes(sum(file.size for file in manifest.files.values()))
    yield f"{counted(len(sizes), 'file')}, {total}, each as its manifest has it"


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _test(package: str, timeout_s: float, **options: Any) -> None:
    from graphpipe.package import test

    said = {
        name: list(value) if isinstance(value, tuple) else value for name, value in options.items() if value is not None
    }
    went = test(package, said, timeout_s)
    print(f"{package}: loaded, {counted(went.tests, 'test')} passed{f' ({went.runtime})' if went.runtime else ''}")


def _diff(a: str, b: str, no_answers: bool) -> int:
    from graphpipe.package.differences import differences_in_contents

    one, other = _at(a), _at(b)
    found = differences_in_contents(one, other)
    print("\n".join(visible(line) for line in found) if found else "the packages hold the same")
    if no_answers:
        return 1 if found else 0
    answers = _answers(a, b, one, other)
    if answers is None:
        print("there is nothing that both could be asked")
    else:
        print("\n".join(visible(line) for line in answers) if answers else "their answers to all tests are the same")
    return 1 if found or answers else 0


def _answers(a: str, b: str, one: Package, other: Package) -> list[str] | None:
    from graphpipe.backends.find import load
    from graphpipe.package.differences import differences_in_answers

    with contextlib.redirect_stdout(sys.stderr), load(a) as first, load(b) as second:
        return differences_in_answers(one, other, first, second)


def _at(package: str) -> Package:
    """The package in a folder or a zip of this machine. Raises LoadError, or ValueError for a URL."""
    from graphpipe.package.contents import Package

    if "://" in package:
        raise ValueError(f"{package} is a URL; download it first, or ask whoever serves it: graphpipe metadata URL")
    return Package.at(package)
