"""``graphpipe-serve``: from a command line to a running server."""

from __future__ import annotations

import logging
import os
import re
import sys

import click

from graphpipe import __version__
from graphpipe.backends.load import LoadOptions, default_name
from graphpipe.errors import GraphPipeError
from graphpipe.server.settings import ModelSettings, Settings

__all__ = ["main"]

_EPILOG = """\b
Examples:
  graphpipe-serve --model model.onnx
  graphpipe-serve -m digits=digits.onnx -m cats=cats.onnx -l 0.0.0.0:9000
  graphpipe-serve -m model.onnx -l unix:/tmp/graphpipe.sock --threads 4

\b
Then, from Python:
  import graphpipe
  answer = graphpipe.remote.execute("http://127.0.0.1:9000", array)
"""


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "-m", "--model", "models", multiple=True, required=True, envvar="GP_MODEL", metavar="[NAME=]SOURCE",
    help="A model to serve: a .onnx file, or echo. Repeat it to serve several: each at /models/NAME, the first at / too. "
    "NAME is the file's stem unless given.  [env: GP_MODEL]",
)
@click.option(
    "-l", "--listen", default="127.0.0.1:9000", show_default=True, metavar="ADDRESS",
    help="HOST:PORT, [IPv6]:PORT or unix:PATH. Port 0 picks a free one.",
)
@click.option(
    "-i", "--inputs", envvar="GP_INPUTS", metavar="NAMES",
    help="Default inputs, separated by commas: which tensor an unnamed one is.  [env: GP_INPUTS]",
)
@click.option(
    "-o", "--outputs", envvar="GP_OUTPUTS", metavar="NAMES",
    help="Default outputs, separated by commas: what is answered when none is asked for.  [env: GP_OUTPUTS]",
)
@click.option("--threads", default=0, type=click.IntRange(0, 1024), help="Calls that run at once.  [default: usable CPUs]")
@click.option("--intra-threads", default=1, show_default=True, type=click.IntRange(1, 1024), help="Threads of one call.")
@click.option("--providers", metavar="NAMES", help="ONNX execution providers, separated by commas, best first.")
@click.option(
    "--value-inputs", envvar="GP_VALUE_INPUTS", metavar="FILE",
    help="JSON file that names the inputs, their types and shapes, as the original took it.  [env: GP_VALUE_INPUTS]",
)
@click.option("--cast", is_flag=True, help="Convert numbers to the type that the model takes, float64 to float32 say.")
@click.option("--ignore-extra-inputs", is_flag=True, help="Leave out tensors that the model has no input for.")
@click.option(
    "--body-bytes-max", default=1 << 30, show_default=True, type=click.IntRange(1, 2**31 - 1), metavar="BYTES",
    help="Largest request body; a larger one gets 413.",
)
@click.option(
    "--in-flight-bytes-max", default=0, type=click.IntRange(0), metavar="BYTES",
    help="Bytes of large bodies held at once; beyond it 503.  [default: a quarter of the memory]",
)
@click.option("--enable-shutdown", is_flag=True, help="Let anybody who can reach the server end it: POST /control/shutdown.")
@click.option("-v", "--verbose", count=True, help="Say more; twice: everything.")
@click.version_option(__version__, "-V", "--version", prog_name="graphpipe-serve", message="%(prog)s %(version)s")
def main(
    models: tuple[str, ...],
    listen: str,
    inputs: str | None,
    outputs: str | None,
    threads: int,
    intra_threads: int,
    providers: str | None,
    value_inputs: str | None,
    cast: bool,
    ignore_extra_inputs: bool,
    body_bytes_max: int,
    in_flight_bytes_max: int,
    enable_shutdown: bool,
    verbose: int,
) -> None:
    """Serve models over HTTP, for the GraphPipe clients in Python, Go and Java."""
    _log_to_stderr(verbose)
    options = LoadOptions(
        inputs=_names(inputs),
        outputs=_names(outputs),
        intra_threads=intra_threads,
        providers=_names(providers) or (),
        value_inputs=value_inputs or "",
    )
    wanted = [
        ModelSettings(name, source, options, threads=threads, cast=cast, ignore_extra_inputs=ignore_extra_inputs)
        for name, source in map(_name_and_source, models)
    ]
    names = [model.name for model in wanted]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise click.UsageError(f"two models are called {twice[0]!r}; name them: -m NAME=SOURCE")
    settings = Settings(
        listen=listen,
        body_bytes_max=body_bytes_max,
        in_flight_bytes_max=in_flight_bytes_max,
        enable_shutdown=enable_shutdown,
    )
    # `module:function` is looked for where the command is given, as with `python -m`.
    sys.path.insert(0, os.getcwd())
    from graphpipe.server.app import load_models, run
    from graphpipe.server.listener import bind

    try:
        # The port first: loading a large model only to find it taken is a waste of somebody's minutes.
        listener = bind(listen)
        loaded = load_models(wanted)
        run(loaded, settings, listener=listener, on_ready=lambda url: click.echo(f"listening on {url}"))
    except GraphPipeError as error:
        click.echo(f"graphpipe-serve: {error}", err=True)
        sys.exit(1)


def _names(text: str | None) -> tuple[str, ...] | None:
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    return names or None


def _name_and_source(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9_.-]*)=(.+)", text)
    return (match[1], match[2]) if match else (default_name(text), text)


def _log_to_stderr(verbose: int) -> None:
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
