"""``graphpipe-serve``: from a command line to a running server."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from graphpipe.descriptors import fill, forgive
from graphpipe.errors import GraphPipeError
from graphpipe.server.life.ending import leave_if_a_model_runs
from graphpipe.server.numbers.logs import log_to_stderr
from graphpipe.server.settings.configuration import Configuration, SettingsError, configure, unknown_variables
from graphpipe.server.settings.flags import FLAGS, Flag
from graphpipe.server.settings.kinds import Kind
from graphpipe.server.settings.values import ModelSettings, Settings
from graphpipe.signals import before_the_end, die_of, ends_at_once, noted
from graphpipe.version import __version__
from graphpipe.words import visible

__all__ = ["main"]

EXAMPLES = """\
Examples:
  graphpipe-serve --model model.onnx
  graphpipe-serve -m digits=digits.onnx -m cats=cats.onnx -l 0.0.0.0:9000
  graphpipe-serve -m digits.onnx -m cats.onnx --threads 2 --threads cats=4
  graphpipe-serve -m model.onnx -l unix:/tmp/graphpipe.sock --body-bytes-max 64MiB
  graphpipe-serve --config serve.toml --print-config

Then, from Python:
  import graphpipe
  answer = graphpipe.remote.execute("http://127.0.0.1:9000", array)
"""

_ABOUT = """Serve models over HTTP, for the GraphPipe clients in Python, Go and Java.

[NAME=]VALUE: repeat the flag to give one model another value than the rest. Every flag can also be set in the
environment (GRAPHPIPE_THREADS for --threads) or in a TOML file (--config); a flag beats the environment, which beats
the file.
"""


if TYPE_CHECKING:
    _ParamType = click.ParamType[str]
else:
    _ParamType = click.ParamType  # older releases of click cannot be subscripted


class _Text(_ParamType):
    """Takes any text: flags are read by their kinds, the same for a command line, the environment and a file."""

    def __init__(self, kind: Kind) -> None:
        self.name = kind.metavar or "text"
        self._kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if self._kind.choices:
            return [CompletionItem(word) for word in self._kind.choices if word.startswith(incomplete)]
        return [CompletionItem(incomplete, type="file")] if self._kind.is_path or "SOURCE" in self.name else []


class _Option(click.Option):
    """The option of one flag. Every text given for it is kept, in order."""

    def __init__(self, flag: Flag) -> None:
        decls = [f"--{flag.name}", *([f"-{flag.short}"] if flag.short else [])]
        more: dict[str, Any] = {"type": _Text(flag.kind), "multiple": True}
        if flag.name == "verbose":
            more = {"count": True}
        elif flag.name == "print-config":
            more = {"is_flag": True}
        elif flag.kind.valueless:
            more |= {"is_flag": False, "flag_value": "true"}
        super().__init__([flag.field, *decls], help=_help(flag), metavar=flag.metavar or None, **more)
        self.section = flag.section


class _Command(click.Command):
    """Help by section, and the examples last, as they are."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(option, "section", "Help"), []).append(record)
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records, col_max=34)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"\n{EXAMPLES}")


def _help(flag: Flag) -> str:
    notes = [f"default: {flag.shown_default}"] if flag.shown_default else []
    notes += [f"env: {flag.original_env}"] if flag.original_env else []
    return flag.help + "".join(f"  [{note}]" for note in notes)


def _serve(**texts: Any) -> None:
    configuration = _configuration(texts)
    if texts["print_config"]:
        click.echo(str(configuration), nl=False)
        return
    if not configuration.models:
        raise click.UsageError("no model is given; name one: --model model.onnx")
    settings = configuration.settings
    log_to_stderr(settings.log_format, settings.verbose, settings.access_lines_per_s > 0)
    # `module:function` is looked for where the command is given, as with `python -m`.
    sys.path.insert(0, os.getcwd())
    fill()
    forgive()
    with ends_at_once(), noted():
        try:
            told = _serve_models(configuration.models, settings)
        except GraphPipeError as error:
            # An upstream's words may be among them.
            click.echo(f"graphpipe-serve: {visible(str(error), also=os.linesep)}", err=True)
            sys.exit(1)
        if told is not None:
            die_of(told)
        leave_if_a_model_runs(0)


def _serve_models(models: Sequence[ModelSettings], settings: Settings) -> signal.Signals | None:
    """Serve until told to end; the signal that did it, if nothing was served yet."""
    from graphpipe.server.life.listener import bind
    from graphpipe.server.life.server import run
    from graphpipe.server.models.wiring import load_models

    def announce(url: str) -> None:
        click.echo(f"listening on {url}")

    # The port first: loading a large model only to find it taken is a waste of somebody's minutes.
    listener = bind(settings.listen)
    before_the_end(listener.close)
    with listener:
        if settings.workers > 1 or settings.memory_limit_bytes:
            # Before any framework is loaded: a fork after one has run hangs, and workers are fresh processes anyway.
            from graphpipe.server.life.supervisor import supervise

            came_up = supervise(models, settings, listener, announce)
            if came_up is False:
                sys.exit(1)
            return None if came_up is True else came_up
        seconds: dict[str, float] = {}
        loaded = load_models(models, seconds)
        return run(loaded, settings, listener=listener, load_seconds=seconds, on_ready=announce)


def _configuration(texts: dict[str, Any]) -> Configuration:
    context = click.get_current_context()
    given: dict[str, Sequence[str]] = {
        flag.name: _texts(texts[flag.field])
        for flag in FLAGS
        if context.get_parameter_source(flag.field) is ParameterSource.COMMANDLINE
    }
    for wrong, right in unknown_variables(os.environ):
        click.echo(f"graphpipe-serve: nothing reads {wrong} in the environment; did you mean {right}?", err=True)
    try:
        file = given["config"][-1] if "config" in given else os.environ.get("GRAPHPIPE_CONFIG")
        return configure(given, os.environ, file)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)


def _show_version(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"graphpipe-serve {__version__}")
        context.exit()


main = _Command(
    "graphpipe-serve",
    callback=_serve,
    help=_ABOUT,
    params=[
        *(_Option(flag) for flag in FLAGS),
        click.Option(
            ["-V", "--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version, and end.",
        ),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

if __name__ == "__main__":
    main()
