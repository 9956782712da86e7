"""What may be written after --input, and what each of it becomes."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys

import numpy as np
import pytest

from graphpipe.cli.inputs import values_of
from graphpipe.cli.presets import ImageForm
from graphpipe.signature import TensorSpec

PLAIN = ImageForm.of()


def value(text, *specs):
    ((name, got),) = values_of([text], specs, PLAIN)
    return name, got


def test_arrays_come_from_npy_and_npz(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(3))
    np.savez(tmp_path / "one.npz", only=np.arange(2))
    np.savez(tmp_path / "two.npz", a=np.arange(4), b=np.arange(5))
    for form, length in (("x.npy", 3), ("one.npz", 2), ("two.npz:b", 5)):
        assert len(value(str(tmp_path / form))[1]) == length


def test_inputs_without_a_name_are_the_models_in_order_and_a_name_is_what_is_before_the_sign(tmp_path):
    specs = (TensorSpec("a"), TensorSpec("b:0"))
    assert values_of(["1", "2"], specs, PLAIN) == [("a", 1), ("b:0", 2)]
    assert values_of(["b:0=1", "a=2"], specs, PLAIN) == [("b:0", 1), ("a", 2)]
    assert values_of(["1", "2", "3"], specs, PLAIN)[2] == ("", 3)
    np.save(tmp_path / "a=b.npy", np.arange(3))
    assert value(str(tmp_path / "a=b.npy"), *specs)[0] == "a"


@pytest.mark.parametrize("text", ["[[1, 2], [3, 4]]", "-1.5", "0", "[]", " [1]"])
def test_lists_and_numbers_may_be_written_out(text):
    assert value(text)[1] == json.loads(text)


def test_lists_come_from_json_files(tmp_path):
    (tmp_path / "x.json").write_text("[[1, 2.5]]")
    assert value(str(tmp_path / "x.json"))[1] == [[1, 2.5]]


def test_text_is_one_string_in_as_many_dimensions_as_the_model_wants(tmp_path):
    (tmp_path / "letter.txt").write_text("Grüße\n")
    for shape, wanted in ((None, ()), ((), ()), (("n",), (1,)), (("n", 1), (1, 1))):
        spec = TensorSpec("x", np.dtype(object), shape)
        assert value("text:a=b", spec)[1].tolist() == np.full(wanted, b"a=b", object).tolist()
        assert value(str(tmp_path / "letter.txt"), spec)[1].reshape(-1)[0] == "Grüße\n".encode()


def test_an_array_comes_from_standard_input(monkeypatch):
    content = io.BytesIO()
    np.save(content, np.arange(7))
    content.seek(0)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))
    assert value("-")[1].shape == (7,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none.npy", "none.npy"),
        ("x.h5", "is none of x.npy, x.npz:key, an image"),
        ("[1, 2", "not JSON"),
        ("broken.npy", "no array in .npy format"),
        ("pickled.npy", "pickled"),
        ("two.npz", "name one of its arrays, .*two.npz:KEY; it has a, b"),
        ("two.npz:c", "no array 'c'; there are a, b"),
        ("one.npz:c", "no array 'c'; there is a$"),
        ("broken.npz", "broken.npz"),
        ("object.json", "an object without anything in it"),
        ("broken.png", "not an image"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, monkeypatch, text, message):
    pytest.importorskip("PIL")
    monkeypatch.chdir(tmp_path)
    for name in ("broken.npy", "broken.npz", "broken.png"):
        (tmp_path / name).write_bytes(b"not at all")
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "two.npz", a=np.arange(4), b=np.arange(5))
    np.savez(tmp_path / "one.npz", a=np.arange(4))
    (tmp_path / "object.json").write_text("{}")
    with pytest.raises((ValueError, OSError), match=message):
        value(text)


def test_a_file_of_windows_is_read_without_its_mark_and_with_its_ends_of_lines(tmp_path):
    (tmp_path / "x.json").write_bytes(codecs.BOM_UTF8 + b"[1]\r\n")
    (tmp_path / "letter.txt").write_bytes(codecs.BOM_UTF8 + b"a\r\nb")
    assert value(str(tmp_path / "x.json"))[1] == [1]
    assert value(str(tmp_path / "letter.txt"))[1].item() == b"a\r\nb"


def test_an_image_for_a_model_that_takes_a_string_is_the_bytes_of_its_file(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8 whatever\0")
    name, got = value(f"image={tmp_path / 'photo.jpg'}", TensorSpec("image", np.dtype(object), ("n",)))
    assert (name, got.tolist()) == ("image", [b"\xff\xd8 whatever\0"])


def test_text_of_a_command_line_is_the_bytes_that_were_typed():
    assert value(os.fsdecode(b"text:\xff"))[1].item() == b"\xff"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("latin.json", b'["\xef"]', "latin.json: not UTF-8 .*; save it as UTF-8"),
        ("latin.txt", b"\xef", "latin.txt: not UTF-8 .*; save it as UTF-8"),
        ("sixteen.txt", "a".encode("utf-16"), "sixteen.txt: not UTF-8"),
        ("deep.json", b"[" * 100_000, "deep.json: lists in lists, deeper than any array"),
        ("long.json", b"[" + b"9" * 5000 + b"]", "long.json: not JSON: "),
        ("twice.json", b'{"x": [1], "x": [2]}', "twice.json: not JSON: 'x' is there twice in one object"),
        ("huge.npy", None, "huge.npy: no array in .npy format"),
        ("damaged.npz", None, "damaged.npz: not an .npz file"),
    ],
)
def test_a_file_that_is_not_what_it_is_called_is_named_with_what_is_wrong(tmp_path, name, content, message):
    if name == "huge.npy":
        with (tmp_path / name).open("wb") as file:
            header = {"descr": "<f8", "fortran_order": False, "shape": (10**13,)}
            np.lib.format.write_array_header_1_0(file, header)
    elif name == "damaged.npz":
        np.savez(tmp_path / name, x=np.arange(100))
        damaged = bytearray((tmp_path / name).read_bytes())
        damaged[200] ^= 255
        (tmp_path / name).write_bytes(damaged)
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        value(str(tmp_path / name))
