"""docs/wire.md is normative: what it says in numbers is what the code does."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from graphpipe import errors
from graphpipe.server.settings.values import Settings
from graphpipe.signature import TensorSpec
from graphpipe.wire import dtypes
from graphpipe.wire.describe import io_of, spec_of

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "wire.md").read_text()


def test_its_error_codes_are_the_errors_own():
    rows = {int(code): statuses for code, statuses in re.findall(r"^\| (\d+) \| ([\d, ]+) \|", DOCUMENT, re.MULTILINE)}
    classes = [cls for cls in errors.ServiceError.__subclasses__() if cls.code]
    assert sorted(rows) == sorted(cls.code for cls in classes)
    for cls in classes:
        assert str(cls.http_status) in rows[cls.code].split(", "), f"{cls.__name__} says {cls.http_status}"


@pytest.mark.parametrize(
    ("row", "limit"),
    [
        ("tensors, names of inputs", dtypes.ENTRIES_MAX),
        ("dimensions of a tensor", dtypes.NDIM_MAX),
        ("bytes of names, config", dtypes.TEXT_BYTES_MAX),
        ("strings of all tensors", dtypes.STRINGS_MAX),
        ("the message", dtypes.BYTES_MAX - 1),
    ],
)
def test_its_limits_are_the_codecs_own(row, limit):
    assert re.search(rf"^\| {row}.*\| {limit:,}( bytes)? \|$", DOCUMENT, re.MULTILINE)


def test_what_ours_takes_is_what_it_says():
    assert f"ours takes {Settings().strings_max:,} strings" in DOCUMENT
    assert f"and {dtypes.NAME_BYTES_MAX:,} bytes for each name" in DOCUMENT


def test_its_examples_of_descriptions_are_read_as_it_says():
    section = DOCUMENT.partition("### Descriptions")[2].partition("### ")[0]
    examples = re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE)
    assert len(examples) == 7
    for example in examples:
        text, _, words = example.partition("; ")
        try:
            spec = replace(TensorSpec.of("x", text), description=words)
        except ValueError:
            assert example == "an image, float32[n, 64]"
            continue
        assert io_of(spec).description == example
        assert spec_of(io_of(spec)) == spec
    kinds = re.search(r"^type +=(.*?);", section, re.MULTILINE | re.DOTALL)
    assert kinds is not None
    named = {dtypes.dtype_name(dtype) for dtype in dtypes.DTYPES if dtype is not None} | {"any", "bool"}
    assert set(re.findall(r'"(\w+)"', kinds[1])) == named


def test_the_schema_has_the_types_of_the_codec():
    schema = (ROOT / "schema" / "graphpipe.fbs").read_text()
    body = re.search(r"enum Type : uint8 \{(.*?)\n\}", schema, re.DOTALL)
    assert body is not None
    names = re.findall(r"^\s*(\w+),? ", body[1], re.MULTILINE)
    assert [name.upper() for name in names] == [kind.name for kind in dtypes.Type]
