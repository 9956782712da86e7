"""The names of the original GraphPipe's programs: ``graphpipe-tf``, ``-onnx``, ``-echo``, ``-batcher``.

Each takes the flags that its original took, says them in those of ``graphpipe-serve``, and becomes that. Flags that the
original did not have are passed on, so ``graphpipe-tf --model graph.pb --threads 4`` works too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from graphpipe.commandline import Command, option, run

__all__ = ["batcher", "echo", "onnx", "tensorflow"]


def tensorflow() -> None:
    """Run ``graphpipe-tf``."""
    _run(
        "graphpipe-tf", "Serve a TensorFlow model. graphpipe-serve does the same, for every framework.",
        lambda model, **said: _model(model) + _said(said, "inputs", "outputs", "listen") + _cache(said),
        option("-m", "--model", metavar="SOURCE", help="SavedModel's folder, frozen graph, Keras file, or a URL of one."),
        *_names(), _listen(), *_caching("--cache-dir", "-c"),
    )  # fmt: skip


def onnx() -> None:
    """Run ``graphpipe-onnx``."""

    def told(model: str | None, **said: Any) -> list[str]:
        if said["init_net"] or said["predict_net"]:
            from graphpipe.backends.caffe2 import REFUSAL

            sys.exit(f"graphpipe-onnx: {REFUSAL}")
        device = ["--device", "cpu"] if said["disable_cuda"] else []
        threads = ["--threads", said["engine_count"]] if said["engine_count"] else []
        return [*_model(model), *_said(said, "value_inputs", "listen"), *_cache(said), *device, *threads]

    _run(
        "graphpipe-onnx", "Serve an ONNX model. graphpipe-serve does the same, for every framework.", told,
        option("-m", "--model", metavar="SOURCE", help="ONNX file, or a URL of one."),
        option("value_inputs", "--value_inputs", "--value-inputs", metavar="FILE",
               help="JSON file with the inputs' names, types and shapes."),
        option("engine_count", "--engine_count", "--engine-count", metavar="N", help="Calls that run at once."),
        option("--disable-cuda", is_flag=True, help="Compute on the CPU, as is the default."),
        _listen(), *_caching("--dir"),
        option("--profile", metavar="TEXT", help="Taken, and not used."),
        option("init_net", "--init_net", "--init-net", envvar="GP_INIT_NET", metavar="FILE", help="Refused."),
        option("predict_net", "--predict_net", "--predict-net", envvar="GP_PREDICT_NET", metavar="FILE",
               help="Refused, as Caffe2 nets are not served."),
    )  # fmt: skip


def echo() -> None:
    """Run ``graphpipe-echo``."""
    _run(
        "graphpipe-echo", "Answer every request with its own tensors.",
        lambda **said: ["--model", "echo", *_said(said, "listen")], _listen(),
    )  # fmt: skip


def batcher() -> None:
    """Run ``graphpipe-batcher``."""

    def told(target_url: str, batch_size: str, timeout: str, workers: str, **said: Any) -> list[str]:
        batches = ["--batch-rows-max", batch_size, "--batch-wait-ms", timeout, "--threads", workers]
        return ["--model", f"remote:{target_url}", *batches, *_said(said, "inputs", "outputs", "listen"), *_cache(said)]

    _run(
        "graphpipe-batcher", "Join the rows of many requests to another server into few.", told,
        option("--target-url", required=True, metavar="URL", help="The server to ask."),
        option("--batch-size", default="10", show_default=True, metavar="N", help="Rows that close a batch."),
        option("--timeout", default="250", show_default=True, metavar="MS", help="How long the first of a batch waits."),
        option("--workers", default="1", show_default=True, metavar="N", help="Batches under way at once."),
        *_names(), _listen("127.0.0.1:10000"), *_caching("--cache-dir", "-c"),
    )  # fmt: skip


def _run(name: str, what: str, told: Callable[..., Sequence[str]], *options: click.Option) -> None:
    """Say what the original's flags say in ours, with all others behind them, and become ``graphpipe-serve``."""
    from graphpipe.server.start import serve_main

    def become(**said: Any) -> None:
        sys.argv = [name, *told(**said), *click.get_current_context().args]
        serve_main()

    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    further = "Every flag of graphpipe-serve is taken as well: graphpipe-serve --help\n"
    command = Command(
        name, help=what, callback=become, params=list(options), context_settings=settings, examples=further
    )
    run(command, name)


def _listen(default: str | None = None) -> click.Option:
    where = f"Where to listen, {default or '127.0.0.1:9000'} unless given."
    return option("-l", "--listen", default=default, metavar="ADDRESS", help=where)


def _caching(folder: str, *short: str) -> list[click.Option]:
    return [
        option("cache", *short, "--cache", is_flag=True, help="Remember results by row."),
        option("cache_dir", "-d", folder, metavar="FOLDER", help="Folder of the cache."),
    ]


def _names() -> list[click.Option]:
    return [
        option("-i", "--inputs", metavar="NAMES", help="Default inputs, separated by commas."),
        option("-o", "--outputs", metavar="NAMES", help="Default outputs, separated by commas."),
    ]


def _model(source: str | None) -> list[str]:
    return [] if source is None else ["--model", os.path.expanduser(source)]


def _said(said: dict[str, Any], *fields: str) -> list[str]:
    """The flags of the same name, for what was given."""
    given = [field for field in fields if said[field] is not None]
    return [word for field in given for word in (f"--{field.replace('_', '-')}", said[field])]


def _cache(said: dict[str, Any]) -> list[str]:
    folder = ["--cache-dir", os.path.expanduser(said["cache_dir"])] if said["cache_dir"] else []
    return [*(["--cache"] if said["cache"] else []), *folder]
