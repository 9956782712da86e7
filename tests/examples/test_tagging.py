"""examples/tagging: Viterbi in numpy beside all ways there are, and the tagger from a text to its tags."""

from __future__ import annotations

import itertools
import math
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphpipe
from tests.serving import ROOT

FOLDER = ROOT / "examples" / "tagging"


@pytest.fixture(scope="module")
def module():
    """The example's modules by their names, which import one another as the example's do."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        for name in ("lexicon", "tagger", "train"):
            spec = spec_from_file_location(f"tagging_{name}", FOLDER / f"{name}.py")
            found[name] = module_from_spec(spec)
            spec.loader.exec_module(found[name])
        yield found.__getitem__


@pytest.fixture(scope="module")
def tagger():
    with graphpipe.load(FOLDER / "pipeline.toml") as pipeline:
        yield pipeline


def sum_of(way, scores, first, after, last):
    if not way:
        return 0.0
    steps = sum(after[one][other] for one, other in itertools.pairwise(way))
    words = sum(scores[place][tag] for place, tag in enumerate(way))
    return first[way[0]] + words + steps + last[way[-1]]


# Whole numbers have sums that are exact, and many that are equal; some ways cannot be gone at all.
NUMBERS = st.integers(-9, 9).map(float) | st.just(-math.inf)


@st.composite
def sentences(draw):
    """Tables of a few tags, and sentences of different lengths, filled up with numbers that are not to be looked at."""
    tags, longest = draw(st.integers(1, 4)), draw(st.integers(0, 5))
    lengths = draw(st.lists(st.integers(0, longest), max_size=4))

    def table(*shape):
        count = math.prod(shape)
        return np.array(draw(st.lists(NUMBERS, min_size=count, max_size=count)), np.float64).reshape(shape)

    tables = {"first": table(tags), "after": table(tags, tags), "last": table(tags)}
    return tables, table(len(lengths), longest, tags), np.array(lengths, np.int64)


@settings(max_examples=300, deadline=None)
@given(sentences())
def test_no_way_through_a_sentence_is_better_than_the_one_that_is_found(module, drawn):
    tables, scores, lengths = drawn
    answer = module("tagger").Viterbi(**tables)(scores, lengths)
    assert answer["path"].shape == scores.shape[:2]
    tags = scores.shape[2]
    for row, length in enumerate(lengths):
        ways = itertools.product(range(tags), repeat=length)
        best = max(sum_of(way, scores[row], **tables) for way in ways)
        way = answer["path"][row].tolist()
        assert way[length:] == [-1] * (len(way) - length)
        assert all(0 <= tag < tags for tag in way[:length])
        assert answer["log_probability"][row] == best
        # Where nothing can be gone no way is the best of them.
        assert best == -math.inf or sum_of(way[:length], scores[row], **tables) == best


@settings(max_examples=100, deadline=None)
@given(sentences())
def test_a_sentence_has_the_same_tags_whatever_else_is_in_the_batch(module, drawn):
    tables, scores, lengths = drawn
    viterbi = module("tagger").Viterbi(**tables)
    together = viterbi(scores, lengths)
    for row, length in enumerate(lengths):
        alone = viterbi(scores[row : row + 1, :length], lengths[row : row + 1])
        assert together["path"][row, :length].tolist() == alone["path"][0].tolist()
        assert together["log_probability"][row] == alone["log_probability"][0]


TEXTS = st.lists(
    st.text(max_size=12) | st.sampled_from(["the dog", "can", "42", "😀!", "naïve", "שלום", "\0", "e\u0301"])
)


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS.map(" ".join), max_size=4))
def test_every_word_of_any_text_has_a_tag_and_nothing_else_has(module, tagger, texts):
    answer = tagger.infer({"text": texts})
    names = {*module("tagger").read()["tags"]}
    for text, words, tags in zip(texts, answer["words"], answer["tags"], strict=True):
        own = module("lexicon").words_of(text)
        assert [word.decode() for word in words] == own + [""] * (len(words) - len(own))
        assert [tag.decode() in names for tag in tags] == [True] * len(own) + [False] * (len(tags) - len(own))
        assert not any(tags[len(own) :])


def test_the_committed_tables_are_what_the_script_counts(module, tmp_path, capsys):
    module("train").main(tmp_path)
    assert (tmp_path / "tables.json").read_bytes() == (FOLDER / "tables.json").read_bytes()
    assert capsys.readouterr().out == "11 tags, 149 words\n"


def test_what_is_counted_are_probabilities(module):
    # One sentence a tag at least, so that all of them end and follow one another.
    tables = module("train").tables([[("b", "X"), ("a", "Y")], [("a", "Y"), ("b", "X"), ("a", "X")]])
    ways_on = [np.append(row, end) for row, end in zip(tables["after"], tables["last"], strict=True)]
    for logarithms in (tables["first"], *ways_on):
        assert np.exp(logarithms).sum() == pytest.approx(1, abs=1e-3)
    assert np.exp(list(tables["words"].values())).sum(axis=0) == pytest.approx([1, 1], abs=1e-3)


def test_it_finds_nearly_all_tags_of_its_own_corpus(module, tagger):
    corpus = module("train").corpus()
    answer = tagger.infer({"text": [" ".join(word for word, _ in sentence) for sentence in corpus]})
    found = [tag.decode() for tags in answer["tags"] for tag in tags if tag]
    wanted = [tag for sentence in corpus for _, tag in sentence]
    assert len(found) == len(wanted)
    assert np.mean([one == other for one, other in zip(found, wanted, strict=True)]) > 0.95


def test_raw_texts_are_tagged_over_the_wire_and_one_that_is_no_text_is_its_senders_mistake(serve, tagger):
    server = serve("--model", FOLDER / "pipeline.toml")
    texts = ["The can can hold water.", "", "Blorp quickly fribbled 17 snarks!"]
    with graphpipe.Client(server.url) as client:
        answer = client.infer({"text": texts})
        assert answer["tags"][0].tolist() == [b"DET", b"NOUN", b"AUX", b"VERB", b"NOUN", b"PUNCT"]
        assert answer["tags"][1].tolist() == [b""] * 6
        assert answer["tags"][2].tolist() == [b"NOUN", b"ADV", b"VERB", b"NUM", b"NOUN", b"PUNCT"]
        here = tagger.infer({"text": texts})
        assert {name: array.tolist() for name, array in answer.items()} == {name: here[name].tolist() for name in here}
        with pytest.raises(
            graphpipe.InvalidRequest, match="'emissions': text 2 is no UTF-8: invalid start byte at byte 2"
        ):
            client.infer({"text": np.array([b"good", b"ba\xff"], object)})
        assert client.infer({"text": []})["tags"].shape == (0, 0)
