"""``graphpipe compare``: models of one problem beside one another, and how their answers differ."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import click

from graphpipe.commandline import Argument, Command, option
from graphpipe.completion import Offered, source

__all__ = ["command"]

_ABOUT = """\
Ask several models the same, and hold their answers against those of the first.

A MODEL is what graphpipe-serve --model takes: a file or folder of any framework, a package, module:function, the URL of a
server; NAME= in front is what it is called here. All of them are asked each call in turn. With --problem they are asked by
its names and hold its promises; without it their own names say what is what, or the problem of the first, if that is a
package.
"""

_EXAMPLES = """\
data:
  rows.npz          an array for each input by its name, rows along the first axis; --batch says how many make a call
  rows.parquet      a column for each input by its name; or all columns are the one input that there is
  folder/           of .npz files: a call each, with its inputs whole; of .npy files: an input each, as rows.npz
  What is in it beside the inputs is what is expected: the metric is shown it, and outputs of these names are held against
  it. Without --data the tests of the problem are asked.

a metric (one rule for all models):
  def accuracy(inputs, outputs, truth):     # arrays by name, for each call; what it gives is averaged over rows
      return float((outputs["label"] == truth["label"]).mean())          # or {"accuracy": ..., "top5": ...}
  class F1: update(self, inputs, outputs, truth) for each call, result(self) at the end; one of it for each model

examples:
  graphpipe compare digits.onnx quantized=digits-int8.onnx --data digits.npz
  graphpipe compare digits.onnx http://127.0.0.1:9000 --data digits.npz --batch 32 --repeat 3
  graphpipe compare a.onnx b.pt c/ --problem p.toml --data cases/ --metric metrics.py:accuracy
  graphpipe compare old.onnx new.onnx --data digits.npz --fail-over 1e-3 --json report.json --picture report.svg

