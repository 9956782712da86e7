"""Damaged messages are read alike in every language whose toolchain is here."""

import pytest

from conformance.cases import groups
from conformance.fuzz import damaged, differences
from conformance.languages import LANGUAGES, Language


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
