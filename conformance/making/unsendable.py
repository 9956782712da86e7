"""Values that no reader would take, and that every writer refuses before a byte is sent."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from conformance.making.valid import SIX, TEXTS, THREE
from conformance.making.values import infer, io, metadata, response, tensor, vector

__all__ = ["cases"]

Value = dict[str, Any]


def cases() -> Iterator[Value]:
    """All of them."""
    six = struct.pack("<6f", *range(6))
    for name, comment, made in (
        ("type-null", "a tensor of type Null", tensor("null", [0], b"")),
        ("type-unknown", "a type that there is not", tensor("bfloat16", [1], b"\0\0")),
        ("too-much-data", "24 bytes for 4 elements of 4 bytes", tensor("float32", [2, 2], six)),
        ("too-little-data", "24 bytes for 7 elements of 4 bytes", tensor("float32", [7], six)),
        ("half-an-element", "23 bytes for 6 elements of 4 bytes", tensor("float32", [6], six[:-1])),
        ("negative-dimension", "a dimension of -6", tensor("float32", [-6], six)),
        ("two-negative", "-2 times -3 is 6", tensor("float32", [-2, -3], six)),
        ("33-dimensions", "one more than there may be", tensor("uint8", [1] * 33, b"\0")),
        ("extent", "an array without elements that nobody can have", tensor("float32", [0, 2**62], b"")),
        ("extent-of-uint8", "an extent of 2 GiB", tensor("uint8", [0, 2**31], b"")),
        ("extent-of-float64", "an extent of 2 GiB", tensor("float64", [0, 2**28], b"")),
        ("extent-of-strings", "an extent of 2 GiB, at 4 bytes a string", tensor("string", [0, 2**29], [])),
        ("too-few-strings", "4 strings for 5 elements", {**TEXTS, "shape": ["5"]}),
        ("negative-strings", "-2 times -2 is 4", {**TEXTS, "shape": ["-2", "-2"]}),
        ("data-as-strings", "strings in place of data", {**TEXTS, "type": "uint8"}),
        ("strings-as-data", "data in place of strings", {**THREE, "type": "string"}),
    ):
        yield _made(name, comment, ["tensor"], "request", infer([SIX, made]))
        yield _made(f"{name}-answered", comment, ["tensor"], "infer_response", response([made]))
    for name, message, value in (
        ("input-names", "request", infer([SIX], {"repeat": [""], "times": 4097})),
        ("output-names", "request", infer([SIX], [], {"repeat": ["y"], "times": 4097})),
        ("inputs", "request", {**infer(), "inputs": {"repeat": [THREE], "times": 4097}}),
        ("outputs", "infer_response", {**response(), "outputs": {"repeat": [THREE], "times": 4097}}),
        (
            "errors",
            "infer_response",
            {**response(), "errors": {"repeat": [{"code": "1", "message": ""}], "times": 4097}},
        ),
        ("described-inputs", "metadata_response", {**metadata(), "inputs": {"repeat": [io()], "times": 4097}}),
        ("described-outputs", "metadata_response", {**metadata(), "outputs": {"repeat": [io()], "times": 4097}}),
    ):
        yield _made(f"4097-{name}", "one more than there may be", ["limits"], message, value)
    long = {"repeat": "x", "times": 2**24 + 1}
    half = {"repeat": "größer ", "times": 2**20}
    for name, message, value in (
        ("config", "request", infer(config=long)),
        (
            "config-and-names",
            "request",
            infer(config=half, input_names=[""], output_names=["x" * 64]) | {"config": half},
        ),
        ("description", "metadata_response", {**metadata(), "description": long}),
        ("error", "infer_response", {**response(), "errors": [{"code": "4", "message": long}]}),
    ):
        if name == "config-and-names":
            value["input_names"] = [half]
        yield _made(f"text-of-{name}", "more than 16 MiB of text", ["large", "limits"], message, value)
    for name, comment, one in (
        ("33-dimensions", "one more than there may be", io("x", "", [1] * 33)),
        ("dimension-of-minus-2", "only -1 has a meaning", io("x", "", [-2])),
    ):
        yield _made(f"described-{name}", comment, ["metadata"], "metadata_response", metadata(inputs=[one]))


def _made(name: str, comment: str, flags: list[str], message: str, value: Value) -> Value:
    return vector(f"unsendable/{name}", comment, flags, message, None, value)
