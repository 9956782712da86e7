"""``graphpipe.fuse``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphpipe.backends.find import load
from graphpipe.backends.framework import framework
from graphpipe.backends.loaded import LoadedModel
from graphpipe.errors import LoadError
from graphpipe.words import first_line

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

    from graphpipe.fusing.stages import Graphs

__all__ = ["fuse"]

# What one message of protobuf can hold, and some room for what is beside the weights.
_MESSAGE_BYTES_MAX = (1 << 31) - (64 << 20)


def fuse(
    *parts: ModelProto | str | os.PathLike[str] | LoadedModel,
    path: str | os.PathLike[str] | None = None,
    name: str = "",
    name_map: Mapping[str, str] | None = None,
    outputs: Sequence[str] | Mapping[str, str] | None = None,
    custom_ops: Sequence[str] = (),
    examples: Sequence[Mapping[str, Any]] = (),
    external_data: bool = False,
    trial: bool = True,
) -> ModelProto:
    """One graph that does what ONNX graphs do one after another, and its file if there is a ``path``.

    An input of a part is what the last part before it gave under that name, else an input of the whole. ``name_map`` says
    of an input, ``"ids"`` or ``"model.ids"`` with the part's name, what it is to be: the name of an output, or one under
    which it is given from outside. ``outputs`` are those of the last part, or any that a part gives: names, or a mapping
    from the name that it is to have. A part is called after its file, and its values are called ``part/value``.

    Parts of older opsets are converted to the newest that one of them has; large weights go into a file beside
    (``path`` + ".data") with ``external_data``, and where they are over 2 GiB. ``custom_ops`` are libraries with operators
    of their own, which a runtime then needs too.

    A pipeline, or its file, may stand in place of the parts, if all its stages are files of ONNX: it says itself what goes
    where, and ``outputs`` are by the pipeline's names.

    Both are then asked the same by ONNX Runtime: inputs that are made up, or ``examples``, dicts from names to arrays;
    ``trial=False`` leaves that out. Raises LoadError for what is no ONNX graph, does not fit together, or answers otherwise.
    """
    if not parts:
        raise LoadError("there is nothing to fuse")
    framework("onnx", "fuse", extra="fuse")
    import onnx

    from graphpipe.fusing.inference import infer_part, infer_whole
    from graphpipe.fusing.joining import joined
    from graphpipe.fusing.opsets import align, ir_version
    from graphpipe.fusing.part import read, read_named
    from graphpipe.fusing.plan import connected, planned
    from graphpipe.fusing.trial import Parts, try_out

    graphs = _of_pipeline(parts, name_map, outputs)
    if graphs is None:
        read_parts = read(parts)
    else:
        read_parts = read_named(graphs.files)
        custom_ops = tuple(dict.fromkeys((*graphs.custom_ops, *custom_ops)))
        for part, takes in zip(read_parts, graphs.takes, strict=True):
            part.fix_defaults(besides=takes)
    opsets = align(read_parts)
    for part in read_parts:
        infer_part(part)
    if graphs is None:
        plan = planned(read_parts, name_map or {}, outputs)
        name = name or "_".join(part.name for part in read_parts)
    else:
        plan = connected(read_parts, graphs.takes, graphs.asked, graphs.given)
        name = name or graphs.name
    as_they_came = Parts(plan, custom_ops) if trial else None
    light, weights = joined(plan, opsets, ir_version(read_parts, opsets), name)
    model = _with_weights(infer_whole(light), weights)
    beside = external_data or sum(map(_bytes, weights.values())) > _MESSAGE_BYTES_MAX
    if path is None:
        if beside:
            raise LoadError("weights in a file beside the fused graph, or of over 2 GiB, need to know where: path=")
        if as_they_came is not None:
            try_out(as_they_came, model, custom_ops, examples)
        return model
    path = Path(path)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            made = Path(folder) / path.name
            data = f"{path.name}.data"
            onnx.save(model, made, save_as_external_data=beside, location=data, size_threshold=1024)
            if as_they_came is not None:
                try_out(as_they_came, made, custom_ops, examples)
            if made.with_name(data).exists():
                os.replace(made.with_name(data), path.with_name(data))
            os.replace(made, path)
    except OSError as error:
        raise LoadError(f"{path}: cannot be written: {error.strerror or first_line(error)}") from None
    return onnx.load(path) if beside else model  # what was saved beside a model is no longer in it


def _of_pipeline(
    parts: Sequence[object], name_map: Mapping[str, str] | None, outputs: Sequence[str] | Mapping[str, str] | None
) -> Graphs | None:
    """What a pipeline that stands in place of parts consists of; None where they are graphs themselves."""
    from graphpipe.fusing.stages import graphs_of_pipeline
    from graphpipe.pipeline.file import file_of
    from graphpipe.pipeline.flow import Flow

    for place, part in enumerate(parts, 1):
        if not isinstance(part, LoadedModel) and not (
            isinstance(part, str | os.PathLike) and file_of(os.fspath(part)) is not None
        ):
            continue
        if len(parts) > 1:
            raise LoadError(
                f"part {place} is a model or a pipeline; one pipeline is fused, or graphs, not both together"
            )
        if name_map:
            raise LoadError("a pipeline's stages say themselves what their inputs are, and take no name map")
        if outputs is not None and not isinstance(outputs, Mapping):
            outputs = {name: name for name in outputs}
        model = part if isinstance(part, LoadedModel) else load(os.fspath(part))
        try:
            if not isinstance(model.model, Flow):
                raise LoadError(f"{model.name!r} is {getattr(model.model, 'kind', 'a model')}, and no pipeline")
            return graphs_of_pipeline(model.model, outputs)
        finally:
            if model is not part:
                model.close()
    return None


def _with_weights(model: ModelProto, weights: Mapping[str, TensorProto]) -> ModelProto:
    """The model with its large weights in it, in place of the inputs that stood for them."""
    inputs = [info for info in model.graph.input if info.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for name, weight in weights.items():
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(weight)
        tensor.name = name
    return model


def _bytes(weight: TensorProto) -> int:
    return len(weight.raw_data) or weight.ByteSize()
