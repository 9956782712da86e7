"""The names of the original GraphPipe's programs: ``graphpipe-tf``, ``-onnx``, ``-echo``, ``-batcher``.

Each takes the flags that its original took, says them in those of ``graphpipe-serve``, and becomes that. Flags that the
original did not have are passed on, so ``graphpipe-tf --model graph.pb --threads 4`` works too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

__all__ = ["batcher", "echo", "onnx", "tensorflow"]


def tensorflow() -> None:
    """Run ``graphpipe-tf``."""
    parser = _parser("graphpipe-tf", "Serve a TensorFlow model. graphpipe-serve does the same, for every framework.")
    _common(parser, cache_dir="--cache-dir")
    parser.add_argument("-c", "--cache", action="store_true", help="remember results by row")
    _names(parser)
    parser.add_argument("-m", "--model", help="SavedModel's folder, frozen graph, Keras file, or a URL of one")
    known, further = parser.parse_known_args()
    _become(
        "graphpipe-tf", [*_model(known.model), *_said(known, "inputs", "outputs", "listen"), *_cache(known), *further]
    )


def onnx() -> None:
    """Run ``graphpipe-onnx``."""
    parser = _parser("graphpipe-onnx", "Serve an ONNX model. graphpipe-serve does the same, for every framework.")
    _common(parser, cache_dir="--dir")
    parser.add_argument("--cache", action="store_true", help="remember results by row")
    parser.add_argument("-m", "--model", help="ONNX file, or a URL of one")
    parser.add_argument("--value_inputs", "--value-inputs", help="JSON file with the inputs' names, types and shapes")
    parser.add_argument("--init_net", "--init-net", default=os.environ.get("GP_INIT_NET"), help="refused: see below")
    parser.add_argument("--predict_net", "--predict-net", default=os.environ.get("GP_PREDICT_NET"), help="refused")
    parser.add_argument("--disable-cuda", action="store_true", help="compute on the CPU, as is the default")
    parser.add_argument("--profile", help="taken, and not used")
    parser.add_argument("--engine_count", "--engine-count", help="calls that run at once")
    known, further = parser.parse_known_args()
    if known.init_net or known.predict_net:
        from graphpipe.backends.caffe2 import REFUSAL

        sys.exit(f"graphpipe-onnx: {REFUSAL}")
    arguments = [*_model(known.model), *_said(known, "value_inputs", "listen"), *_cache(known)]
    if known.disable_cuda:
        arguments += ["--device", "cpu"]
    if known.engine_count:
        arguments += ["--threads", known.engine_count]
    _become("graphpipe-onnx", [*arguments, *further])


def echo() -> None:
    """Run ``graphpipe-echo``."""
    parser = _parser("graphpipe-echo", "Answer every request with its own tensors.")
    parser.add_argument("-l", "--listen", help="address to listen on, 127.0.0.1:9000 unless given")
    known, further = parser.parse_known_args()
    _become("graphpipe-echo", ["--model", "echo", *_said(known, "listen"), *further])


def batcher() -> None:
    """Run ``graphpipe-batcher``."""
    parser = _parser("graphpipe-batcher", "Join the rows of many requests to another server into few.")
    _common(parser, cache_dir="--cache-dir", listen="127.0.0.1:10000")
    parser.add_argument("-c", "--cache", action="store_true", help="remember results by row")
    _names(parser)
    parser.add_argument("--target-url", required=True, help="the server to ask")
    parser.add_argument("--batch-size", default="10", help="rows that close a batch, 10 unless given")
    parser.add_argument("--timeout", default="250", help="ms that the first of a batch waits, 250 unless given")
    parser.add_argument("--workers", default="1", help="batches under way at once, 1 unless given")
    known, further = parser.parse_known_args()
    arguments = [
        "--model", f"remote:{known.target_url}", "--batch-rows-max", known.batch_size, "--batch-wait-ms", known.timeout,
        "--threads", known.workers, *_said(known, "inputs", "outputs", "listen"), *_cache(known),
    ]  # fmt: skip
    _become("graphpipe-batcher", [*arguments, *further])


def _parser(name: str, what: str) -> argparse.ArgumentParser:
    # No abbreviations: --batch-size must not swallow a --batch-sizes that is meant for graphpipe-serve.
    return argparse.ArgumentParser(
        name,
        description=f"{what} Takes every flag of graphpipe-serve as well: graphpipe-serve --help.",
        allow_abbrev=False,
    )


def _common(parser: argparse.ArgumentParser, cache_dir: str, listen: str | None = None) -> None:
    parser.add_argument("-l", "--listen", default=listen, help=f"address, {listen or '127.0.0.1:9000'} unless given")
    parser.add_argument("-d", cache_dir, dest="cache_dir", help="folder of the cache")


def _names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", "--inputs", help="default inputs, separated by commas")
    parser.add_argument("-o", "--outputs", help="default outputs, separated by commas")


def _model(source: str | None) -> list[str]:
    return [] if source is None else ["--model", os.path.expanduser(source)]


def _said(known: argparse.Namespace, *fields: str) -> list[str]:
    """The flags of the same name, for what was given."""
    arguments = []
    for field in fields:
        value = getattr(known, field)
        if value is not None:
            arguments += [f"--{field.replace('_', '-')}", value]
    return arguments


def _cache(known: argparse.Namespace) -> list[str]:
    folder = ["--cache-dir", os.path.expanduser(known.cache_dir)] if known.cache_dir else []
    return [*(["--cache"] if known.cache else []), *folder]


def _become(name: str, arguments: Sequence[str]) -> None:
    from graphpipe.server.start import serve_main

    sys.argv = [name, *arguments]
    serve_main()
