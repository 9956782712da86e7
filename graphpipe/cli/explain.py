"""``graphpipe explain``: what a model is made of, what goes between its parts, and where its time goes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from graphpipe.commandline import Argument, Command, option
from graphpipe.completion import Offered, source

__all__ = ["command"]

_ABOUT = """\
Show what a model is made of, and where its time goes.

Of a pipeline that is its stages, with what goes from one to the next; of an ONNX file its operators; of any other model what
it takes and gives. Times are measured here, by one caller. What is asked is made up from what the model says it takes,
unless --input says it. Nothing is opened and nothing is sent anywhere, but for a model that is a server's.
"""

_EXAMPLES = """\
examples:
  graphpipe explain digits.onnx
  graphpipe explain digits.onnx --batch 32 --picture digits.svg
  graphpipe explain digits.onnx --input digit.npy --runs 100
  graphpipe explain digits.onnx --runs 0
  graphpipe explain echo --input text:hello --json

docs/explaining.md says how to read it.
"""


def command(about_inputs: Sequence[click.Parameter], forms: str) -> Command:
    """The command; ``about_inputs`` are the options of others that say what a model is asked, ``forms`` is their help."""
    from graphpipe.server.settings.options import loading

    asked, out = "What is asked", "What comes of it"
    return Command(
        "explain", help=_ABOUT, callback=_explain, examples=forms + _EXAMPLES,
        params=[
            Argument("model", type=Offered(source), help="What graphpipe-serve --model takes: a file, a folder, ..."),
            option("--runs", section=asked, metavar="N", type=click.IntRange(0, 10000), default=20, show_default=True,
                   help="Calls that are measured, after one that is not; 0 asks nothing. Slow models get fewer."),
            option("--batch", section=asked, metavar="N", type=click.IntRange(1), default=1, show_default=True,
                   help="Rows of a request that is made up."),
            option("--shape", section=asked, metavar="NAME=N[,N...]", multiple=True,
                   help="The shape of an input, where the model leaves it open.  [default: 16 along each such axis]"),
            option("--seed", section=asked, metavar="N", type=click.IntRange(0), default=0, show_default=True,
                   help="Of the values that are made up."),
            *about_inputs,
            option("picture", "-o", "--picture", section=out, metavar="FILE.svg", type=click.Path(),
                   help="Draw it, for light and dark pages."),
            option("as_json", "--json", section=out, is_flag=True, help="Print one object of JSON, and nothing else."),
            *loading(),
        ],
    )  # fmt: skip


# What is said of a request; all else is about loading.
_OF_REQUEST = ("inputs", "ask", "config", "cast", "batch", "shape", "seed",
               *(f"image_{what}" for what in ("preset", "mean", "std", "scale", "fit", "size")))  # fmt: skip


def _explain(model: str, runs: int, picture: str | None, as_json: bool, **options: Any) -> None:
    if picture and Path(picture).suffix.lower() != ".svg":
        raise click.UsageError(f"--picture: expected a file .svg; {picture!r} came")
    if picture and not Path(picture).absolute().parent.is_dir():
        raise click.UsageError(f"{picture!r} cannot be written: there is no such folder")
    about = {name: options.pop(name) for name in _OF_REQUEST}
    # Standard output is the answer's: what a model prints meanwhile goes to standard error.
    with contextlib.redirect_stdout(sys.stderr):
        found = _explained(model, runs, about, options)
    from graphpipe.explanation.document import as_json as document
    from graphpipe.explanation.picture import svg
    from graphpipe.explanation.table import as_text

    if picture:
        Path(picture).write_text(svg(found), "utf-8")
    print(json.dumps(document(found)) if as_json else as_text(found))


def _explained(source: str, runs: int, about: dict[str, Any], options: dict[str, Any]) -> Any:
    from dataclasses import replace

    from graphpipe.backends.find import kind_of, loaded
    from graphpipe.backends.options import LoadOptions
    from graphpipe.backends.unused import Said
    from graphpipe.cli.callee import elsewhere
    from graphpipe.cli.targets import requests, shape
    from graphpipe.explanation.asked import explained, open_sizes, specs_of
    from graphpipe.explanation.explaining import explain
    from graphpipe.setting import declared_in, read_keywords

    if not Path(source).exists() and (hint := elsewhere(source)):
        raise ValueError(hint)
    sys.path.insert(0, os.getcwd())  # `module:function` is looked for where the command is given
    spoken = {name: value for name, value in options.items() if value is not None}
    backend = spoken.pop("backend", "")
    values = LoadOptions(**read_keywords("explain", declared_in(LoadOptions), spoken))
    spelled = {name: Said(f"--{name.replace('_', '-')}") for name in spoken}
    # As a server does: several calls run at once, one thread each.
    values = replace(values, intra_threads=values.intra_threads or 1)
    with loaded(source, values, backend, said=spelled) as model:
        known = kind_of(source, backend)
        kind = "" if known is None else known.backend
        if not runs:
            return explain(model, None, 0, kind=kind, unmeasured="--runs 0")
        specs = specs_of(model)
        if not about["inputs"]:
            sizes = open_sizes(specs, about["batch"], dict(map(shape, about["shape"])))
            about["shape"] = [*about["shape"], *(f"{name}={','.join(map(str, dims))}" for name, dims in sizes)]
        request = requests(model.signature, specs, {**about, "variants": 1})[0]
        return explained(model, request, runs, kind=kind, made_up=not about["inputs"], mend="--input, or --shape")
