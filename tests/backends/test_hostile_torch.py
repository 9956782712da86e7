"""PyTorch files that would run code or write files when they are loaded: nothing of it happens, unless they are trusted."""

from __future__ import annotations

import collections
import json
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest

import graphpipe
from graphpipe.errors import LoadError

torch = pytest.importorskip("torch")

from graphpipe.backends.torch.formulas import what_is_no_program  # noqa: E402 -- after the check that there is a torch
from graphpipe.backends.torch.operators import _found  # noqa: E402
from graphpipe.backends.torch.trees import is_plain_tree  # noqa: E402
from tests.backends.test_torch_archive import Touch  # noqa: E402


class Halves(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.cat([x, x])[: x.shape[0] + 1]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A .pt2 with a formula of its sizes in it."""
    path = tmp_path_factory.mktemp("program") / "good.pt2"
    torch.export.save(
        torch.export.export(Halves(), (torch.ones(4, 4),), dynamic_shapes=({0: torch.export.Dim("n", max=64)},)), path
    )
    return path


def changed(source: Path, target: Path, change: Any) -> Path:
    """The same program with other JSON."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith("models/model.json"):
                content = json.dumps(change(json.loads(content))).encode()
            copy.writestr(name, content)
    return target


def calls(target: str):
    def change(program: Any) -> Any:
        program["graph_module"]["graph"]["nodes"][1]["target"] = target
        program["verifiers"] = []
        return program

    return change


def test_the_formulas_of_a_program_are_not_run_as_python(program, tmp_path):
    with graphpipe.load(program) as model:
        assert [spec.name for spec in model.signature.inputs] == ["x"]
    marker = tmp_path / "marker"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch() or 1"

    def change(program: Any) -> Any:
        text = json.dumps(program)
        first = text.index('"expr_str": ') + len('"expr_str": ')
        _, end = json.JSONDecoder().raw_decode(text, first)
        return json.loads(text[:first] + json.dumps(code) + text[end:])

    with pytest.raises(LoadError, match="a size that is no formula.*--trust-model"):
        graphpipe.load(changed(program, tmp_path / "evil.pt2", change))
    assert not marker.exists()


def test_the_guards_of_a_program_are_not_run_as_python(program, tmp_path):
    marker = tmp_path / "marker"
    guard = f"__import__('pathlib').Path({str(marker)!r}).touch() is None"
    with pytest.raises(LoadError, match="a guard that compares no sizes"):
        graphpipe.load(changed(program, tmp_path / "evil.pt2", lambda it: {**it, "guards_code": [guard]}))
    assert not marker.exists()


@pytest.mark.parametrize(
    "target", ["torch.os.system", "torch.load", "torch.hub.load", "torch.ops.load_library", "_operator.methodcaller"]
)
def test_a_program_calls_nothing_but_operators(program, tmp_path, target):
    with pytest.raises(LoadError, match="calls no operator|touches files"):
        graphpipe.load(changed(program, tmp_path / "evil.pt2", calls(target)))


def test_a_program_touches_no_files(program, tmp_path):
    with pytest.raises(LoadError, match="an operator that touches files"):
        graphpipe.load(changed(program, tmp_path / "evil.pt2", calls("torch.ops.aten.from_file.default")))


TREE: dict[str, Any] = {"type": None, "context": None, "children_spec": []}


def nested(kind: str, context: Any, *children: Any) -> dict[str, Any]:
    return {"type": kind, "context": context, "children_spec": [*(children or (TREE,))]}


def member(module: str, name: str, **more: Any) -> str:
    return json.dumps([{"__enum__": True, "fqn": module, "name": name, **more}])


def made_by(module: str, name: str) -> dict[str, Any]:
    return {"default_factory_module": module, "default_factory_name": name, "dict_context": ["y"]}


@pytest.mark.parametrize(
    "tree",
    [
        nested("builtins.dict", member("beside_it:made", "y")),
        nested("builtins.dict", member("beside_it:made", "y").replace("__enum__", "\\u005f_enum__")),
        nested("builtins.dict", json.dumps([["y", {"a": json.loads(member("beside_it:made", "y"))}]])),
        nested("builtins.dict", member("os:environ", "SECRET")),  # the output would be called by its value
        nested("builtins.dict", member("ctypes:cdll", "libm.so.6")),  # a library is loaded, and its code is run
        nested("collections.defaultdict", made_by("beside_it", "made")),
        nested("collections.defaultdict", made_by("builtins", "breakpoint")),
        nested("builtins.tuple", "null", nested("collections.OrderedDict", member("os:environ", "SECRET"))),
        nested("collections.deque", member("os:environ", "SECRET")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("which", ["in_spec", "out_spec"])
def test_the_tree_of_a_programs_arguments_imports_nothing_and_names_nothing(
    program, tmp_path, monkeypatch, tree, which
):
    (tmp_path / "beside_it.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nmade = {{'y': 1}}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SECRET", "the-secret")

    def change(program: Any) -> Any:
        for call in program["graph_module"]["module_call_graph"]:
            call["signature"][which] = json.dumps([1, tree])
        return program

    evil = changed(program, tmp_path / "evil.pt2", change)
    with pytest.raises(LoadError, match=r"name objects of Python.*--trust-model") as refused:
        graphpipe.load(evil)
    assert "the-secret" not in str(refused.value)
    assert not (tmp_path / "ran").exists()


class Nested(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        many = collections.defaultdict(list)
        many["sum"] = x + x
        return collections.OrderedDict(a=x + 1, b=[x * 2, (x * 3,)], c=many)


def test_nested_outputs_of_plain_types_are_loaded_as_before(tmp_path):
    torch.export.save(torch.export.export(Nested(), (torch.ones(2),)), tmp_path / "nested.pt2")
    with graphpipe.load(tmp_path / "nested.pt2") as model:
        got = model.infer({model.signature.input_names[0]: torch.ones(2).numpy()})
        assert sorted(float(array[0]) for array in got.values()) == [2.0, 2.0, 2.0, 3.0]


@pytest.mark.parametrize("text", ["", "[]", "[1]", "null", "[1, null]", "[1, {}]", '[1, {"type": []}]', "[" * 100_000])
def test_what_is_no_tree_is_none(text):
    assert not is_plain_tree(text)


@pytest.mark.parametrize(
    "text",
    [
        "exec('1')", "().__class__", "S('1')", "Symbol('a b')", "Function('f')(1)", "(lambda: 1)()", "[x for x in (1,)]",
        "open", "Add(eval, 1)(2)", "sympify('1')", "f'{1}'", "Add(*x)", "Integer(b'1')", "__import__", "x if y else z",
    ],
)  # fmt: skip
def test_formulas_are_numbers_symbols_and_functions(text):
    harmless = text == "open"  # a symbol of that name
    assert bool(what_is_no_program(json.dumps({"expr_str": text}))) is not harmless


@pytest.mark.parametrize(
    "text",
    [
        "Add(Symbol('s77', positive=True, integer=True), Integer(1))", "s0 + 1", "2*s0 // 3", "Mod(s1, 4)", "-oo", "1.5",
        "Max(1, FloorDiv(s0 - 1, 2))", "Eq(s0, 3)", "Piecewise((1, s0 < 2), (s0, True))", "s0 >= 2 and s1 != 3",
    ],
)  # fmt: skip
def test_a_formula_that_pytorch_writes_is_one(text):
    assert what_is_no_program(json.dumps({"expr_str": text})) == ""


def script(tmp_path: Path, body: str, at_load: str = "pass") -> Path:
    """A TorchScript file of a module that does this when it is called, and that when it is loaded."""
    code = tmp_path / "evil_code.py"
    code.write_text(
        "import torch\n"
        "class Evil(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.a = torch.zeros(2)\n"
        "    @torch.jit.export\n    def __getstate__(self):\n        return (self.a, self.training)\n"
        "    @torch.jit.export\n    def __setstate__(self, s: tuple[torch.Tensor, bool]):\n"
        f"        self.a = s[0]\n        self.training = s[1]\n        {at_load}\n"
        f"    def forward(self, x: torch.Tensor) -> torch.Tensor:\n        {body}\n        return x + self.a\n"
    )
    path = tmp_path / "evil.pt"
    from graphpipe.backends.project import module_of_file

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module_of_file(code).Evil()).save(str(path))
    return path


def test_a_script_writes_no_file_when_it_is_loaded_or_called(tmp_path):
    marker = tmp_path / "marker"
    writes = f"torch.save(self.a, {str(marker)!r})"
    for where in ("loaded", "called"):
        folder = tmp_path / where
        folder.mkdir()
        path = script(folder, *(("pass", writes) if where == "loaded" else (writes, "pass")))
        with pytest.raises(LoadError, match="calls 'save', which touches files.*--trust-model"):
            graphpipe.load(path)
        assert not marker.exists()
    # The attack is one: whoever trusts the file has it.
    with graphpipe.load(tmp_path / "loaded" / "evil.pt", trust_model=True):
        assert marker.exists()


def test_a_script_maps_no_file(tmp_path):
    marker = tmp_path / "marker"
    with pytest.raises(LoadError, match="from_file"):
        graphpipe.load(script(tmp_path, f"torch.from_file({str(marker)!r}, True, 4).fill_(1.0)"))
    assert not marker.exists()


@pytest.mark.parametrize(
    "code",
    [
        "torch.save(x, 'f')", "torch . save(x, 'f')", "torch.\\\nsave(x, 'f')", "torch.# no\nsave(x, 'f')", "t = torch.save",
        "b = '#'; torch.# c\nsave(x, 'f')", 'b = """#"""; torch.save(x)', 'b = "\\"#"; torch.save(x)',
        "ops.aten.from_file('f')", "getattr(torch, 'save')(x, 'f')", "getattr(torch, 'sa\\x76e')(x)",
        "getattr(torch, 'sa' 've')(x)", 'getattr(torch, "\\x73ave")',
    ],
)  # fmt: skip
def test_however_the_operator_is_written_it_is_found(code):
    assert _found(code) in ("save", "from_file")


@pytest.mark.parametrize(
    "code", ["x = self.saved", "getattr(self.layers, '0')", "save = x + 1", "torch.add(x, 1)", "'save'"]
)
def test_what_only_looks_like_it_is_let_pass(code):
    assert _found(code) == ""


class Doubles(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return x * 2


@pytest.mark.parametrize("name", ["m.pt", "m.pth", "m.pt2"])
def test_a_pickle_called_a_model_is_not_unpickled_unless_it_is_trusted(tmp_path, name):
    marker, path = tmp_path / "marker", tmp_path / name
    torch.save({"a": Touch(marker)}, path)
    with pytest.raises(LoadError):
        graphpipe.load(path)
    path.write_bytes(pickle.dumps(Touch(marker)))
    with pytest.raises(LoadError):
        graphpipe.load(path)
    assert not marker.exists()


def test_a_pickled_module_is_served_by_whoever_trusts_it(tmp_path):
    torch.save(torch.nn.Sequential(torch.nn.Identity()), tmp_path / "m.pt")
    with pytest.raises(LoadError, match="--trust-model"):
        graphpipe.load(tmp_path / "m.pt")
    with graphpipe.load(tmp_path / "m.pt", trust_model=True) as model:
        assert model.execute([[1.0, 2.0]]).tolist() == [[1.0, 2.0]]
    torch.save({"w": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(LoadError, match="weights alone are no model"):
        graphpipe.load(tmp_path / "w.pt", trust_model=True)
