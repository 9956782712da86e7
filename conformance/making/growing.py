"""A schema that grows: messages of later ones, with fields that nobody knows yet, and of earlier ones, which had fewer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from conformance.making.tree import Byte, Dims, Long, Outside, Table, Word, message
from conformance.making.values import infer, io, metadata, response, tensor, vector

__all__ = ["invalid", "valid"]

Value = dict[str, Any]
Slots = Sequence[Any]

_NUMBERS = tensor("uint8", [3], b"\0\1\2")
# Every table of the schema, with all of its fields; ``valid`` replaces one of them at a time.
_FIELDS: dict[str, Slots] = {
    "error": (Long(-7), b"no"),
    "io": (b"x", b"an input", Dims([-1, 3]), Byte(10)),
    "tensor": (Byte(1), Dims([3]), b"\0\1\2", None, None),
    "infer-request": (b"config", [b"a"], [], [b"y"]),
    "metadata-request": (),
}
# What a later schema may have put behind the last field.
_LATER: dict[str, tuple[str, Slots]] = {
    "byte": ("a byte", (Byte(0xFF),)),
    "number": ("a number of 64 bits", (Long(-1),)),
    "text": ("text", (b"later",)),
    "offset": ("an offset that leads nowhere", (Word(0xFFFF_FFFF),)),
    "outside": ("a field outside of its table", (Outside(),)),
    "many": ("forty more, most of them absent", (*(None,) * 39, Word(0))),
}


def valid() -> Iterator[Value]:
    """Messages that every reader takes."""
    for name, slots in _tables().items():
        for later, (what, more) in _LATER.items():
            kind, content, value = _message({name: (*slots, *more)})
            comment = f"a table of {name.replace('-', ' ')} with a field that this schema does not have: {what}"
            yield vector(f"valid/later-{name}-{later}", comment, ["by-hand", "later"], kind, content, value)
    for name, number, value in _earlier():
        kind, content, _ = _message({name: _tables()[name][:number]})
        comment = f"a table of {name.replace('-', ' ')} from when the schema had {number} of its fields"
        yield vector(f"valid/earlier-{name}-{number}", comment, ["by-hand", "earlier"], kind, content, value)
    for number in (13, 255):
        for side in ("inputs", "outputs"):
            one: Value = {**io("x", "d", [-1]), "type_number": number}
            top = (b"", b"", b"", b"", [], [])
            at = 4 if side == "inputs" else 5
            slots = (*top[:at], [Table((b"x", b"d", Dims([-1]), Byte(number)))], *top[at + 1 :])
            comment = f"{side} of a type that this schema does not have: Null, and its number"
            yield vector(
                f"valid/later-type-{number}-of-{side}",
                comment,
                ["by-hand", "later", "read-only"],
                "metadata_response",
                message(Table(slots)),
                metadata(**{side: [one]}),
            )
    for mark, kind in ((1, "uint8"), (2, "uint8"), (0, "uint8"), (0, "int8")):
        content = message(Table((Byte(1), Table((b"", [], [_marked(mark, kind)], [])))))
        value = infer([tensor(kind, [3], b"\0\1\2")])
        comment = f"a tensor of {kind} that is marked as bool with {mark}"
        yield vector(f"valid/bool-{mark}-of-{kind}", comment, ["bool", "by-hand"], "request", content, value)


def invalid() -> Iterator[Value]:
    """Messages that no reader takes, and kinds of request that it does not know."""
    body = Table((b"", [], [], []))
    for name, kind, member in (
        ("3", 3, body),
        ("255", 255, body),
        ("3-without-body", 3, None),
        ("3-with-body-outside", 3, Outside()),
        ("3-with-body-nowhere", 3, Word(0xFFFF_FFFC)),
        ("3-with-a-body-at-itself", 3, Word(0)),
        ("3-with-a-broken-body", 3, Table((), size=0)),
    ):
        comment = f"a request of kind {name.replace('-', ' ')}, which this schema does not have"
        content = message(Table((Byte(kind), member)))
        yield vector(f"invalid/later-kind-{name}", comment, ["kind", "later"], "request", content, "unsupported")
    for name, slots in (
        ("0", (Byte(0), body)),
        ("0-without-body", (Byte(0),)),
        ("absent", (None, body)),
        ("outside", (Outside(), body)),
        ("1-with-body-outside", (Byte(1), Outside())),
        ("2-with-body-outside", (Byte(2), Outside())),
    ):
        comment = f"a request of kind {name.replace('-', ' ')}"
        yield vector(f"invalid/no-kind-{name}", comment, ["kind"], "request", message(Table(slots)), "malformed")
    for name, number in (("tensor", 0), ("tensor", 1), ("tensor", 2), ("request", 0), ("request", 1)):
        kind_of, content, _ = _message({name: _tables()[name][:number]})
        comment = f"a table of {name} with {number} of the fields that it needs"
        yield vector(f"invalid/earlier-{name}-{number}", comment, ["absent"], kind_of, content, "malformed")
    for name, mark, kind in (("int8", 1, "int8"), ("string", 1, "string"), ("int8-with-255", 255, "int8")):
        content = message(Table((Byte(1), Table((b"", [], [_marked(mark, kind)], [])))))
        comment = f"a tensor of {kind} that is marked as bool"
        yield vector(f"invalid/bool-of-{name}", comment, ["bool"], "request", content, "malformed")
    marked = Table((*_FIELDS["tensor"][:4], Outside()))
    content = message(Table((Byte(1), Table((b"", [], [marked], [])))))
    comment = "a mark of bool outside of its table"
    yield vector("invalid/bool-outside", comment, ["bool"], "request", content, "malformed")


def _marked(mark: int, kind: str) -> Table:
    if kind == "string":
        return Table((Byte(12), Dims([1]), b"", [b"x"], Byte(mark)))
    return Table((Byte(1 if kind == "uint8" else 2), Dims([3]), b"\0\1\2", None, Byte(mark)))


def _tables() -> dict[str, Slots]:
    """All tables with all of their fields, by name."""
    return {
        **_FIELDS,
        "request": (Byte(1), Table(_FIELDS["infer-request"])),
        "infer-response": ([Table(_FIELDS["tensor"])], [Table(_FIELDS["error"])]),
        "metadata-response": (b"n", b"v", b"s", b"d", [Table(_FIELDS["io"])], [Table(_FIELDS["io"])]),
    }


def _message(changed: Mapping[str, Slots]) -> tuple[str, bytes, Value]:
    """The message that holds a table of this name, which has these slots: its kind, its bytes, and what all of it says."""
    (name,) = changed
    tables = {**_tables(), **changed}
    own = Table(tables[name])
    if name in ("request", "infer-request"):
        top = own if name == "request" else Table((Byte(1), own))
        return "request", message(top), infer([], ["a"], ["y"], "config")
    if name == "metadata-request":
        return "request", message(Table((Byte(2), own))), {"type": "metadata"}
    if name in ("metadata-response", "io"):
        top = own if name == "metadata-response" else Table((*tables["metadata-response"][:4], [own], [own]))
        one = io("x", "an input", [-1, 3], "float32")
        return "metadata_response", message(top), metadata("n", "v", "s", "d", [one], [one])
    if name == "error":
        return "infer_response", message(Table(([], [own]))), response([], [(-7, "no")])
    if name == "tensor":
        return "infer_response", message(Table(([own],))), response([_NUMBERS])
    return "infer_response", message(own), response([_NUMBERS], [(-7, "no")])


def _earlier() -> Iterator[tuple[str, int, Value]]:
    """Tables with their first fields alone, and what is then said: what is missing has its default."""
    one = io("x", "an input", [-1, 3], "float32")
    texts = ("n", "v", "s", "d")
    for number in range(6):
        said = (*texts[:number], *("",) * (4 - number))[:4]
        yield "metadata-response", number, metadata(*said, [one] if number > 4 else [])
    for number, each in enumerate((io(), io("x"), io("x", "an input"), io("x", "an input", [-1, 3]))):
        yield "io", number, metadata(*texts, [each], [each])
    for number, value in enumerate((infer(), infer(config="config"), infer([], ["a"], [], "config"))):
        yield "infer-request", number, value
    yield "infer-request", 3, infer([], ["a"], [], "config")
    yield "infer-response", 0, response()
    yield "infer-response", 1, response([_NUMBERS])
    yield "error", 0, response([], [(0, "")])
    yield "error", 1, response([], [(-7, "")])
    yield "tensor", 3, response([_NUMBERS])
    yield "tensor", 4, response([_NUMBERS])
