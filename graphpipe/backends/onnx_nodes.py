"""The operators of an ONNX file and what goes between them, read without a framework.

Only names are read, and the shapes of weights; where the file is cut off or damaged, nobody is told more than that.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from graphpipe.backends.onnx_file import fields, varint, walking
from graphpipe.errors import LoadError

__all__ = ["Graph", "Node", "read"]

# The fields of a message that are read (onnx.proto).
_GRAPH, _PRODUCER, _PRODUCER_VERSION, _OPSETS = 7, 2, 3, 8
_NODE, _WEIGHT = 1, 5
_TAKES, _GIVES, _NAME, _KIND, _DOMAIN = 1, 2, 3, 4, 7
_DIMS, _WEIGHT_NAME = 1, 8
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
# More operators than any graph that people look at has.
_NODES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Node:
    """An operator: what it does, which one it is (may be empty), and the values that it takes and gives by name."""

    kind: str
    name: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """The operators of a file in their order, without those of graphs inside them; which values are weights, and how many
    numbers these have; who wrote the file, and by which set of operators.
    """

    nodes: tuple[Node, ...]
    weights: frozenset[str]
    weight_count: int
    producer: str
    opset: int | None


def read(path: Path) -> Graph | None:
    """The graph of a file; None of one in ONNX Runtime's own format. Raises LoadError for what is no whole file."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[4:8] == b"ORTM":
            return None
        with walking(path, data):
            return _model(path, data)


def _model(path: Path, data: mmap.mmap) -> Graph:
    nodes: list[Node] = []
    weights: dict[str, int] = {}
    producer = ["", ""]
    opset = None
    for number, start, stop in fields(data, 0, len(data)):
        if number == _GRAPH:
            for inner, first, last in fields(data, start, stop):
                if inner == _NODE:
                    nodes.append(_node(data, first, last))
                    if len(nodes) > _NODES_MAX:
                        raise LoadError(f"{path}: has more than {_NODES_MAX:,} operators")
                elif inner == _WEIGHT:
                    name, count = _weight(data, first, last)
                    weights[name] = count
        elif number in (_PRODUCER, _PRODUCER_VERSION):
            producer[number - _PRODUCER] = _text(data, start, stop)
        elif number == _OPSETS:
            entry = {inner: (first, last) for inner, first, last in fields(data, start, stop)}
            if not _text(data, *entry.get(_OPSET_DOMAIN, (0, 0))) and _OPSET_VERSION in entry:
                opset = varint(data, entry[_OPSET_VERSION][0])[0]
    return Graph(tuple(nodes), frozenset(weights), sum(weights.values()), " ".join(filter(None, producer)), opset)


def _node(data: mmap.mmap, at: int, end: int) -> Node:
    takes, gives, said = [], [], {}
    for number, start, stop in fields(data, at, end):
        if number == _TAKES:
            takes.append(_text(data, start, stop))
        elif number == _GIVES:
            gives.append(_text(data, start, stop))
        elif number in (_NAME, _KIND, _DOMAIN):
            said[number] = _text(data, start, stop)
    # An empty name stands for what is left out.
    return Node(said.get(_KIND, ""), said.get(_NAME, ""), tuple(filter(None, takes)), tuple(filter(None, gives)))


def _weight(data: mmap.mmap, at: int, end: int) -> tuple[str, int]:
    name, dims = "", list[int]()
    for number, start, stop in fields(data, at, end):
        if number == _DIMS:
            dims += _numbers(data, start, stop)
        elif number == _WEIGHT_NAME:
            name = _text(data, start, stop)
    return name, prod(dims)


def _numbers(data: mmap.mmap, at: int, end: int) -> Iterator[int]:
    """Of a repeated field, packed or not: one number reaches from its start to its end."""
    while at < end:
        value, at = varint(data, at)
        yield value


def _text(data: mmap.mmap, start: int, stop: int) -> str:
    return data[start:stop].decode("utf-8", "replace")
