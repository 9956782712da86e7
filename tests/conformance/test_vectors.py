"""The vectors are what their script makes, in the form that their schema gives, and no case stands there twice."""

import json

import jsonschema
import pytest

from conformance.cases import FOLDER, compact, expand_bytes, groups
from conformance.languages import LANGUAGES
from conformance.make_vectors import files

FILES = sorted(FOLDER.glob("*.json"))
SCHEMA = json.loads((FOLDER.parent / "schema.json").read_text())


@pytest.fixture(scope="module")
def made():
    return files()


def test_every_file_of_vectors_is_one_that_the_script_makes(made):
    assert [path.name for path in FILES] == sorted(made)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_of_vectors_is_what_the_script_makes_today(made, path):
    assert path.read_text() == made[path.name], "python conformance/make_vectors.py writes it anew"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_of_vectors_keeps_the_schema(path):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(path.read_text()))


@pytest.mark.parametrize(
    "broken",
    [
        {"bytes": "AAA"},
        {"value": None, "error": None},
        {"value": {"outputs": [{"type": "null", "shape": [], "data": ""}], "errors": []}},
        {"value": {"outputs": [], "errors": [], "more": 1}},
        {"error": "refused", "value": None},
        {"flags": []},
        {"id": "elsewhere/x"},
    ],
    ids=str,
)
def test_the_schema_refuses(broken):
    vector = {"id": "valid/x", "comment": "c", "flags": ["f"], "message": "infer_response", "bytes": "AAAA"}
    vector["value"] = {"outputs": [], "errors": []}
    validator = jsonschema.Draft202012Validator(SCHEMA)
    file = {"$schema": "../schema.json", "group": "valid", "about": "a", "vectors": [vector]}
    validator.validate(file)
    vector |= broken
    file["vectors"] = [{key: value for key, value in vector.items() if value is not None}]
    assert not validator.is_valid(file)


def test_no_two_vectors_have_the_same_name_or_the_same_bytes_as_the_same_message():
    names, messages = set(), {}
    for group, vectors in groups().items():
        for vector in vectors:
            assert vector["id"].startswith(f"{group}/")
            assert vector["id"] not in names
            names.add(vector["id"])
            if "bytes" in vector:
                known = (vector["message"], json.dumps(vector["bytes"]))
                assert known not in messages, f"{vector['id']} is {messages[known]}"
                messages[known] = vector["id"]


def test_the_short_form_of_bytes_stands_for_all_of_them():
    zeros, words = bytes(5000), b"".join((9000 - 4 * i).to_bytes(4, "little") for i in range(2000))
    for raw in (b"", b"short", b"a" * 4096, zeros + words + zeros, b"abc" + zeros + b"abc", words[2:] + zeros[1:]):
        assert expand_bytes(compact(raw)) == raw
    assert len(json.dumps(compact(zeros + words + zeros))) < 300


def test_a_known_failure_is_one_of_a_language_and_says_why():
    known = json.loads((FOLDER.parent / "known_failures.json").read_text())
    assert set(known) <= {language.name for language in LANGUAGES}
    assert all(reason for cases in known.values() for reason in cases.values())
