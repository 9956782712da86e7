"""Whether the vectors notice: Python's reader with one of its checks missing or wrong, over and over.

    python conformance/mutants.py [--sample N]

A mutant is killed where a vector is read otherwise than it should be. One that no vector kills is either a hole in the
vectors, which is a failure, or the same reader in other words: ``equivalent.py`` says of each of those why. Every change
of the kinds below is made, each by itself; ``--sample`` takes so many of them, always the same.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import os
import random
import resource
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from conformance.adapters import python as adapter
from conformance.cases import expand_bytes, expand_value, groups
from conformance.equivalent import EQUIVALENT
from graphpipe import wire
from graphpipe.errors import MalformedMessage, Unsupported

__all__ = ["Mutant", "mutants", "sample", "survivors"]

_WIRE = Path(wire.__file__).parent
_READER, _MESSAGES = _WIRE / "reader.py", _WIRE / "messages.py"
# Of messages.py, what reads.
_READING = ("decode_request", "decode_infer_response", "decode_metadata_response", "_refuse_later_kind", "_read_")
_SEED = 13
# A mutant may want all memory, or never end.
_MEMORY_MAX, _SECONDS_MAX = 6 << 30, 120

_OTHER: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """The reader with one change: ``name`` says which, the same as long as that line is."""

    name: str
    path: Path
    code: types.CodeType


def mutants() -> list[Mutant]:
    """All of them."""
    return [*_of(_READER, lambda name: True), *_of(_MESSAGES, lambda name: name.startswith(_READING))]


def sample(count: int) -> list[Mutant]:
    """So many of them, always the same ones."""
    return random.Random(_SEED).sample(mutants(), count)


def survivors(chosen: Sequence[Mutant], tell: Callable[[str], object] = lambda line: None) -> list[str]:
    """The names of those that no vector kills."""
    cases = _cases()
    if not _lives(_READER, compile(_READER.read_text(), str(_READER), "exec"), cases):
        raise AssertionError("the reader as it is fails the vectors")

    def lives(mutant: Mutant) -> bool:
        found = _lives(mutant.path, mutant.code, cases)
        tell(f"{'LIVES ' if found else 'killed'} {mutant.name}")
        return found

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [mutant.name for mutant, found in zip(chosen, pool.map(lives, chosen), strict=True) if found]


# --- making them ------------------------------------------------------------------------------------------------------


def _of(path: Path, wanted: Callable[[str], bool]) -> Iterator[Mutant]:
    tree = ast.parse(path.read_text())
    seen: dict[str, int] = {}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or not wanted(function.name):
            continue
        for node in ast.walk(function):
            for after, restore in _changes(node):
                name = f"{path.stem}.{function.name}: {after}"
                code = compile(ast.fix_missing_locations(tree), str(path), "exec")
                restore()
                seen[name] = seen.get(name, 0) + 1
                if seen[name] > 1:
                    name = f"{name} ({seen[name]})"
                yield Mutant(name, path, code)


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[], None]]]:
    """Each change of this node, made in place: what it is, and how it is undone."""
    if isinstance(node, ast.If) and any(isinstance(each, ast.Raise) for each in node.body):
        before = node.test
        node.test = ast.Constant(False)
        yield f"without 'if {ast.unparse(before)}'", lambda: setattr(node, "test", before)
    if isinstance(node, ast.BoolOp):
        for i, dropped in enumerate(node.values):
            whole = ast.unparse(node)
            values = node.values
            node.values = [*values[:i], *values[i + 1 :], ast.Constant(isinstance(node.op, ast.And))]
            yield f"'{whole}' without '{ast.unparse(dropped)}'", lambda values=values: setattr(node, "values", values)
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            whole, ops = ast.unparse(node), node.ops
            node.ops = [*ops[:i], _OTHER[type(op)](), *ops[i + 1 :]]
            yield f"'{whole}' as '{ast.unparse(node)}'", lambda ops=ops: setattr(node, "ops", ops)
        yield from _shifted(node)
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Sub | ast.Add):
        before_value = node.value
        text = ast.unparse(node)
        if isinstance(node.target, ast.Attribute) and node.target.attr != "structures":
            node.value = ast.Constant(0)
            yield f"without '{text}'", lambda: setattr(node, "value", before_value)


def _shifted(compare: ast.Compare) -> Iterator[tuple[str, Callable[[], None]]]:
    """Numbers in a comparison, one more and one less."""
    whole = ast.unparse(compare)
    for inner in ast.walk(compare):
        if isinstance(inner, ast.Constant) and type(inner.value) is int:
            number = inner.value
            for other in (number - 1, number + 1):
                inner.value = other
                yield f"'{whole}' as '{ast.unparse(compare)}'", lambda inner=inner, n=number: setattr(inner, "value", n)


# --- running them -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Case:
    kind: str
    content: bytes
    wanted: Any


def _cases() -> list[_Case]:
    """All vectors that are read, the short ones first: those of tens of megabytes are for who outlives the others."""
    found = [
        _Case(vector["message"], expand_bytes(vector["bytes"]), vector.get("error") or expand_value(vector["value"]))
        for vectors in groups().values()
        for vector in vectors
        if "bytes" in vector and "huge" not in vector["flags"]
    ]
    return sorted(found, key=lambda case: len(case.content))


def _lives(path: Path, code: types.CodeType, cases: Sequence[_Case]) -> bool:
    """Whether a reader gets everything right, in a process of its own."""
    child = os.fork()
    if not child:
        status = 1
        with contextlib.suppress(BaseException):
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_MAX, _MEMORY_MAX))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(_SECONDS_MAX)
            _install(path, code)
            status = int(not all(_is_right(case) for case in cases))
        os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def _install(path: Path, code: types.CodeType) -> None:
    """Have this process read with the changed file."""
    for file in (_READER, _MESSAGES):
        module = types.ModuleType(f"graphpipe.wire.{file.stem}")
        sys.modules[module.__name__] = module
        exec(code if file == path else compile(file.read_text(), str(file), "exec"), module.__dict__)
    for name in module.__all__:
        if hasattr(wire, name):
            setattr(wire, name, getattr(module, name))


def _is_right(case: _Case) -> bool:
    for _ in range(2):  # the second time the layout may be one that is remembered
        try:
            said: Any = adapter.read(case.kind, case.content)
        except MalformedMessage:
            said = "malformed"
        except Unsupported:
            said = "unsupported"
        if said != case.wanted:
            return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sample", type=int, help="so many instead of all")
    options = parser.parse_args()
    began = time.monotonic()
    chosen = sample(options.sample) if options.sample else mutants()
    lived = survivors(chosen, lambda line: print(line, flush=True))
    holes = [name for name in lived if name not in EQUIVALENT]
    stale = sorted(EQUIVALENT.keys() - set(lived)) if not options.sample else []
    for name in holes:
        print(f"NOT NOTICED: {name}")
    for name in stale:
        print(f"STALE: equivalent.py speaks of what is killed, or is no mutant: {name}")
    proved = len(lived) - len(holes)
    print(
        f"{len(chosen)} mutants: {len(chosen) - len(lived)} killed, {proved} proved equivalent, {len(holes)} not noticed; "
        f"{time.monotonic() - began:.0f} s"
    )
    return int(bool(holes or stale))


if __name__ == "__main__":
    sys.exit(main())
