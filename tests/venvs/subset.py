"""Run by another Python: reads what an isolated model runs on, and uses it.

Its arguments are the folder of graphpipe, and the names of the standard library's modules with commas between them.
Written for Python 3.9. Prints a JSON object: ``lacking`` are the names that this Python has not, ``used`` whether there
was a numpy to import and use all of it with.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import pathlib
import sys

FOLDER = pathlib.Path(sys.argv[1])
# What a child has no use for: servers and commands, the other side of its own sockets, files in TOML.
NOT_IN_A_CHILD = (
    "aliases", "bench", "cli", "commandline", "comparison", "completion", "demo", "explanation", "fusing", "keyfile",
    "server", "shells",
    "problem.files", "pipeline.file",
    *(f"backends.isolated.{each}" for each in ("child", "keeper", "model", "older", "output", "process")),
    *(f"client.asyncio_{each}" for each in ("client", "connection", "pool")),
)  # fmt: skip

spec = importlib.util.spec_from_file_location("older", str(FOLDER / "backends" / "isolated" / "older.py"))
older = importlib.util.module_from_spec(spec)
spec.loader.exec_module(older)
older.install(str(FOLDER))


def modules():
    for path in sorted(FOLDER.rglob("*.py")):
        name = ".".join(path.relative_to(FOLDER).with_suffix("").parts)
        name = name[: -len(".__init__")] if name.endswith(".__init__") else name
        if name != "__init__" and not any(name == each or name.startswith(f"{each}.") for each in NOT_IN_A_CHILD):
            yield f"graphpipe.{name}", path


def lacking(path):
    """The names of the standard library that it uses and that are not there."""
    tree = older.read_older(path.read_text(encoding="utf-8"), str(path))
    known, used = {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used += [(node, each.name) for each in node.names]
            known.update(
                {each.asname or each.name: each.name for each in node.names if each.asname or "." not in each.name}
            )
        elif isinstance(node, ast.ImportFrom):
            names = {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
            used += [(node, name) for name in names.values()]
            known.update(names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            used.append((node, f"{known[node.value.id]}.{node.attr}"))
    for node, name in used:
        if name.partition(".")[0] in STANDARD and not is_there(name):
            yield f"{path.name}, line {node.lineno}: {name}"


def is_there(name):
    """Whether there is a module, or something in one, of such a name with dots."""
    first, *others = name.split(".")
    try:
        thing = importlib.import_module(first)
        for other in others:
            first += f".{other}"
            thing = getattr(thing, other) if hasattr(thing, other) else importlib.import_module(first)
    except ImportError:
        return False
    return True


def use():
    """Every module is imported; a request and an answer are written and read; a function is served."""
    import numpy as np

    for name, _ in modules():
        importlib.import_module(name)
    import graphpipe
    from graphpipe import wire

    kinds = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "?"]
    arrays = [np.arange(6).reshape(2, 3).astype(kind) for kind in kinds] + [np.array([b"a", "\u00e4".encode()], object)]
    names = [f"i{place}" for place in range(len(arrays))]
    message = wire.encode_request(arrays, names, ["out"])
    read = wire.decode_request(memoryview(b"".join(map(bytes, message))))
    for one, other in zip(arrays, read.inputs):  # noqa: B905 - as 3.9 knows it
        assert np.array_equal(one, np.asarray(other)), (one, other)

    def add(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x + y

    model = graphpipe.load(add)
    answer = model.infer({"x": np.ones(3, "f4"), "y": np.full(3, 2, "f4")})
    assert [list(each) for each in answer.values()] == [[3, 3, 3]], answer
    spec = graphpipe.TensorSpec.of("x", 'float32[n, "floor(h/2)", ?]')
    assert spec.text == 'float32[n, "floor(h/2)", ?]', spec.text
    try:
        model.infer({"x": np.ones(3, "f4")})
    except graphpipe.InvalidRequest:
        pass
    else:
        raise AssertionError("a missing input was taken")


STANDARD = set(sys.argv[2].split(","))
found = {"lacking": [each for _, path in modules() for each in lacking(path)], "used": False}
if importlib.util.find_spec("numpy"):
    use()
    found["used"] = True
print(json.dumps(found))
