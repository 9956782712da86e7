"""The command line of ``graphpipe``: its commands, what they take, and what each of them does."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from graphpipe.errors import GraphPipeError
from graphpipe.version import __version__
from graphpipe.words import visible

__all__ = ["main", "parser"]

_ABOUT = "Ask models, behind a server or in this process, and look at what they take and give."

_EXAMPLES = """\
examples:
  graphpipe metadata http://127.0.0.1:9000
  graphpipe execute http://127.0.0.1:9000 --input digit.npy
  graphpipe run digits.onnx --input digit.npy
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
  photo.jpg         an image (.jpg, .png, ...), resized and laid out as the model takes it
  rows.json         lists and numbers, in the type that the model takes
  '[[1, 2, 3]]'     the same, written out
  letter.txt        text, as one string
  text:hello        the same, written out
  -                 an array in .npy format, from standard input

outputs (each may have NAME= in front):
  y.npy             one array
  y.npz             all of them, by name
  -                 one array in .npy format, to standard output
  Without --output the arrays are summed up in words.

"""

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
  graphpipe completion zsh > "${fpath[1]}/_graphpipe"
  graphpipe completion fish > ~/.config/fish/completions/graphpipe.fish
"""


def main(arguments: Sequence[str] | None = None, prog: str = "graphpipe") -> NoReturn:
    """Run the command that the arguments name, and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["serve"]:
        _serve(given[1:])
    options = parser(prog, with_flags=given[:1] in (["run"], ["completion"])).parse_args(given)
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` does. Python would complain again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (GraphPipeError, ValueError, OSError) as error:
        sys.exit(f"graphpipe: {visible(str(error), also=os.linesep)}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def parser(prog: str = "graphpipe", *, with_flags: bool = True) -> argparse.ArgumentParser:
    """The command line; without the flags of the table of flags where nobody looks at them, since that imports numpy."""
    root = _Parser(prog=prog, description=_ABOUT, epilog=_EXAMPLES)
    root.add_argument("-V", "--version", action="version", version=f"graphpipe {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)

    metadata = _command(commands, "metadata", "show what a model takes and gives", _METADATA_EXAMPLES, _metadata)
    metadata.add_argument("model", metavar="MODEL", help="a server's URL, or what graphpipe-serve --model takes")
    metadata.add_argument("--json", action="store_true", help="as JSON")
    _add_timeout(metadata)

    execute = _command(commands, "execute", "run a model that a server has", _FORMS + _EXECUTE_EXAMPLES, _ask)
    execute.add_argument("model", metavar="URL", help="http://HOST:PORT[/models/NAME], https://..., or unix:/path.sock")
    _add_call(execute)
    _add_timeout(execute)

    run = _command(commands, "run", "load a model and run it in this process", _FORMS + _RUN_EXAMPLES, _ask)
    run.add_argument("model", metavar="SOURCE", help="what graphpipe-serve --model takes: a file, module:function, ...")
    _add_call(run)
    loading = run.add_argument_group("how it is loaded")
    for flag in _load_flags() if with_flags else ():
        takes: dict[str, Any] = {"action": "store_true"} if flag.kind.valueless else {"metavar": flag.kind.metavar}
        loading.add_argument(f"--{flag.name}", help=flag.help, **takes)

    serve = _command(commands, "serve", "put models behind a socket: the same as graphpipe-serve", "", _serve)
    for flag in _flags() if with_flags else ():
        # Only completion looks at these: what follows `serve` goes to graphpipe-serve as it is.
        serve.add_argument(f"--{flag.name}", help=flag.help, action="store_true" if flag.kind.valueless else "store")

    cache = _command(
        commands, "cache", "look at the row caches of servers here, or empty them", _CACHE_EXAMPLES, _cache
    )
    cache.add_argument("what", choices=("stats", "clear"), help="how much they hold; or drop all rows")
    cache.add_argument("models", nargs="*", metavar="MODEL", help="of these models only [default: all]")
    folder = next(flag for flag in _flags() if flag.name == "cache-dir")
    cache.add_argument("--cache-dir", default=folder.default, metavar="FOLDER", help="as given to graphpipe-serve")

    completion = _command(
        commands,
        "completion",
        "print a script that completes these commands in a shell",
        _COMPLETION_EXAMPLES,
        _complete,
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    return root


class _Parser(argparse.ArgumentParser):
    """No abbreviations, since they break when a flag joins; and examples as they are written."""

    def __init__(self, **options: Any) -> None:
        options = {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **options}
        super().__init__(**options)


def _command(commands: Any, name: str, about: str, epilog: str, run: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=f"{about[0].upper()}{about[1:]}.", epilog=epilog
    )
    command.set_defaults(run=run, command=name)
    return command


def _add_call(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-i",
        "--input",
        action="append",
        default=[],
        dest="inputs",
        metavar="[NAME=]VALUE",
        help="an input, in one of the forms below; repeat it for more",
    )
    command.add_argument(
        "-o",
        "--output",
        action="append",
        default=[],
        dest="outputs",
        metavar="[NAME=]FILE",
        help="where an output goes; repeat it for more",
    )
    command.add_argument("--ask", default="", metavar="NAMES", help="outputs to ask for, separated by commas")
    command.add_argument("--config", default="", metavar="TEXT", help="passed on to the model as it is")
    command.add_argument("--cast", action="store_true", help="convert numbers to the type that the model takes")
    command.add_argument("--json", action="store_true", help="print the outputs as JSON")
    images = command.add_argument_group("images for models that take floating point")
    images.add_argument("--image-mean", default="0", metavar="N[,N,N]", help="taken off each pixel [default: 0]")
    images.add_argument("--image-std", default="255", metavar="N[,N,N]", help="then divided by [default: 255]")


def _add_timeout(command: argparse.ArgumentParser) -> None:
    command.add_argument("--timeout-s", type=float, default=60, metavar="SECONDS", help="for the call [default: 60]")


def _flags() -> Sequence[Any]:
    from graphpipe.server.settings.flags import FLAGS

    return FLAGS


def _load_flags() -> list[Any]:
    from graphpipe.backends.options import LoadOptions

    # Which inputs and outputs are meant is said with --input and --ask here.
    return [
        flag
        for flag in _flags()
        if (flag.home is LoadOptions and flag.name not in ("inputs", "outputs")) or flag.name == "backend"
    ]


# --- what they do -----------------------------------------------------------------------------------------------------


def _metadata(options: argparse.Namespace) -> None:
    from graphpipe.cli.callee import callee_of
    from graphpipe.cli.description import as_json, as_text

    with callee_of(options) as callee:
        print(json.dumps(as_json(callee), indent=2) if options.json else as_text(callee))


def _ask(options: argparse.Namespace) -> None:
    from graphpipe.cli.callee import callee_of
    from graphpipe.cli.inputs import ImageForm, values_of
    from graphpipe.cli.outputs import Destinations, summary, written_out

    destinations = Destinations(options.outputs)
    images = ImageForm.of(options.image_mean, options.image_std)
    with callee_of(options) as callee:
        values = values_of(options.inputs, callee.inputs, images)
        names = [name.strip() for name in options.ask.split(",") if name.strip()] or destinations.names
        outputs = callee.call(values, names, options.config, options.cast)
        destinations.write(outputs)
        if options.json:
            print(json.dumps(written_out(outputs)))
        elif not destinations:
            print(summary(outputs))


def _serve(arguments: Any) -> None:
    from graphpipe.server.start import serve_main

    sys.argv[1:] = arguments if isinstance(arguments, list) else []
    serve_main()


def _cache(options: argparse.Namespace) -> None:
    try:
        from graphpipe.server.stages.cache.folder import do_clear, show_stats
        from graphpipe.server.stages.cache.store import cache_folder
    except ImportError:
        sys.exit("graphpipe cache needs the server extra: pip install 'graphpipe-rpc[server]'")

    act = {"stats": show_stats, "clear": do_clear}[options.what]
    print(act(cache_folder(options.cache_dir), tuple(options.models)))


def _complete(options: argparse.Namespace) -> None:
    from graphpipe.cli.completion import script

    print(script(parser(), options.shell), end="")
