"""The command line of ``graphpipe``: its commands, what they take, and what each of them does."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click

from graphpipe.cli.presets import FITS, PRESETS, ImageForm
from graphpipe.cli.tls import tls_options
from graphpipe.commandline import Argument, Command, Group, option, run, version
from graphpipe.completion import Offered, server, source, value

__all__ = ["main", "root"]

_ABOUT = "Ask models, behind a server or in this process, and look at what they take and give."

_EXAMPLES = """\
examples:
  graphpipe metadata http://127.0.0.1:9000
  graphpipe execute http://127.0.0.1:9000 --input digit.npy
  graphpipe run digits.onnx --input digit.npy
  graphpipe bench http://127.0.0.1:9000 --concurrency 8 --seconds 1
  graphpipe serve --model digits.onnx

Each command has examples of its own: graphpipe execute --help
"""

_METADATA_EXAMPLES = """\
examples:
  graphpipe metadata http://127.0.0.1:9000
  graphpipe metadata http://127.0.0.1:9000/models/digits
  graphpipe metadata unix:/tmp/graphpipe.sock
  graphpipe metadata digits.onnx
  graphpipe metadata http://127.0.0.1:9000 --json
"""

_FORMS = """\
inputs (each may have NAME= in front; without it they are the model's inputs in order):
  x.npy             an array
  x.npz:key         one array of several
  photo.jpg         an image (.jpg, .png, ...), upright, resized and laid out as the model takes it; of one that takes a
                    string, the file's bytes
  people.csv        a table (.csv, .tsv, .parquet): each column is the input of its name, or all of them are the one
                    input that there is, [n, columns]; people.csv:age,fare takes some of them
  rows.json         lists and numbers, in the type that the model takes; or a table: columns by name, or rows
  '[[1, 2, 3]]'     the same, written out
  '{"age": [41]}'   a table, written out
  letter.txt        text, as one string
  text:hello        the same, written out
  -                 an array in .npy format, from standard input

outputs (each may have NAME= in front):
  y.npy             one array
  y.npz             all of them, by name
  -                 one array in .npy format, to standard output
  Without --output the arrays are summed up in words.

"""

_FORMS_OF_INPUTS = _FORMS.partition("outputs (each")[0]
_ABOUT_ANSWERS = ("outputs", "as_json")

_EXECUTE_EXAMPLES = """\
examples:
  graphpipe execute http://127.0.0.1:9000 --input digit.npy
  graphpipe execute http://127.0.0.1:9000 --input pixels=digit.npy --ask label --json
  graphpipe execute http://127.0.0.1:9000 --input arrays.npz:digit --output answers.npz
  graphpipe execute http://127.0.0.1:9000 --input digit.npy --output label=label.npy --output probabilities=p.npy
  cat digit.npy | graphpipe execute http://127.0.0.1:9000 --input - --ask label --output - > label.npy
"""

_RUN_EXAMPLES = """\
examples:
  graphpipe run digits.onnx --input digit.npy
  graphpipe run echo --input '[[1.5, 2], [3, 4]]'
  graphpipe run echo --input text:hello --output greeting.npy
  graphpipe run digits.onnx --input digit.npy --intra-threads 2 --json
  graphpipe run echo --input '{"age": [41, 7], "fare": [7.25, 31]}'
"""

_PROBLEM_EXAMPLES = """\
examples:
  graphpipe problem problem.toml
  graphpipe problem problem.toml digits.onnx
  graphpipe problem problem.toml http://127.0.0.1:9000/models/digits
  graphpipe problem problem.toml models.py:classify --name-map probabilities=p

A model that does not fit, or fails a test, ends it with status 1 and what is different. docs/problems.md has the format.
"""

_CACHE_EXAMPLES = """\
examples:
  graphpipe cache stats
  graphpipe cache clear digits
  graphpipe cache stats --cache-dir /var/cache/graphpipe

A server that uses a cache need not be stopped: it computes the rows again.
"""

_COMPLETION_EXAMPLES = """\
examples:
  eval "$(graphpipe completion bash)"
  graphpipe completion zsh > ~/.graphpipe.zsh
  graphpipe completion fish > ~/.config/fish/conf.d/graphpipe.fish

The first belongs into ~/.bashrc, and `source ~/.graphpipe.zsh` into ~/.zshrc, behind compinit. Both `graphpipe` and
`graphpipe-serve` are completed.
"""


def main(arguments: Sequence[str] | None = None, prog: str = "graphpipe") -> NoReturn:
    """Run the command that the arguments name, and exit."""
    run(root(), prog, arguments)


def root() -> Group:
    """The command line. A command is made, and what it needs imported, when it is asked for."""
    return Group(
        "graphpipe",
        {
            "metadata": ("Show what a model takes and gives.", _metadata_command),
            "execute": ("Run a model that a server has.", _execute_command),
            "run": ("Load a model and run it in this process.", _run_command),
            "bench": ("Measure how fast a model answers.", _bench_command),
            "compare": ("Hold models of one problem against one another.", _compare_command),
            "fuse": ("Make one ONNX file of several that follow one another.", _fuse_command),
            "explain": ("Show what a model is made of, and where its time goes.", _explain_command),
            "package": ("Make packages of models, look into them, test and run them.", _package_command),
            "problem": ("Show what a problem's file says, and whether a model answers it.", _problem_command),
            "serve": ("Put models behind a socket: the same as graphpipe-serve.", _serve_command),
            "keys": ("Make, list and take back the keys of a server's callers.", _keys_command),
            "venv": ("Make environments with other versions of frameworks.", _venv_command),
            "cache": ("Look at the row caches of servers here, or empty them.", _cache_command),
            "completion": ("Print a script that completes these commands in a shell.", _completion_command),
        },
        help=_ABOUT,
        examples=_EXAMPLES,
        params=[version("graphpipe")],
    )


def _command(name: str, about: str, does: Callable[..., None], examples: str, *params: click.Parameter) -> Command:
    return Command(name, help=about, callback=does, examples=examples, params=list(params))


def _metadata_command() -> Command:
    return _command(
        "metadata", "Show what a model takes and gives.", _metadata, _METADATA_EXAMPLES,
        Argument("model", help="A server's URL, or what graphpipe-serve --model takes.", type=Offered(source)),
        option("as_json", "--json", is_flag=True, help="As JSON."),
        _timeout(), _api_key(), *tls_options(),
    )  # fmt: skip


def _execute_command() -> Command:
    return _command(
        "execute", "Run a model that a server has.", _execute, _FORMS + _EXECUTE_EXAMPLES,
        Argument("url", metavar="URL", type=Offered(server),
                 help="http://HOST:PORT[/models/NAME], https://..., or unix:/path.sock"),
        *_call(), _timeout(), _api_key(), *tls_options(),
    )  # fmt: skip


def _run_command() -> Command:
    from graphpipe.server.settings.options import loading

    return _command(
        "run", "Load a model and run it in this process.", _run, _FORMS + _RUN_EXAMPLES,
        Argument("source", help="What graphpipe-serve --model takes: a file, module:function, ...", type=Offered(source)),
        *_call(), *loading(),
    )  # fmt: skip


def _package_command() -> Command:
    from graphpipe.cli.package import RUN_EXAMPLES, group
    from graphpipe.server.settings.options import loading

    run = _command(
        "run", "Load a package and run it in this process.", _run, _FORMS + RUN_EXAMPLES,
        Argument("source", metavar="PACKAGE", help="A folder, a zip, or the URL of one.", type=Offered(source)),
        *_call(), *loading(),
    )  # fmt: skip
    return group(run)


def _bench_command() -> Command:
    from graphpipe.cli.bench import command

    return command([each for each in _call() if each.name not in _ABOUT_ANSWERS], _FORMS_OF_INPUTS)


def _compare_command() -> Command:
    from graphpipe.cli.compare import command

    return command()


def _fuse_command() -> Command:
    from graphpipe.cli.fuse import command

    return command()


def _explain_command() -> Command:
    from graphpipe.cli.explain import command

    return command([each for each in _call() if each.name not in _ABOUT_ANSWERS], _FORMS_OF_INPUTS)


def _problem_command() -> Command:
    from graphpipe.cli.problem import does

    return _command(
        "problem", "Show what a problem's file says, and whether a model answers it.", does, _PROBLEM_EXAMPLES,
        Argument("file", help="Its definition: .toml, .json or .yaml.", type=click.Path()),
        Argument("model", required=False, default="", metavar="[MODEL]", type=Offered(source),
                 help="Whether it fits, and passes the tests: a server's URL, or what graphpipe-serve --model takes."),
        option("--name-map", multiple=True, metavar="NAME=NAME",
               help="The model's name for one of the problem's, where it is another; repeat it for more."),
        _timeout(), _api_key(), *tls_options(),
    )  # fmt: skip


def _serve_command() -> click.Command:
    from graphpipe.server.cli import main

    return main


def _keys_command() -> click.Command:
    from graphpipe.cli.keys import group

    return group()


def _venv_command() -> click.Command:
    from graphpipe.cli.venv import group

    return group()


def _cache_command() -> Command:
    from graphpipe.server.settings.flags import by_name

    return _command(
        "cache", "Look at the row caches of servers here, or empty them.", _cache, _CACHE_EXAMPLES,
        Argument("what", type=click.Choice(["stats", "clear"]), help="How much they hold; or drop all rows."),
        Argument("models", nargs=-1, metavar="[MODEL]...", help="Of these models only.  [default: all]"),
        option("--cache-dir", default=by_name()["cache-dir"].default, metavar="FOLDER", show_default=True,
               type=click.Path(), help="As given to graphpipe-serve."),
    )  # fmt: skip


def _completion_command() -> Command:
    return _command(
        "completion", "Print a script that completes these commands in a shell.", _complete, _COMPLETION_EXAMPLES,
        Argument("shell", type=click.Choice(["bash", "zsh", "fish"]), help="Whose script it is."),
    )  # fmt: skip


def _call() -> list[click.Option]:
    arrays, images = "Inputs and outputs", "Images"
    return [
        option("inputs", "-i", "--input", section=arrays, multiple=True, metavar="[NAME=]VALUE", type=Offered(value),
               help="An input, in one of the forms below; repeat it for more."),
        option("outputs", "-o", "--output", section=arrays, multiple=True, metavar="[NAME=]FILE", type=click.Path(),
               help="Where an output goes; repeat it for more."),
        option("--ask", section=arrays, default="", metavar="NAMES", help="Outputs to ask for, separated by commas."),
        option("--config", section=arrays, default="", metavar="TEXT", help="Passed on to the model as it is."),
        option("--cast", section=arrays, is_flag=True, help="Convert numbers to the type that the model takes."),
        option("as_json", "--json", section=arrays, is_flag=True, help="Print the outputs as JSON."),
        option("--image-preset", section=images, type=click.Choice(list(PRESETS)),
               help="What pixels were made when the model learned.  [default: zero-one, with a word about it]"),
        option("--image-mean", section=images, default="", metavar="N[,N,N]",
               help="Taken off each pixel, which is 0 to 255; in place of a preset."),
        option("--image-std", section=images, default="", metavar="N[,N,N]", help="Then divided by."),
        option("--image-scale", section=images, default="", metavar="N",
               help="Multiplied by before: 1/255 makes pixels 0 to 1."),
        option("--image-fit", section=images, type=click.Choice(list(FITS)),
               help="What is done with a picture of another shape.  [default: crop, to its centre]"),
        option("--image-size", section=images, default="", metavar="N[,N]",
               help="Height and width, where the model leaves them open."),
    ]  # fmt: skip


def _timeout() -> click.Option:
    return option("--timeout-s", type=float, default=60, show_default=True, metavar="SECONDS", help="For the call.")


def _api_key() -> click.Option:
    # A command line is shown to everybody on a machine.
    return option("--api-key", metavar="KEY", envvar="GRAPHPIPE_API_KEY",
                  help="Sent as Authorization: Bearer KEY.  [env: GRAPHPIPE_API_KEY]")  # fmt: skip


# --- what they do -----------------------------------------------------------------------------------------------------


def _metadata(model: str, as_json: bool, **asking: Any) -> None:
    from graphpipe.cli import description
    from graphpipe.cli.callee import is_server, loaded, server_at

    with contextlib.ExitStack() as stack:
        with _quiet():
            here = contextlib.nullcontext(server_at(model, **asking)) if is_server(model) else loaded(model, {})
            callee = stack.enter_context(here)
        print(json.dumps(description.as_json(callee), indent=2) if as_json else description.as_text(callee))


def _execute(url: str, **options: Any) -> None:
    from graphpipe.cli.callee import server_at

    call = {name: options.pop(name) for name in _CALL}
    _ask(lambda: contextlib.nullcontext(server_at(url, **options)), **call)


_CALL = ("inputs", "outputs", "ask", "config", "cast", "as_json",
         *(f"image_{what}" for what in ("preset", "mean", "std", "scale", "fit", "size")))  # fmt: skip


def _run(source: str, **options: Any) -> None:
    from graphpipe.cli.callee import loaded

    call = {name: options.pop(name) for name in _CALL}
    _ask(lambda: loaded(source, {name: value for name, value in options.items() if value is not None}), **call)


def _ask(
    callee_of: Callable[[], contextlib.AbstractContextManager[Any]],
    inputs: Sequence[str],
    outputs: Sequence[str],
    ask: str,
    config: str,
    cast: bool,
    as_json: bool,
    **image: str | None,
) -> None:
    from graphpipe.cli.inputs import values_of
    from graphpipe.cli.outputs import Destinations, summary, written_out

    destinations = Destinations(outputs, as_json)
    images = ImageForm.of(**{name.removeprefix("image_"): text or "" for name, text in image.items()})
    with contextlib.ExitStack() as stack:
        with _quiet():
            callee = stack.enter_context(callee_of())
            values = values_of(inputs, callee.inputs, images, callee.signature.inputs)
            names = [name.strip() for name in ask.split(",") if name.strip()] or destinations.names
            answer = callee.call(values, names, config, cast)
        destinations.write(answer)
        if as_json:
            print(json.dumps(written_out(answer)))
        elif not destinations:
            print(summary(answer))


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """Standard output is the answer's: what a model prints meanwhile goes to standard error."""
    return contextlib.redirect_stdout(sys.stderr)


def _cache(what: str, models: tuple[str, ...], cache_dir: str) -> None:
    from graphpipe.server.extra import require_extra

    require_extra("graphpipe cache")
    from graphpipe.server.stages.cache.folder import do_clear, show_stats
    from graphpipe.server.stages.cache.store import cache_folder

    act = {"stats": show_stats, "clear": do_clear}[what]
    print(act(cache_folder(cache_dir), models))


def _complete(shell: str) -> None:
    from graphpipe.shells import script

    print(script(shell), end="")
