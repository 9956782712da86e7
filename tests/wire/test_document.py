"""docs/wire.md is normative: what it says in numbers is what the code does."""

import re
from pathlib import Path

import pytest

from graphpipe import errors
from graphpipe.wire import dtypes

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
        ("strings of one tensor", dtypes.STRINGS_MAX),
        ("the message", dtypes.BYTES_MAX - 1),
    ],
)
def test_its_limits_are_the_codecs_own(row, limit):
    assert re.search(rf"^\| {row}.*\| {limit:,}( bytes)? \|$", DOCUMENT, re.MULTILINE)


def test_the_schema_has_the_types_of_the_codec():
    schema = (ROOT / "schema" / "graphpipe.fbs").read_text()
    body = re.search(r"enum Type : uint8 \{(.*?)\n\}", schema, re.DOTALL)
    assert body is not None
    names = re.findall(r"^\s*(\w+),? ", body[1], re.MULTILINE)
    assert [name.upper() for name in names] == [kind.name for kind in dtypes.Type]
