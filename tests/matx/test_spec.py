"""What a saved module says of itself, read without MATXScript: hostile or broken files are refused in words."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sys
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphpipe
from graphpipe.backends.matx.spec import Takes, inputs_of
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.package import BACKEND
from graphpipe.errors import LoadError
from tests.backends.test_download import file as file_answer


def typed(value):
    """As MATXScript writes a value: beside its type."""
    if isinstance(value, dict):
        return {"t": "Dict", "v": [typed(each) for pair in value.items() for each in pair]}
    if isinstance(value, list):
        return {"t": "List", "v": [typed(each) for each in value]}
    return {"t": "String" if isinstance(value, str) else "int", "v": value}


def module(codes, dso_path="JitObject_f/f.so"):
    """One function that takes arguments of these types: a, b, c, ..."""
    names = [chr(ord("a") + i) for i in range(len(codes))]
    arguments = [{"name": name, "type_code": code} for name, code in zip(names, codes, strict=True)]
    about = {"name": "f", "args": arguments, "bound_self": 0}
    return {
        "ops": [
            {"op": "VariableOp", "name": "VariableOp_0", "attrs": {}},
            {"op": "JitObject", "name": "object", "attrs": {"func_info": about, "dso_path": dso_path}},
            {"op": "JitOp", "name": "call", "attrs": {"main_func_name": "f", "jit_object_name": "object"}},
        ],
        "graph": [
            *({"op_cls": "VariableOp", "op_name": "VariableOp_0", "inputs": [], "outputs": [each]} for each in names),
            {"op_cls": "JitOp", "op_name": "call", "inputs": names, "outputs": ["9"]},
        ],
    }


def written(folder, said):
    file = folder / "model.spec.json"
    file.write_text(said if isinstance(said, str) else json.dumps(typed(said)))
    return file


def test_inputs_and_what_is_known_of_them_are_read(tmp_path):
    file = written(tmp_path, module([-11, -12, -3, -4, 7, -32768]))
    kinds = [Takes.BYTES, Takes.STR, Takes.INTEGER, Takes.FLOAT, Takes.LIST, Takes.ANYTHING]
    assert list(inputs_of(file).items()) == list(zip("abcdef", kinds, strict=True))


def test_an_input_that_two_functions_take_differently_may_be_anything(tmp_path):
    said = module([-11])
    said["ops"][1]["attrs"]["func_info"]["args"] *= 2
    said["ops"][1]["attrs"]["func_info"]["args"][1] = {"name": "b", "type_code": -12}
    said["graph"][1]["inputs"] = ["a", "a"]
    assert inputs_of(written(tmp_path, said)) == {"a": Takes.ANYTHING}


def test_a_dictionary_is_no_input(tmp_path):
    with pytest.raises(LoadError, match=r"it takes 'b', a Dict; only tensors travel: give the function texts"):
        inputs_of(written(tmp_path, module([-11, 8])))


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/f.so", "a/../../f.so"])
def test_a_library_outside_of_the_folder_is_not_loaded(tmp_path, path):
    with pytest.raises(LoadError, match="'object' loads a library outside of this folder"):
        inputs_of(written(tmp_path, module([-11], path)))


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "f.so").touch()
    (tmp_path / "m" / "f.so").symlink_to(tmp_path / "f.so")
    with pytest.raises(LoadError, match="outside of this folder"):
        inputs_of(written(tmp_path / "m", module([-11], "f.so")))


@pytest.mark.parametrize(
    "said", ["", "{", "[]", "null", '"t"', "{}", '{"t": "Dict"}', '{"t": "Dict", "v": [1]}', '{"t": "List", "v": 3}',
             '{"t": "Dict", "v": []}', "[" * 100_000, '{"t":"List","v":[' * 50_000],
)  # fmt: skip
def test_what_is_no_module_is_said_to_be_none(tmp_path, said):
    with pytest.raises(LoadError, match="no module that MATXScript has saved"):
        inputs_of(written(tmp_path, said))


_JSON = st.recursive(
    st.none() | st.integers(-3, 30) | st.sampled_from(["f", "object", "JitOp", "VariableOp", "a", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["t", "v", "op", "name"]), inner),
    max_leaves=8,
)


@given(st.data())
def test_whatever_is_changed_in_one_it_is_read_or_refused(tmp_path_factory, data):
    said = typed(module([-11, 7]))
    place = said
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if data.draw(st.integers(0, 3)) == 0 or not isinstance(place[key], dict | list):
            place[key] = data.draw(_JSON)
            break
        place = place[key]
    with contextlib.suppress(LoadError):
        inputs_of(written(tmp_path_factory.mktemp("spec"), json.dumps(said)))


def test_without_an_environment_it_is_said_how_one_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHPIPE_VENVS", str(tmp_path / "none"))
    written(tmp_path, module([-11]))
    for source in (tmp_path, tmp_path / "model.spec.json"):
        with pytest.raises(
            LoadError, match=r"needs matxscript.* graphpipe venv create matx.* --requirements matxscript"
        ):
            graphpipe.load(source)


def test_a_python_without_it_is_refused_before_anything_starts(tmp_path):
    written(tmp_path, module([-11]))
    with pytest.raises(LoadError, match=r"needs matxscript, and --python \S+ has none; this makes one"):
        graphpipe.load(tmp_path, python=sys.executable)


def test_a_numbered_version_of_one_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHPIPE_VENVS", str(tmp_path / "none"))
    (tmp_path / "m" / "1").mkdir(parents=True)
    written(tmp_path / "m" / "1", module([-11]))
    with pytest.raises(LoadError, match="m/1/model.spec.json needs matxscript"):
        graphpipe.load(tmp_path / "m")


def test_a_package_with_one_that_came_from_a_url_is_refused_unless_it_is_meant(tmp_path):
    (tmp_path / "m").mkdir()
    written(tmp_path / "m", module([-11]))
    problem = graphpipe.Problem.of([{"name": "a", "dtype": "string", "shape": []}], [{"name": "y", "dtype": "int64"}])
    path = graphpipe.package.create(tmp_path / "p.zip", model=tmp_path / "m", problem=problem, self_test=False)
    with pytest.raises(LoadError, match="came from a URL, and brings code of its own"):
        BACKEND.fetched(str(path), LoadOptions())
    BACKEND.fetched(str(path), LoadOptions(trust_model=True))


def test_one_that_came_from_a_url_is_refused_unless_it_is_meant(site, tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHPIPE_VENVS", str(tmp_path / "none"))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("m/model.spec.json", json.dumps(typed(module([-11]))))
    site.answers = [file_answer(zipped.getvalue())]
    url = f"{site.url}/m.zip"
    with pytest.raises(LoadError, match="is compiled code, and this one came from a URL"):
        graphpipe.load(url)
    digest = hashlib.sha256(zipped.getvalue()).hexdigest()
    for options in ({"trust_model": True}, {"model_sha256": digest}):  # it comes as far as one of this machine
        with pytest.raises(LoadError, match="needs matxscript, which wants an older numpy"):
            graphpipe.load(url, **options)
