"""A .pt2 is loaded as tensors alone: nothing in it that Python would unpickle is run."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import LoadError

torch = pytest.importorskip("torch")

from tests.backends.torch_programs import Double, X, exported  # noqa: E402 -- after the check that there is a torch


class Touch:
    def __init__(self, path: Any) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


def with_member(source: Any, target: Any, pattern: str, content: bytes) -> Any:
    """The archive with the content of the members that match replaced, or with one more."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, content if re.search(pattern, name) else archive.read(name))
        if not any(re.search(pattern, name) for name in archive.namelist()):
            root = archive.namelist()[0].split("/")[0]
            copy.writestr(f"{root}/{pattern}", content)
    return target


def test_sample_inputs_of_an_exported_program_are_not_unpickled(tmp_path):
    good = exported(Double(), torch.zeros(2, 3), tmp_path / "good.pt2", x={0: torch.export.Dim("n")})
    touched = tmp_path / "touched"
    evil = io.BytesIO()
    torch.save(((Touch(touched),), {}), evil)
    path = with_member(good, tmp_path / "evil.pt2", r"sample_inputs/.*\.pt$", evil.getvalue())
    with graphpipe.load(path) as model:
        np.testing.assert_array_equal(model.infer({"x": X})["output_0"], X * 2)
    assert not touched.exists()


@pytest.mark.parametrize("member", ["data/weights/model.pt", "data/constants/model.pt", "data/constants/opaque_obj_0"])
def test_a_pickle_in_an_exported_program_is_refused_not_run(tmp_path, member):
    good = exported(torch.nn.Linear(3, 3), torch.zeros(2, 3), tmp_path / "good.pt2", input={0: torch.export.Dim("n")})
    touched = tmp_path / "touched"
    evil = io.BytesIO()
    torch.save({"weight": Touch(touched)}, evil)
    content = evil.getvalue() if member.endswith(".pt") else pickle.dumps(Touch(touched))
    with pytest.raises(LoadError) as refused:
        graphpipe.load(with_member(good, tmp_path / "evil.pt2", member, content))
    assert "\n" not in str(refused.value)
    assert not touched.exists()


@pytest.mark.parametrize("member", ["opaque_obj_0", "Opaque_obj_0", "OPAQUE_OBJ_0"])
def test_an_object_in_an_exported_program_is_not_unpickled_whatever_the_case_of_its_name(tmp_path, member):
    good = exported(Double(), torch.zeros(2, 3), tmp_path / "good.pt2", x={0: torch.export.Dim("n")})
    touched = tmp_path / "touched"
    config = {
        "config": {"c": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}}
    }
    named = with_member(good, tmp_path / "named.pt2", r"constants/.*config\.json$", json.dumps(config).encode())
    evil = with_member(named, tmp_path / "evil.pt2", f"data/constants/{member}", pickle.dumps(Touch(touched)))
    with pytest.raises(LoadError, match="pickled Python objects"):
        graphpipe.load(evil)
    assert not touched.exists()


def test_a_compiled_library_in_an_exported_program_is_refused(tmp_path):
    good = exported(Double(), torch.zeros(2, 3), tmp_path / "good.pt2", x={0: torch.export.Dim("n")})
    with pytest.raises(LoadError, match="compiled libraries"):
        graphpipe.load(with_member(good, tmp_path / "evil.pt2", "data/aotinductor/model/a.so", b"\x7fELF"))
