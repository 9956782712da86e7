"""``graphpipe-serve``: from a command line to a running server."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click
from click.core import ParameterSource

from graphpipe import demo
from graphpipe.commandline import Command, version
from graphpipe.errors import GraphPipeError
from graphpipe.server.extra import NeedsExtra, require_extra
from graphpipe.server.settings.configuration import Configuration, SettingsError, configure, unknown_variables
from graphpipe.server.settings.flags import FLAGS
from graphpipe.server.settings.options import of_every_flag
from graphpipe.server.settings.values import Settings
from graphpipe.signals import die_of, ends_at_once, noted
from graphpipe.words import visible

__all__ = ["main"]

EXAMPLES = """\
Examples:
  graphpipe-serve --demo
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


def _serve(**texts: Any) -> None:
    context = click.get_current_context()
    if context.args:
        raise click.UsageError(
            f"unexpected argument {context.args[0]!r}; a model is named with --model: "
            f"{context.command_path} --model {shlex.quote(context.args[0])}"
        )
    configuration = _configuration(texts)
    if texts["print_config"]:
        click.echo(str(configuration), nl=False)
        return
    if not configuration.models:
        raise click.UsageError("no model is given; name one: --model model.onnx (or try --demo)")
    try:
        require_extra("graphpipe-serve")
    except NeedsExtra as error:
        sys.exit(str(error))
    # `module:function` is looked for where the command is given, as with `python -m`.
    sys.path.insert(0, os.getcwd())
    with ends_at_once(), noted():
        for_people = configuration.settings.log_format == "human"
        _run(configuration, _say_how_to_ask if texts["demo"] and for_people else _announce)


def _announce(url: str) -> None:
    from graphpipe.server.numbers.logs import written

    written()  # on a terminal, what was told of the start is above it
    click.echo(f"listening on {url}")


def _say_how_to_ask(url: str) -> None:
    _announce(url)
    click.echo(f"This is a model of handwritten digits. Ask it, in another terminal:\n{demo.how_to_ask(url)}", err=True)


def _say_why_not(settings: Settings, reason: str) -> None:
    """Why this server, or a worker of it, cannot start: a sentence, or a record where the log is made of records."""
    if settings.log_format == "json":
        logging.getLogger("graphpipe.server").error("%s", reason)
    else:
        # An upstream's words may be among them.
        click.echo(f"graphpipe-serve: {visible(reason, os.linesep)}", err=True)


def _run(configuration: Configuration, on_ready: Callable[[str], object]) -> None:
    from graphpipe.descriptors import fill, forgive
    from graphpipe.server.life.ending import leave_if_a_model_runs
    from graphpipe.server.life.notify import Notifier
    from graphpipe.server.life.server import NoWorker, Server
    from graphpipe.server.numbers.logs import log_to_stderr

    settings = configuration.settings
    log_to_stderr(settings.log_format, settings.verbose, settings.access_lines_per_s > 0)
    fill()
    forgive()
    models = [(model, None) for model in configuration.models]
    try:
        notifier = Notifier.of(os.environ)
        told = Server(models, settings, on_ready, notifier=notifier, on_failure=partial(_say_why_not, settings)).run()
    except NoWorker:
        sys.exit(1)  # each has said why
    except GraphPipeError as error:
        _say_why_not(settings, str(error))
        sys.exit(1)
    if told is not None:
        die_of(told)
    leave_if_a_model_runs(0)


def _configuration(texts: dict[str, Any]) -> Configuration:
    context = click.get_current_context()
    given: dict[str, Sequence[str]] = {
        flag.name: _texts(texts[flag.field])
        for flag in FLAGS
        if context.get_parameter_source(flag.field) is ParameterSource.COMMANDLINE
    }
    if texts["demo"]:
        if "model" in given:
            raise click.UsageError("--demo brings a model of its own; leave out either it or --model")
        given["model"] = (demo.SOURCE,)
    for wrong, right in unknown_variables(os.environ):
        click.echo(f"graphpipe-serve: nothing reads {wrong} in the environment; did you mean {right}?", err=True)
    try:
        file = given["config"][-1] if "config" in given else os.environ.get("GRAPHPIPE_CONFIG")
        return configure(given, os.environ, file)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)


main = Command(
    "graphpipe-serve",
    callback=_serve,
    help=_ABOUT,
    params=[*of_every_flag(), version("graphpipe-serve")],
    examples=EXAMPLES,
    context_settings={"allow_extra_args": True},  # to say what is wrong with them
)

if __name__ == "__main__":
    main()
