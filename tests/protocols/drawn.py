"""What hypothesis draws for protobuf: messages of the official classes, and bytes that were messages before damage."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.protocols.official import message_class

__all__ = ["damaged", "infer_requests", "parameters", "texts"]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_i64 = st.integers(-(2**63), 2**63 - 1)
_edges = st.sampled_from([0, 1, 127, 128, 2**31 - 1, 2**31, -1, -(2**31)])

_NUMBERS = {
    "bool_contents": st.booleans(),
    "int_contents": st.integers(-(2**31), 2**31 - 1) | st.integers(-128, 127),
    "int64_contents": _i64 | _edges,
    "uint_contents": st.integers(0, 2**32 - 1) | st.integers(0, 255),
    "uint64_contents": st.integers(0, 2**64 - 1) | st.integers(0, 300),
    "fp32_contents": st.floats(width=32),
    "fp64_contents": st.floats(),
    "bytes_contents": st.binary(max_size=9),
}
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP16": "fp32_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@st.composite
def parameters(draw: st.DrawFn, into: Any) -> None:
    """Some parameters, put into a map of them."""
    for name in draw(st.lists(texts, max_size=2)):
        kind = draw(st.sampled_from(["bool_param", "int64_param", "string_param", "double_param", "uint64_param", ""]))
        values = {
            "bool_param": st.booleans(),
            "int64_param": _i64,
            "string_param": texts,
            "double_param": st.floats(allow_nan=False),
            "uint64_param": st.integers(0, 2**64 - 1),
        }
        into[name].Clear()
        if kind:
            setattr(into[name], kind, draw(values[kind]))


@st.composite
def infer_requests(draw: st.DrawFn) -> Any:
    """A ModelInferRequest: mostly one that makes sense."""
    request = message_class("inference.ModelInferRequest")(
        model_name=draw(texts), model_version=draw(texts), id=draw(texts)
    )
    draw(parameters(request.parameters))
    raw = draw(st.booleans())
    for _ in range(draw(st.integers(0, 3))):
        datatype = draw(
            st.sampled_from([*_CONTENTS, "BF16", ""]) if draw(st.booleans()) else st.sampled_from([*_CONTENTS])
        )
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        number = 1
        for dim in shape:
            number *= dim
        number += draw(st.sampled_from([0, 0, 0, 0, 1]))
        tensor = request.inputs.add(name=draw(texts), datatype=datatype, shape=shape)
        draw(parameters(tensor.parameters))
        if raw:
            size = {"8": 1, "16": 2, "32": 4, "64": 8}.get(datatype.lstrip("UINTFP"), 1)
            request.raw_input_contents.append(draw(st.binary(min_size=number * size, max_size=number * size)))
        elif datatype in _CONTENTS:
            field = _CONTENTS[datatype]
            getattr(tensor.contents, field).extend(draw(st.lists(_NUMBERS[field], min_size=number, max_size=number)))
    for _ in range(draw(st.integers(0, 2))):
        draw(parameters(request.outputs.add(name=draw(texts)).parameters))
    return request


@st.composite
def damaged(draw: st.DrawFn, messages: st.SearchStrategy[bytes]) -> bytes:
    """A message of which some bytes are others, are missing, or came twice."""
    found = bytearray(draw(messages))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(found)))
        how = draw(st.sampled_from(["other", "cut", "more", "twice", "end"]))
        if how == "other" and at < len(found):
            found[at] = draw(st.integers(0, 255))
        elif how == "cut":
            del found[at : at + draw(st.integers(1, 3))]
        elif how == "more":
            found[at:at] = draw(st.binary(min_size=1, max_size=4))
        elif how == "twice":
            found += bytes(found)
        elif how == "end":
            del found[at:]
    return bytes(found)
