"""What the fields of an IOMetadata cannot say of an input or output, said in front of its description, and read again.

The fields have a type and a shape, -1 where a dimension varies. They know no symbols, no unknown rank, no bool, and no
input that stands for any number of tensors. Where a spec has one of these, the description begins with the whole spec in
the grammar of TensorSpec.of, and words for people follow: ``float32[n, 64]; an image``. docs/wire.md has the grammar.

A description is believed only where it agrees with the fields. One without a spec is words alone, of which those that our
own servers wrote before there was a grammar are understood as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graphpipe.signature import Dim, Signature, TensorSpec
from graphpipe.wire.dtypes import DTYPES, Type, type_of
from graphpipe.wire.messages import IOMetadata, MetadataResponse

__all__ = ["io_of", "metadata_of", "spec_of"]

_SPEC = re.compile(
    r"\s*(?P<spec>(?:any|bool|string|u?int(?:8|16|32|64)|float(?:16|32|64))"
    # Unrolled, so that nothing is tried twice: a description may be megabytes.
    r'(?:\[[^\]"]*(?:"[^"\\]*(?:\\.[^"\\]*)*"[^\]"]*)*\])?(?:\.\.\.)?)\s*(?:; ?(?P<words>.*))?',
    re.DOTALL,
)
_BOOL = np.dtype(bool)


def metadata_of(
    name: str, signature: Signature, *, version: str = "", server: str = "", description: str = ""
) -> MetadataResponse:
    """What a model takes and gives, in the order of its defaults."""
    inputs = _ios(signature.inputs, signature.input_names)
    return MetadataResponse(name, version, server, description, inputs, _ios(signature.outputs, signature.output_names))


def _ios(specs: Sequence[TensorSpec], names: Sequence[str]) -> tuple[IOMetadata, ...]:
    by_name = {spec.name: spec for spec in specs}
    return tuple([io_of(by_name.get(name, TensorSpec(name))) for name in names])


def io_of(spec: TensorSpec) -> IOMetadata:
    """An input or output as metadata has it. A type that does not travel is unknown there."""
    kind = type_of(spec.dtype)
    if spec.dtype != _BOOL:
        spec = replace(spec, dtype=DTYPES[kind])
    shape = tuple([dim if isinstance(dim, int) else -1 for dim in spec.shape or ()])
    io = IOMetadata(spec.name, spec.description, shape, kind)
    if _fields_of(io) == spec and spec_of(io) == spec:
        return io  # nothing is left to say, nor will anything be read into its words
    return replace(io, description=f"{spec.text}; {spec.description}" if spec.description else spec.text)


def spec_of(io: IOMetadata) -> TensorSpec:
    """What metadata says of an input or output. Types and dimensions that it leaves open are None."""
    found = _SPEC.fullmatch(io.description)
    if found is not None:
        try:
            spec = TensorSpec.of(io.name, found["spec"])
        except ValueError:
            return _by_words(io)
        if _agree(spec, io):
            return replace(spec, description=found["words"] or "")
    return _by_words(io)


def _fields_of(io: IOMetadata) -> TensorSpec:
    """What the fields alone say."""
    return TensorSpec(
        io.name, DTYPES[io.type], tuple([dim if dim >= 0 else None for dim in io.shape]), description=io.description
    )


def _agree(spec: TensorSpec, io: IOMetadata) -> bool:
    if type_of(spec.dtype) is not io.type:
        return False
    if spec.shape is None:
        return not io.shape
    return _dims_agree(spec.shape, io.shape)


def _dims_agree(dims: tuple[Dim, ...], shape: tuple[int, ...]) -> bool:
    return len(dims) == len(shape) and all(
        (dim if isinstance(dim, int) else -1) == field for dim, field in zip(dims, shape, strict=True)
    )


def _by_words(io: IOMetadata) -> TensorSpec:
    """The same, where the description has no spec: the words of our servers of before are no grammar, but are known."""
    spec = _fields_of(io)
    *words, last = io.description.split("; ")
    if last == "bool, as 0 and 1" and io.type is Type.UINT8:
        spec = replace(spec, dtype=_BOOL, description="; ".join(words))
        *words, last = words or [""]
    if not io.shape and "any shape" in spec.description:
        if last == "any shape":
            spec = replace(spec, description="; ".join(words))
        many = io.type is Type.NULL and "any number of tensors" in spec.description
        return replace(spec, shape=None, repeated=many)
    if last.startswith("[") and last.endswith("]"):
        dims = tuple([_dim(text) for text in last[1:-1].split(", ")])
        if any(isinstance(dim, str) for dim in dims) and _dims_agree(dims, io.shape):
            return replace(spec, shape=dims, description="; ".join(words))
    return spec


def _dim(text: str) -> Dim:
    if text.isdecimal() and len(text) < 20:
        return int(text)
    return None if text == "?" else text
