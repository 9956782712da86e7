"""A reader with a check missing does not pass the vectors."""

import pytest

from conformance.equivalent import EQUIVALENT
from conformance.mutants import mutants, sample, survivors


def test_no_mutant_of_a_sample_passes_the_vectors():
    chosen = [mutant for mutant in sample(24) if mutant.name not in EQUIVALENT]
    assert len(chosen) > 12
    assert not survivors(chosen)


def test_there_are_enough_of_them_and_each_explanation_is_of_one():
    names = [mutant.name for mutant in mutants()]
    assert len(names) >= 60
    assert len(set(names)) == len(names)
    assert set(EQUIVALENT) <= set(names)


@pytest.mark.slow
def test_every_mutant_is_killed_or_explained_and_no_explanation_is_stale():
    assert set(survivors(mutants())) == set(EQUIVALENT)
