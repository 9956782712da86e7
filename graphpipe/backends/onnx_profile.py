"""Where the time of an ONNX model goes: ONNX Runtime measures each operator, and writes down what it makes of the graph."""

from __future__ import annotations

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from graphpipe.backends.onnx_file import files_beside
from graphpipe.backends.onnx_nodes import Graph, read
from graphpipe.backends.profile import Operator, Profile
from graphpipe.errors import LoadError

__all__ = ["profiled"]

# Opens a session of a file, whose settings were prepared by somebody.
Opens = Callable[[str, Callable[[Any], None]], Any]

_SUFFIX = "_kernel_time"
# What runs graphs of its own: its time has that of the operators in there.
_CONTROL = ("If", "Loop", "Scan")
# The graph as it is run is written to a file and read again, weights and all; a larger one is only measured.
_WRITTEN_BYTES_MAX = 256 << 20
_TYPES = {"float": "float32", "double": "float64", "float16": "float16", "bfloat16": "bfloat16"}


def profiled(
    opens: Opens, path: Path, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], runs: int
) -> Profile:
    """Run a model of its own ``runs`` times and once before, measured. Raises whatever ONNX Runtime does."""
    graph = read(path)
    with tempfile.TemporaryDirectory(prefix="graphpipe-profile-") as folder:
        as_run = Path(folder, "as_run.onnx")

        def measured(source: Path, prepare: Callable[[Any], None]) -> dict[str, Operator]:
            def with_profiling(settings: Any) -> None:
                settings.enable_profiling = True
                settings.profile_file_prefix = str(Path(folder, "profile"))
                prepare(settings)

            session = opens(str(source), with_profiling)
            try:
                for _ in range(runs + 1):
                    session.run(outputs, inputs)
            finally:
                written = Path(session.end_profiling())
            return _measured(json.loads(written.read_text("utf-8", "replace")))

        def to_be_written(settings: Any) -> None:
            beside = files_beside(path)
            size = sum(each.stat().st_size for each in (path, *(path.parent / name for name in beside)))
            if graph is None or size > _WRITTEN_BYTES_MAX:
                return
            settings.optimized_model_filepath = str(as_run)
            if beside:
                settings.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")

        found = measured(path, to_be_written)
        made = _read(as_run)
        if made is not None and not all(node.name for node in made.nodes):
            # What has no name is called by its place, and that is known in this file only.
            found = measured(as_run, _leave_as_it_is)
    notes = []
    if graph is not None:
        notes = [f"opset {graph.opset}"] if graph.opset is not None else []
        notes += [f"written by {graph.producer}"] if graph.producer else []
    return Profile(
        tuple(found.values()) if made is None else _linked(made, found),
        None if graph is None else dict(Counter(node.kind for node in graph.nodes)),
        made is not None,
        None if graph is None else graph.weight_count,
        tuple(notes),
    )


def _leave_as_it_is(settings: Any) -> None:
    settings.graph_optimization_level = type(settings.graph_optimization_level).ORT_DISABLE_ALL


def _read(as_run: Path) -> Graph | None:
    """What ONNX Runtime wrote; None where that is nothing that can be read."""
    try:
        return read(as_run) if as_run.exists() else None
    except LoadError:
        return None


def _measured(events: Sequence[Mapping[str, Any]]) -> dict[str, Operator]:
    """The operators that were run, by name, each with its time in a call; the first call is left out."""
    calls = sorted((each["ts"], each["ts"] + each["dur"]) for each in events if each.get("name") == "model_run")
    begin = calls[0][1] if len(calls) > 1 else 0
    seconds: dict[str, list[float]] = defaultdict(list)
    last: dict[str, Operator] = {}
    for event in _outer(events):
        name = str(event["name"]).removesuffix(_SUFFIX)
        about = event.get("args", {})
        if event["ts"] >= begin:
            seconds[name].append(event["dur"] / 1e6)
        types = tuple(map(_type, about.get("output_type_shape") or ()))
        last[name] = Operator(str(about.get("op_name", "")), name, types=types)
    return {
        name: Operator(each.kind, name, types=each.types, seconds=_middle(seconds[name])) for name, each in last.items()
    }


def _outer(events: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Operators in the order in which they began, without those that run inside another."""
    of_nodes = [each for each in events if each.get("cat") == "Node" and str(each.get("name", "")).endswith(_SUFFIX)]
    end = -1
    # One that holds others may begin in the same microsecond: the longer one is the outer one.
    for event in sorted(of_nodes, key=lambda each: (each["ts"], -each["dur"])):
        if event["ts"] + event["dur"] <= end:
            continue
        if event.get("args", {}).get("op_name") in _CONTROL:
            end = event["ts"] + event["dur"]
        yield event


def _middle(seconds: Sequence[float]) -> float | None:
    """The mean of the middle half: single ones are whole microseconds, and some were disturbed."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    cut = len(ordered) // 4
    middle = ordered[cut : len(ordered) - cut]
    return sum(middle) / len(middle)


def _type(said: Mapping[str, Sequence[int]]) -> str:
    """Type and shape of an output, as ONNX Runtime has them: {"float": [1, 64]}."""
    return ", ".join(f"{_TYPES.get(kind, kind)}[{', '.join(map(str, dims))}]" for kind, dims in said.items())


def _linked(graph: Graph, measured: Mapping[str, Operator]) -> tuple[Operator, ...]:
    """The graph as it is run, with what was measured of it."""
    found = []
    for place, node in enumerate(graph.nodes):
        name = node.name or f"{node.kind}_{place}"
        its = measured.get(name)
        takes = tuple(each for each in dict.fromkeys(node.takes) if each not in graph.weights)
        types, seconds = ((), None) if its is None or its.kind != node.kind else (its.types, its.seconds)
        found.append(Operator(node.kind, name, takes, node.gives, types, seconds))
    return tuple(found)
