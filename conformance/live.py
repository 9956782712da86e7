"""Calls of each client to running servers: what is asked, and what has to come back."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.making.valid import SIX, TEXTS, THREE
from conformance.making.values import infer, io, metadata, response, tensor
from conformance.models import SLOW_S

__all__ = [
    "FLAGS",
    "Check",
    "Live",
    "against_go",
    "against_server",
    "gives",
    "gives_no_answer",
    "gives_value",
    "says_no",
]

Value = dict[str, Any]
# What is wrong with a result; empty if nothing is.
Check = Callable[[Value], str]

_MODELS = Path(__file__).resolve().with_name("models.py")
_BODY_BYTES_MAX = 2**21
FLAGS = [
    *("--model", "echo", "--warmup", "0", "--body-bytes-max", str(_BODY_BYTES_MAX)),
    *(f"--model={name}={_MODELS}:{name}" for name in ("combine", "flip", "refuse", "slow", "patience")),
]


@dataclass(frozen=True)
class Live:
    """One case: ``path`` is that of the model."""

    row: str
    name: str
    path: str
    case: Value
    check: Check = field(repr=False)


def against_server(vectors: Sequence[Value]) -> Iterator[Live]:
    """Calls to graphpipe-serve with FLAGS."""
    yield from _types("types and shapes", "/models/echo", vectors)
    yield from _names_and_config()
    yield from _errors()
    yield from _deadlines()
    yield _loops("concurrent loops", "/models/echo")


def against_go(vectors: Sequence[Value]) -> Iterator[Live]:
    """Calls to the Go handler that the Go adapter serves with -serve: it answers its inputs."""
    row = "Go's handler as the server"
    yield from _types(row, "", vectors)
    outputs = [io("output", "", [], "null")]
    described = metadata("echo", "", "", "", [io("input", "", [], "null")], outputs)
    yield Live(row, "metadata", "", {"op": "metadata"}, gives_value(described, ("name", "inputs", "outputs")))
    fails = infer([SIX], config="fail")
    yield Live(row, "a model that fails", "", {"op": "call", "value": fails}, says_no(4, 500))
    refuses = infer([SIX], config="refuse")
    yield Live(row, "a model that refuses", "", {"op": "call", "value": refuses}, says_no(2, 400, "größe"))
    sleeps = {"op": "call", "value": infer([SIX], config="sleep"), "timeout_ms": 300}
    yield Live(row, "a model that is too slow", "", sleeps, _too_late)
    yield _loops(row, "")


# --- what is asked ----------------------------------------------------------------------------------------------------


def _types(row: str, path: str, vectors: Sequence[Value]) -> Iterator[Live]:
    """Every tensor of the vectors of our own writer that are about types comes back as it was."""
    for vector in vectors:
        if "types" in vector["flags"] and "builder" not in vector["flags"] and vector["message"] != "metadata_response":
            tensors = vector["value"].get("inputs") or vector["value"]["outputs"]
            yield _call(row, vector["id"].removeprefix("valid/"), path, infer(tensors), tensors)
    large = tensor("uint8", [1 << 20], bytes(range(256)) * 4096)
    yield _call(row, "a megabyte", path, infer([large]), [large])


def _names_and_config() -> Iterator[Live]:
    row = "names and config"

    def floats(*numbers: float) -> Value:
        return tensor("float32", [len(numbers)], struct.pack(f"<{len(numbers)}f", *numbers))

    a, b = floats(1, 2, 3), floats(10, 20, 30)
    added, less, more = floats(11, 22, 33), floats(-9, -18, -27), floats(9, 18, 27)
    config = '{"größe": "\U0001f600"}'
    said, nothing = tensor("string", [], [config.encode()]), tensor("string", [], [b""])
    for name, value, outputs in (
        ("the defaults, in order", infer([a, b]), [added, less, nothing]),
        ("inputs by name, in another order", infer([a, b], ["b", "a"]), [added, more, nothing]),
        ("outputs by name, in another order", infer([a, b], [], ["difference", "sum"]), [less, added]),
        ("an output twice", infer([a, b], ["a", "b"], ["sum", "sum"]), [added, added]),
        ("empty names", infer([a, b], ["", ""], ["", "config"]), [added, tensor("string", [], [b""])][:2]),
        ("2N names", infer([a, b], ["a", "b", "a", "b"], ["sum"]), [added]),
        ("names with :0", infer([a, b], ["a:0", "b:0"], ["sum:0"]), [added]),
        ("config", infer([a, b], ["a", "b"], ["config"], config), [said]),
    ):
        yield _call(row, name, "/models/combine", value, outputs)
    flags = tensor("uint8", [4], b"\0\1\2\1")
    flipped = [tensor("uint8", [4], b"\1\0\0\0"), tensor("int64", [], struct.pack("<q", 3))]
    yield _call(row, "bool travels as uint8", "/models/flip", infer([flags]), flipped)
    many = [THREE, SIX, TEXTS] * 20
    names = [f"größe {i}" for i in range(60)]
    yield _call(row, "60 inputs with names", "/models/echo", infer(many, names, names[::-1]), many[::-1])
    yield _call(row, "no inputs", "/models/echo", infer(), [])
    yield _call(row, "the first model has the root path", "", infer([SIX]), [SIX])
    described = metadata(
        "combine", "", "", "",
        [io("a", "", [-1], "float32"), io("b", "", [-1], "float32")],
        [io("sum", "", [-1], "float32"), io("difference", "", [-1], "float32"), io("config", "", [], "string")],
    )  # fmt: skip
    ask = {"op": "metadata"}
    yield Live(
        row,
        "metadata",
        "/models/combine",
        ask,
        gives_value(described, ("name", "inputs", "outputs"), ("name", "shape", "type")),
    )
    yield Live(row, "metadata of a model that takes bool", "/models/flip", ask, _is_ok)


def _errors() -> Iterator[Live]:
    row = "errors"

    def made(name: str, path: str, value: Value, check: Check) -> Live:
        return Live(row, name, path, {"op": "call", "value": value}, check)

    floats = tensor("float32", [3], bytes(12))
    for name, code, status in (
        ("MalformedMessage", 1, 400),
        ("InvalidRequest", 2, 400),
        ("NotFound", 3, 404),
        ("TooLarge", 5, 413),
        ("Overloaded", 6, 503),
        ("DeadlineExceeded", 7, 504),
        ("Unauthenticated", 8, 401),
        ("Forbidden", 9, 403),
        ("NotReady", 10, 503),
        ("Unsupported", 11, 405),
        ("UpstreamFailed", 12, 502),
    ):
        yield made(
            f"{name}, raised", "/models/refuse", infer([floats], config=name), says_no(code, status, f"größe: {name}")
        )
    yield made("a model that fails", "/models/refuse", infer([floats], config="nobody foresaw this"), says_no(4, 500))
    yield made("no such model", "/models/none", infer([floats]), says_no(3, 404, "combine"))
    yield made("no such output", "/models/combine", infer([floats] * 2, [], ["product"]), says_no(2, 400, "product"))
    yield made("no such input", "/models/combine", infer([floats] * 2, ["a", "größe"]), says_no(2, 400, "größe"))
    yield made("an input twice", "/models/combine", infer([floats] * 2, ["a", "a"]), says_no(2, 400, "twice"))
    yield made("an input is missing", "/models/combine", infer([floats]), says_no(2, 400, "missing"))
    yield made("another type", "/models/combine", infer([SIX, THREE]), says_no(2, 400, "float32"))
    yield made("another shape", "/models/combine", infer([SIX, floats]), says_no(2, 400, "shape"))
    large = tensor("uint8", [_BODY_BYTES_MAX], bytes(_BODY_BYTES_MAX))
    yield made("too large a body", "/models/echo", infer([large]), says_no(5, 413))
    yield Live(row, "metadata of no such model", "/models/none", {"op": "metadata"}, says_no(3, 404))


def _deadlines() -> Iterator[Live]:
    row = "deadlines"
    one = infer([tensor("float32", [], bytes(4))])
    late = {"op": "call", "value": one, "timeout_ms": 300}
    yield Live(row, "a model that is too slow", "/models/slow", late, _too_late)
    told = {"op": "call", "value": one, "timeout_ms": 30_000}
    yield Live(row, "the server is told", "/models/patience", told, _waits_up_to(30))
    untold = {"op": "call", "value": one}
    yield Live(row, "60 s if nobody says anything", "/models/patience", untold, _waits_up_to(60))
    long = {"op": "call", "value": one, "timeout_ms": int(SLOW_S * 20_000)}
    yield Live(row, "slow, but in time", "/models/slow", long, gives(one["inputs"]))


def _loops(row: str, path: str) -> Live:
    values = [infer([SIX, TEXTS]), infer([THREE])]

    def check(result: Value) -> str:
        wanted = [response(value["inputs"]) for value in values]
        return "" if result.get("values") == wanted else _unexpected(result)

    return Live(
        row, "2 loops of 100 calls through one client", path, {"op": "loops", "values": values, "calls": 100}, check
    )


def _call(row: str, name: str, path: str, value: Value, outputs: Sequence[Value]) -> Live:
    return Live(row, name, path, {"op": "call", "value": value}, gives(outputs))


# --- what has to come back --------------------------------------------------------------------------------------------


def _unexpected(result: Value) -> str:
    text = str({key: value for key, value in result.items() if key != "id"})
    return f"got {text[:300]}"


def _is_ok(result: Value) -> str:
    return "" if result.get("ok") else _unexpected(result)


def gives(outputs: Sequence[Value]) -> Check:
    """These outputs."""
    wanted = response(outputs)
    return lambda result: "" if result.get("value") == wanted else _unexpected(result)


def gives_value(wanted: Value, keys: Sequence[str], of_each: Sequence[str] = ("name",)) -> Check:
    """What is in ``keys`` of this value, of lists what is in ``of_each`` of their members."""

    def part(value: Value) -> list[Any]:
        return [
            [{key: one[key] for key in of_each} for one in value[key]] if isinstance(value[key], list) else value[key]
            for key in keys
        ]

    return lambda result: "" if result.get("ok") and part(result["value"]) == part(wanted) else _unexpected(result)


def says_no(code: int, status: int, words: str = "") -> Check:
    """The server's own refusal, with these words among others."""

    def check(result: Value) -> str:
        said = (result.get("error"), result.get("code"), result.get("status"))
        if said != ("server", str(code), status) or words not in result.get("message", ""):
            return f"expected code {code}, status {status} and {words!r}; {_unexpected(result)}"
        return ""

    return check


def gives_no_answer(result: Value) -> str:
    """No answer that a client may believe."""
    return "" if result.get("error") == "no_answer" else _unexpected(result)


def _too_late(result: Value) -> str:
    """The server's 504 or the client's own timeout, whichever is quicker; never the slow answer."""
    said = (result.get("error"), result.get("code"), result.get("status"))
    return "" if said in (("server", "7", 504), ("no_answer", None, None)) else _unexpected(result)


def _waits_up_to(seconds: float) -> Check:
    def check(result: Value) -> str:
        if not result.get("ok"):
            return _unexpected(result)
        (left,) = struct.unpack("<d", base64.b64decode(result["value"]["outputs"][0]["data"]))
        # Half a millisecond for the server's clock, which counts whole ones.
        return "" if 0 < left <= seconds + 0.0005 else f"expected at most {seconds} s; {_unexpected(result)}"

    return check