The status is 0 when it has come to its end, 1 with --fail-over if more than that is different, 130 after Ctrl-C, which
shows what there is.
"""


def command() -> Command:
    """The command."""
    from graphpipe.server.settings.options import loading

    asked, compared, out = "What is asked", "What is compared", "What comes of it"
    return Command(
        "compare", help=_ABOUT, callback=_compare, examples=_EXAMPLES,
        params=[
            Argument("models", metavar="MODEL MODEL...", nargs=-1, required=True, type=Offered(source),
                     help="[NAME=]SOURCE; the first is the reference."),
            option("--problem", section=asked, metavar="FILE", type=click.Path(),
                   help="What they take and give, in TOML, YAML or JSON.  [default: that of the first, if it is a package]"),
            option("--data", section=asked, metavar="PATH", type=click.Path(),
                   help="What they are asked.  [default: the tests of the problem]"),
            option("--batch", section=asked, metavar="N", type=click.IntRange(1), default=1, show_default=True,
                   help="Rows of one call, where the inputs leave it open."),
            option("--repeat", section=asked, metavar="N", type=click.IntRange(1), default=1, show_default=True,
                   help="How many times over; times are of all, differences and the metric of the first."),
            option("--warm-up", section=asked, metavar="N", type=click.IntRange(0), default=3, show_default=True,
                   help="How often the first call is asked before anything counts."),
            option("timeout_s", "--timeout-s", "--timeout", section=asked, metavar="SECONDS",
                   type=click.FloatRange(0, min_open=True),
                   help="For a call; one that takes longer is an error.  [default: none]"),
            option("--cast", section=asked, is_flag=True, help="Convert numbers to the types that are taken."),
            option("--truth", section=compared, metavar="NAME[,NAME...]", default="",
                   help="What of the data is expected.  [default: all that is no input]"),
            option("--metric", section=compared, metavar="MODULE:FUNCTION",
                   help="Your own measure: a function or a class, in a module or a file.py."),
            option("--rtol", section=compared, metavar="N", type=click.FloatRange(0), default=1e-5, show_default=True,
                   help="Numbers agree within --atol + --rtol times the reference's."),
            option("--atol", section=compared, metavar="N", type=click.FloatRange(0), default=1e-6, show_default=True,
                   help="See there."),
            option("--scores", section=compared, metavar="NAME[,NAME...]", default="",
                   help="Outputs whose highest element is a class.  [default: those that are probabilities]"),
            option("--fail-over", section=out, metavar="N", type=click.FloatRange(0),
                   help="End with 1 if a number differs by more from the reference's, text at all, or a call failed."),
            option("json_file", "--json", section=out, metavar="FILE", type=click.Path(),
                   help="Write all of it as JSON; to standard output, in place of words, if it is -."),
            option("--picture", section=out, metavar="FILE.svg", type=click.Path(),
                   help="Draw latencies and differences side by side."),
            *(each for each in loading() if each.name != "problem"),
        ],
    )  # fmt: skip


def _compare(
    models: tuple[str, ...],
    problem: str | None,
    data: str | None,
    batch: int,
    repeat: int,
    warm_up: int,
    timeout_s: float | None,
    cast: bool,
    truth: str,
    metric: str | None,
    rtol: float,
    atol: float,
    scores: str,
    fail_over: float | None,
    json_file: str | None,
    picture: str | None,
    **loading: Any,
) -> int:
    if len(models) < 2:
        raise click.UsageError("a model is compared with another; name two or more")
    if picture and Path(picture).suffix.lower() != ".svg":
        raise click.UsageError(f"--picture: expected a file .svg; {picture!r} came")
    for file in (json_file, picture):
        if file and file != "-" and not Path(file).absolute().parent.is_dir():
            raise click.UsageError(f"{file!r} cannot be written: there is no such folder")

    from graphpipe.backends.options import LoadOptions
    from graphpipe.backends.unused import Said
    from graphpipe.comparison.comparing import Wanted, run
    from graphpipe.comparison.difference import Tolerance
    from graphpipe.setting import declared_in, read_keywords

    sys.path.insert(0, os.getcwd())  # `module:function` is looked for where the command is given
    spoken = {name: value for name, value in loading.items() if value is not None}
    backend = spoken.pop("backend", "")
    options = LoadOptions(**read_keywords("compare", declared_in(LoadOptions), spoken))
    said = {name: Said(f"--{name.replace('_', '-')}") for name in spoken}
    wanted = Wanted(
        data, problem, metric, batch, repeat, warm_up, Tolerance(rtol, atol), _names(scores),
        _names(truth), timeout_s, cast,
    )  # fmt: skip
    # Standard output is the report's: what a model or a metric prints meanwhile goes to standard error.
    with contextlib.redirect_stdout(sys.stderr):
        found = run(_named(models), wanted, options, said, backend, keep=True)
    if picture:
        Path(picture).write_text(found.picture(), "utf-8")
    if json_file and json_file != "-":
        Path(json_file).write_text(json.dumps(found.to_dict(), indent=1) + "\n", "utf-8")
    print(json.dumps(found.to_dict()) if json_file == "-" else found.table())
    if found.about.interrupted:
        return 130
    over = [] if fail_over is None else found.over(fail_over)
    for words in over:
        print(f"graphpipe compare: {words}", file=sys.stderr)
    return 1 if over else 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _named(models: tuple[str, ...]) -> dict[str, Any] | list[str]:
    """The models as they are, or by name where one was said."""
    from graphpipe.comparison.opening import named

    pairs = [_split(text) for text in models]
    plain = iter(named([source for name, source in pairs if not name]) if any(not name for name, _ in pairs) else [])
    found: dict[str, Any] = {}
    for name, text in pairs:
        called = name or next(plain).name
        if called in found:
            raise ValueError(f"two models are called {called!r}; name them: NAME=SOURCE")
        found[called] = text
    return found


def _split(text: str) -> tuple[str, str]:
    """The name and the source in NAME=SOURCE, or in a SOURCE alone, whose file may have a = in its name."""
    match = re.fullmatch(r"([A-Za-z0-9][\w.-]*)=(.+)", text, re.DOTALL)
    return ("", text) if match is None or Path(text).exists() else (match[1], match[2])
