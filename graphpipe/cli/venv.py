"""``graphpipe venv``: makes environments of other Pythons and other versions of frameworks, lists them, and takes them
away.
"""

from __future__ import annotations

import json
import sys

import click

from graphpipe.commandline import Argument, Command, Group, option

__all__ = ["group"]

_ABOUT = "Make environments with other versions of frameworks, for models in processes of their own."

_EXAMPLES = """\
examples:
  graphpipe venv create numpy1 --requirements "numpy==1.26.*"
  graphpipe venv create tf215 --python 3.11 --requirements "tensorflow-cpu==2.15.*"
  graphpipe venv list
  graphpipe venv remove numpy1

Such a name is what --python takes: graphpipe-serve --model old=saved_model --isolate old=1 --python old=tf215
"""

_CREATE_EXAMPLES = """\
examples:
  graphpipe venv create numpy1 --requirements "numpy==1.26.*"
  graphpipe venv create sk --python 3.10 --requirements "scikit-learn==1.3.*" --requirements joblib
  graphpipe venv create pinned --requirements-file requirements.txt

uv installs it where there is one, else pip. Nothing of graphpipe goes into it, only numpy, which a model's process needs.
"""


def group() -> Group:
    """The command and its own commands."""
    return Group(
        "venv",
        {
            "create": ("Make an environment, and install into it what is required.", _create_command),
            "list": ("Show which there are, with their Pythons and frameworks.", _list_command),
            "remove": ("Take one away.", _remove_command),
        },
        help=_ABOUT,
        examples=_EXAMPLES,
    )


def _create_command() -> Command:
    return Command(
        "create", help="Make an environment, and install into it what is required.", callback=_create,
        examples=_CREATE_EXAMPLES,
        params=[
            Argument("name", help="What it is called: letters, digits and . _ -"),
            option("--requirements", multiple=True, metavar="TEXT",
                   help="A package, and which versions of it will do; repeat it for more."),
            option("--requirements-file", multiple=True, metavar="FILE", type=click.Path(dir_okay=False),
                   help="A file of them, as pip reads it; repeat it for more."),
            option("--python", default="", metavar="VERSION|PATH", help="Whose environment it is.  [default: this Python]"),
            option("--index-url", default="", metavar="URL", help="Where packages come from.  [default: as pip has it]"),
            option("--timeout-s", type=click.FloatRange(1), default=3600, show_default=True, metavar="SECONDS",
                   help="For all of it."),
        ],
    )  # fmt: skip


def _list_command() -> Command:
    as_json = option("as_json", "--json", is_flag=True, help="As JSON, with all packages.")
    return Command(
        "list", help="Show which there are, with their Pythons and frameworks.", callback=_list, params=[as_json]
    )


def _remove_command() -> Command:
    name = Argument("name", help="Which; half made ones too.")
    return Command("remove", help="Take an environment away.", callback=_remove, params=[name])


# --- what they do -----------------------------------------------------------------------------------------------------


def _create(
    name: str,
    requirements: tuple[str, ...],
    requirements_file: tuple[str, ...],
    python: str,
    index_url: str,
    timeout_s: float,
) -> None:
    from graphpipe.venvs.making import create

    made = create(
        name, requirements, requirements_file, python=python, index_url=index_url, limit_s=timeout_s,
        say=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    print(f"{name} is made: {_contents(made.version, made.frameworks)}. --python {name} runs a model in it.")


def _list(as_json: bool) -> None:
    from graphpipe.venvs.environment import environments

    found = list(environments())
    if as_json:
        print(json.dumps([
            {"name": each.name, "python": each.version, "interpreter": each.python, "packages": each.packages}
            for each in found
        ], indent=2))  # fmt: skip
        return
    for each in found:
        print(f"{each.name}: {_contents(each.version, each.frameworks)}")
    if not found:
        print("There are none yet; graphpipe venv create makes one.", file=sys.stderr)


def _contents(python: str, frameworks: dict[str, str]) -> str:
    return ", ".join([f"Python {python}", *(f"{name} {version}" for name, version in frameworks.items())])


def _remove(name: str) -> None:
    from graphpipe.venvs.making import remove

    remove(name)
    print(f"{name} is gone.")
