"""What goes where in a pipeline is found by names, and what cannot be is said before anything runs."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import graphpipe
from graphpipe import LoadError, Pipeline, Stage


def split(text):
    return {"words": text, "count": np.array([len(text)])}


def longest(words):
    return {"longest": np.array([max(len(word) for word in words)])}


def tell(longest, count):
    return {"told": longest * 100 + count}


@graphpipe.model(inputs={"x": "float32[n, 4]"}, outputs={"y": "float32[n, 2]"})
def four_to_two(x):
    return x[:, :2] * 2


def unsaid(text):
    return dict(ids=np.array([len(text)]))  # noqa: C408 - nothing that could be read from the code


class Given(NamedTuple):
    """What a function gives, said where it is declared."""

    ids: Annotated[NDArray[np.int64], "n"]


def annotated(text) -> Given:
    return Given(np.array([len(each) for each in text]))


def names(specs):
    return [spec.name for spec in specs]


def test_what_a_stage_takes_is_what_the_last_one_before_it_gave_under_that_name():
    pipeline = Pipeline([split, longest, tell])
    assert pipeline.infer({"text": ["hello", "worlds"]}) == {"told": np.array([602])}
    assert names(pipeline.signature.inputs) == ["text"]
    assert names(pipeline.signature.outputs) == ["told"]
    assert pipeline.execute(["a"]) == [101]


def test_a_later_stage_of_the_same_name_of_a_value_hides_the_earlier_one():
    def one(x):
        return {"x": x + 1}

    def two(x):
        return {"x": x * 10}

    def three(x, first):
        return {"y": x, "first": first}

    pipeline = Pipeline([Stage(one, outputs={"x": "first"}), one, two, three])
    answer = pipeline.infer({"x": np.array([1])})
    assert answer == {"y": 20, "first": 2}


def test_names_can_be_mapped_on_both_sides():
    pipeline = Pipeline(
        [
            Stage(four_to_two, "first", {"x": "a"}, {"y": "left"}),
            Stage(four_to_two, "second", {"x": "b"}, {"y": "right"}),
        ],
        outputs=["right", "left"],
    )
    ones, twos = np.ones((1, 4), np.float32), np.full((1, 4), 2, np.float32)
    answer = pipeline.infer({"a": ones, "b": twos})
    assert list(answer) == ["right", "left"]
    assert answer["left"].tolist() == [[2, 2]]
    assert answer["right"].tolist() == [[4, 4]]
    assert [(s.name, s.takes, s.gives) for s in pipeline.stages] == [
        ("first", {"x": "a"}, {"y": "left"}),
        ("second", {"x": "b"}, {"y": "right"}),
    ]


def test_a_request_may_ask_for_anything_that_a_stage_gives():
    pipeline = Pipeline([split, longest, tell])
    answer = pipeline.infer({"text": ["ab"]}, ["count", "told", "words"])
    assert answer == {"count": [1], "told": [201], "words": [b"ab"]}
    with pytest.raises(graphpipe.InvalidRequest, match="there is no output 'tolt'.*did you mean 'told'"):
        pipeline.infer({"text": ["ab"]}, ["tolt"])


def test_texts_arrive_as_bytes_at_every_stage():
    seen = []

    def look(words):
        seen.append((words.dtype, [type(word) for word in words]))
        return {"texts": [word.decode() + "!" for word in words]}

    def look_again(texts):
        seen.append((texts.dtype, [type(text) for text in texts]))
        return {"n": np.array([len(texts)])}

    Pipeline([split, look, look_again]).infer({"text": ["a", "ü"]})
    assert seen == [(np.dtype(object), [bytes, bytes])] * 2


def test_what_a_function_gives_is_known_from_its_code_its_annotation_or_its_problem():
    def takes_ids(ids):
        return {"twice": ids * 2}

    problem = graphpipe.Problem.of({"text": "string[n]"}, {"ids": "int64[1]"})
    for first in (annotated, Stage(unsaid, problem=problem)):
        pipeline = Pipeline([first, takes_ids])
        assert pipeline.stages[0].gives == {"ids": "ids"}
        assert names(pipeline.signature.inputs) == ["text"]
        assert pipeline.infer({"text": ["abc"]})["twice"].size == 1
    assert Pipeline([Stage(unsaid, problem=problem), takes_ids]).signature.inputs[0].text == "string[n]"


def test_behind_a_function_that_says_nothing_a_name_is_its_to_give_or_the_callers():
    def scaled(ids, factor):
        return {"y": ids * factor}

    pipeline = Pipeline([unsaid, scaled])
    assert pipeline.infer({"text": ["a", "b"], "factor": np.array(3)}) == {"y": [6]}
    assert pipeline.infer({"text": ["a", "b"], "factor": np.array(3), "ids": np.array(100)}) == {"y": [6]}
    assert pipeline.signature.input_names == ("text",)
    with pytest.raises(
        graphpipe.InvalidRequest, match="stage 'scaled' takes 'factor', which neither a stage before it gave"
    ):
        pipeline.infer({"text": ["a"]})
    exact = Pipeline([unsaid, scaled], inputs=["text", "factor"])
    assert names(exact.signature.inputs) == ["text", "factor"]
    assert exact.infer({"text": ["a", "b"], "factor": np.array(3)}) == {"y": [6]}
    short = Pipeline([unsaid, scaled], inputs=["text"])
    with pytest.raises(
        graphpipe.ModelFailed, match="stage 'scaled' takes 'factor', which neither a stage before it gave"
    ):
        short.infer({"text": ["a"]})


def test_a_pipeline_that_ends_in_a_function_that_says_nothing_gives_what_it_gave():
    pipeline = Pipeline([unsaid])
    assert pipeline.signature.outputs == ()
    assert pipeline.infer({"text": ["a"]}) == {"ids": [1]}


def test_echoes_pass_on_whatever_came():
    pipeline = Pipeline(["echo", "echo", "echo"])
    x, y = np.arange(3), np.array([b"a"], object)
    answer = pipeline.infer({"x": x, "y": y})
    assert answer["x"].tolist() == [0, 1, 2]
    assert answer["y"].tolist() == [b"a"]
    assert [stage.name for stage in pipeline.stages] == ["echo", "echo_2", "echo_3"]


def test_an_optional_input_is_taken_where_it_is_there():
    def scale(x, factor: NDArray[np.float64] = np.array(10.0)):  # noqa: B008
        return {"y": x * factor}

    def gives_factor(x):
        return {"factor": np.array(3.0)}

    alone = Pipeline([scale])
    assert alone.infer({"x": np.array([1.0])}) == {"y": [10]}
    assert alone.infer({"x": np.array([1.0]), "factor": np.array(2.0)}) == {"y": [2]}
    assert Pipeline([gives_factor, scale]).infer({"x": np.array([1.0])}) == {"y": [3]}


def test_an_optional_input_may_be_named_and_may_still_be_left_out():
    class Scales:
        signature = graphpipe.Signature(
            (graphpipe.TensorSpec("x"), graphpipe.TensorSpec("factor")), (graphpipe.TensorSpec("y"),), ("x",)
        )

        def infer(self, inputs, outputs=None, *, config=""):
            return {"y": inputs["x"] * inputs.get("factor", 1)}

        def close(self):
            pass

    pipeline = Pipeline([Scales()], inputs=["factor", "x"])
    assert names(pipeline.signature.inputs) == ["factor", "x"]
    assert pipeline.signature.input_names == ("x",)
    assert pipeline.infer({"x": np.ones(2)})["y"].tolist() == [1, 1]
    assert pipeline.infer({"x": np.ones(2), "factor": np.array(3.0)})["y"].tolist() == [3, 3]


def test_a_pipeline_is_a_stage_too():
    inner = Pipeline([split, longest], outputs=["longest", "count"], name="inner")
    outer = Pipeline([inner, tell])
    assert outer.infer({"text": ["abc"]}) == {"told": [301]}
    assert [stage.name for stage in outer.stages] == ["inner", "tell"]


def test_a_table_names_its_stages():
    pipeline = Pipeline({"a": split, "b": longest})
    assert [stage.name for stage in pipeline.stages] == ["a", "b"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Pipeline([]), "at least one stage"),
        (lambda: Pipeline("echo"), "a list, or a table"),
        (lambda: Pipeline([Stage("echo", "a"), Stage("echo", "a")]), "two stages called 'a'"),
        (lambda: Stage("echo", "a.b"), "letters, digits, _ and -"),
        (lambda: Stage("echo", inputs=["x"]), "a table from its own names to the pipeline's"),
        (lambda: Pipeline([Stage(split, inputs={"txt": "t"})]), "no input 'txt'.*did you mean 'text'"),
        (lambda: Pipeline([Stage(split, outputs={"word": "w"})]), "no output 'word'.*did you mean 'words'"),
        (
            lambda: Pipeline([Stage(split, outputs={"words": "count"})]),
            "two outputs that the pipeline would call 'count'",
        ),
        (
            lambda: Pipeline([split, tell], inputs=["text"]),
            "stage 'tell' takes 'longest', which no stage before it gives",
        ),
        (lambda: Pipeline([split], inputs=["text", "tixt"]), "no stage takes the pipeline's input 'tixt'"),
        (
            lambda: Pipeline([split], outputs=["wards"]),
            "no stage gives the pipeline's output 'wards'.*did you mean 'words'",
        ),
        (lambda: Pipeline([Stage(four_to_two, outputs={"y": "x"}), four_to_two]), "stage 'four_to_two_2' takes 'x'"),
        (lambda: Pipeline(["no/such.onnx"]), "stage 'such': "),
        (lambda: Pipeline([Stage("echo", isolat=2)]), "no option 'isolat'; did you mean 'isolate'"),
        (lambda: Pipeline([Stage(split, isolate=2)]), "cannot run in a process of its own"),
        (lambda: Pipeline([Stage("echo", device="cuda:0")]), "--device does nothing for"),
        (lambda: Pipeline([lambda: 1, 3]), "stage 'int'"),
    ],
)
def test_what_cannot_be_is_said_when_it_is_made(make, said):
    with pytest.raises(LoadError, match=f"(?s){said}"):
        make()


def test_stages_that_want_one_input_as_two_things_are_named():
    @graphpipe.model(inputs={"x": "int64[n]"}, outputs={"z": "int64[n]"})
    def whole(x):
        return x

    with pytest.raises(LoadError, match=r"'four_to_two' and 'whole' both take 'x', one as float32\[n, 4\]"):
        Pipeline([four_to_two, whole])


def test_a_model_that_was_handed_over_stays_open_and_one_that_was_loaded_is_closed():
    class Noted:
        closed = 0

        def __call__(self, x):
            return {"x": x}

        def close(self):
            Noted.closed += 1

    mine = graphpipe.load(Noted())
    pipeline = Pipeline([mine, Stage(Noted, "second"), "echo"])
    pipeline.infer({"x": np.ones(1)})
    pipeline.close()
    assert Noted.closed == 1
    assert mine.execute(np.ones(1)) == [1]
    with pytest.raises(graphpipe.GraphPipeError, match="is closed"):
        pipeline.infer({"x": np.ones(1)})
    mine.close()
    with pytest.raises(LoadError, match="is closed"):
        Pipeline([mine])


def test_a_stage_that_cannot_be_loaded_closes_those_before_it():
    class Noted:
        closed = 0

        def __call__(self, x):
            return {"x": x}

        def close(self):
            Noted.closed += 1

    with pytest.raises(LoadError):
        Pipeline([Noted, "no/such.onnx"])
    with pytest.raises(LoadError):
        Pipeline([Noted], outputs=["nothing"])
    assert Noted.closed == 2


def test_what_a_stage_gives_and_nobody_can_pass_on_is_its_own_mistake():
    def says(x):
        return {"text": np.array(["\ud800"], object)}

    def opened(x):
        return {name: x + i for i, name in enumerate("ab")}

    with Pipeline([says]) as pipeline, pytest.raises(graphpipe.ModelFailed, match="stage 'says'"):
        pipeline.infer({"x": [1.0]})
    with (
        Pipeline([Stage(opened, outputs={"a": "b"})]) as pipeline,
        pytest.raises(graphpipe.ModelFailed, match="'a', 'b'"),
    ):
        pipeline.infer({"x": [1.0]})
