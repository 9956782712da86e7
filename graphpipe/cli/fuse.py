"""``graphpipe fuse``: makes one ONNX file of several that follow one another."""

from __future__ import annotations

from pathlib import Path

import click

from graphpipe.backends.onnx_file import files_beside
from graphpipe.commandline import Argument, Command, option
from graphpipe.errors import LoadError
from graphpipe.progress import readable_bytes
from graphpipe.words import counted

__all__ = ["command"]

_EXAMPLES = """\
examples:
  graphpipe fuse before.onnx model.onnx after.onnx --output whole.onnx
  graphpipe fuse scale.onnx model.onnx --output whole.onnx --name-map model.pixels=scaled
  graphpipe fuse model.onnx after.onnx --output whole.onnx --outputs label,scores=model.probabilities
  graphpipe fuse tokenizer.onnx model.onnx -o whole.onnx --custom-ops libortextensions.so --example text.npz
  graphpipe fuse pipeline.toml --output whole.onnx

An input is what the last part before it gives under that name, else an input of the whole. A part is called after its
file: model.onnx is model. A pipeline whose stages are all ONNX files says all that itself. Both are asked the same before
the file is there. docs/fusing.md has the rest.
"""


def command() -> Command:
    """The command, with what it takes."""
    return Command(
        "fuse", help="Make one ONNX file of several that follow one another.", callback=_fuse, examples=_EXAMPLES,
        params=[
            Argument("parts", nargs=-1, required=True, metavar="PART...", type=click.Path(),
                     help="ONNX files, in the order in which they run; or one pipeline.toml of such."),
            option("output", "-o", "--output", required=True, metavar="FILE", type=click.Path(dir_okay=False),
                   help="Where it is written to."),
            option("--name-map", multiple=True, metavar="[PART.]INPUT=NAME",
                   help="What an input is, where no output has its name: an output, or how it is given; repeat it."),
            option("--outputs", default="", metavar="[NAME=]OUTPUT,...",
                   help="What it gives: outputs of any part, under these names.  [default: those of the last part]"),
            option("--name", default="", help="What the graph is called.  [default: its parts' names]"),
            option("--custom-ops", multiple=True, metavar="LIBRARY", type=click.Path(),
                   help="Operators that ONNX Runtime does not have; repeat it for more."),
            option("--example", multiple=True, metavar="FILE", type=click.Path(),
                   help="Inputs to try it with, as .npz, by their names.  [default: made up]"),
            option("--external-data", is_flag=True, help="Large weights go into a file beside it, as those over 2 GiB do."),
            option("--trial/--no-trial", default=True, help="Whether it is held against its parts first."),
        ],
    )  # fmt: skip


def _fuse(
    parts: tuple[str, ...],
    output: str,
    name_map: tuple[str, ...],
    outputs: str,
    name: str,
    custom_ops: tuple[str, ...],
    example: tuple[str, ...],
    external_data: bool,
    trial: bool,
) -> None:
    import numpy as np

    from graphpipe.fusing.fusing import fuse

    examples = []
    for file in example:
        try:
            with np.load(file) as arrays:  # never pickles
                examples.append(dict(arrays.items()))
        except (OSError, ValueError, EOFError, AttributeError) as error:
            raise LoadError(f"{file}: is no .npz file of numbers and texts, such as numpy.savez writes") from error
    wanted = [_pair(each, "--outputs", optional=True) for each in outputs.split(",") if each.strip()]
    model = fuse(
        *parts, path=output, name=name, name_map=dict(_pair(each, "--name-map") for each in name_map),
        outputs=dict(wanted) or None, custom_ops=custom_ops, examples=examples, external_data=external_data, trial=trial,
    )  # fmt: skip
    from graphpipe.fusing.types import text
    from graphpipe.pipeline.file import file_of

    opsets = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import)
    what = "a pipeline in one graph" if file_of(parts[0]) else f"{counted(len(parts), 'graph')} in one"
    print(f"{output}: {what}, {readable_bytes(_bytes(Path(output)))}; opsets {opsets}")
    optional = {tensor.name for tensor in model.graph.initializer}
    for what, infos in (("takes", model.graph.input), ("gives", model.graph.output)):
        for info in infos:
            print(f"  {what} {info.name}: {text(info)}{' (may be left out)' * (info.name in optional)}")


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, *(path.with_name(name) for name in files_beside(path))))


def _pair(text: str, what: str, *, optional: bool = False) -> tuple[str, str]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not name or not (value or (optional and not equals)):
        raise click.UsageError(f"{what} takes {'[NAME=]OUTPUT' if optional else '[PART.]INPUT=NAME'}; {text!r} came")
    return name, value or name
