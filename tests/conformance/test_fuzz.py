"""Damaged messages are read alike in every language whose toolchain is here."""

import pytest

from conformance.adapters import python as adapter
from conformance.cases import expand_bytes, groups
from conformance.fuzz import damaged, differences
from conformance.languages import LANGUAGES, Language
from conformance.official import difference


def here() -> list[Language]:
    """The decoders that need no build; `make conformance` builds and compares the others."""
    found = [language for language in LANGUAGES if not language.missing and not language.build]
    if len(found) < 2:
        pytest.skip("there is no second decoder that needs no build: node is not here")
    return found


def test_a_thousand_damaged_messages_are_read_alike():
    found, counts = differences(list(damaged(1000, 1)), here())
    assert not found
    assert counts["read"] > 100
    assert counts["malformed"] > 100


def test_the_same_seed_damages_in_the_same_way():
    assert list(damaged(50, 5)) == list(damaged(50, 5))
    assert list(damaged(50, 5)) != list(damaged(50, 6))


def test_a_difference_is_found(tmp_path):
    yes = tmp_path / "yes.py"
    yes.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    print(json.dumps({'id': json.loads(line)['id'], 'ok': True, 'value': {}}))\n"
    )
    messages = list(damaged(20, 1))
    found, _ = differences(messages, [LANGUAGES[0], Language("Yes", [*LANGUAGES[0].command[:1], str(yes)])])
    assert len(found) == 20
    assert {each["bytes"] for each in found}
    assert found[0]["said"].keys() == {"Python", "Yes"}


def test_the_official_library_reads_the_vectors_as_we_do():
    short = [vector for vector in groups()["valid"] if isinstance(vector["bytes"], str)]
    for vector in short:
        message = expand_bytes(vector["bytes"])
        assert difference(vector["message"], message, adapter.read(vector["message"], message)) is None, vector["id"]
    assert len(short) > 100


def test_what_all_of_ours_read_and_the_official_library_does_not_is_a_difference():
    kind, message = next((kind, content) for kind, content in damaged(50, 1) if kind == "request")
    ours = {"type": "infer", "config": "", "inputs": [], "input_names": [], "output_names": ["of nobody"]}
    assert difference(kind, message, ours) not in (None, ours)
    assert difference("request", b"", ours).keys() == {"broke"}


@pytest.mark.slow
def test_two_hundred_thousand_damaged_messages_are_read_alike():
    languages = [language for language in LANGUAGES if not language.missing]
    for language in languages:
        language.prepare()
    for seed in range(10):
        found, _ = differences(list(damaged(20_000, 1000 + seed)), languages)
        assert not found


def test_there_is_something_to_damage_of_every_kind():
    assert {vector["message"] for vector in groups()["valid"]} == {"request", "infer_response", "metadata_response"}
    assert {kind for kind, _ in damaged(200, 1)} == {"request", "infer_response", "metadata_response"}
