"""A function that calls stages is a pipeline: what it gives, how it is named, written down, loaded and served."""

from __future__ import annotations

import contextlib
import gc
import pickle
import subprocess
import sys
import textwrap
import threading
import weakref
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

import graphpipe
from graphpipe import Pipeline, Stage
from graphpipe.errors import PackageError
from tests.onnx_graphs import scaled
from tests.serving import environment

ONES = np.ones(2)


@graphpipe.stage
def split(text):
    """Words."""
    assert all(type(line) is bytes for line in text)
    return {"words": np.array([line.split()[0] for line in text], object)}


@graphpipe.stage
class LookUp:
    """Numbers of words."""

    made = 0

    def __init__(self, table, unknown=-1):
        type(self).made += 1
        self.table = {word.encode(): number for word, number in table.items()}
        self.unknown = unknown

    def __call__(self, words):
        return {"ids": np.array([self.table.get(word, self.unknown) for word in words])}


@graphpipe.stage
def double(x):
    return x * 2


@graphpipe.stage
def parts(x):
    return x - 1, x + 1


def test_a_function_is_a_pipeline_that_gives_what_it_gives():
    look_up = LookUp({"hello": 0, "world": 1})

    def numbers(text):
        return {"numbers": look_up(split(text)["words"])["ids"]}

    texts = ["hello you", "what", "world"]
    pipeline = graphpipe.trace(numbers, {"text": ["hello"]})
    assert isinstance(pipeline, Pipeline)
    assert pipeline.name == "numbers"
    assert [stage.name for stage in pipeline.stages] == ["split", "LookUp"]
    assert pipeline.signature.input_names == ("text",)
    plain = numbers(texts)
    assert list(plain) == list(answer := pipeline.infer({"text": texts})) == ["numbers"]
    assert plain["numbers"].tolist() == answer["numbers"].tolist() == [0, -1, 1]


def test_a_stage_computes_on_what_a_server_would_have_and_gives_what_its_function_gives():
    assert split(["hello you"])["words"].tolist() == [b"hello"]
    assert type(double([1, 2])) is np.ndarray
    low, high = parts(np.array([1]))
    assert (low.tolist(), high.tolist()) == ([0], [2])
    assert split.__name__ == "split"
    assert split.__doc__ == "Words."
    with pytest.raises(graphpipe.InvalidRequest):
        double([[1], [2, 3]])

    class Pair(NamedTuple):
        a: object
        b: object

    pair = graphpipe.stage(lambda x: Pair(x, [1, 2]))(ONES)
    assert type(pair) is Pair
    assert pair.b.tolist() == [1, 2]


def test_a_class_stays_a_class():
    assert isinstance(LookUp({}), LookUp)
    assert LookUp.__doc__ == "Numbers of words."

    class Loud(LookUp):
        pass

    assert Loud({"a": 4})(["a"])["ids"].tolist() == [4]
    assert pickle.loads(pickle.dumps(LookUp({"a": 4})))(["a"])["ids"].tolist() == [4]
    assert pickle.loads(pickle.dumps(split)) is split


@pytest.mark.parametrize("what", [3, None.__class__, torch.nn.Linear, LookUp.__mro__[1]])
def test_what_can_be_no_stage_is_said_when_it_is_made_one(what):
    with pytest.raises(TypeError, match=r"a stage is a function|has no __call__|graphpipe\.stage\(Linear"):
        graphpipe.stage(what)


def test_async_functions_and_methods_are_no_stages():
    with pytest.raises(TypeError, match="async"):

        @graphpipe.stage
        async def asks(x):
            return x

    with pytest.raises((TypeError, RuntimeError)) as refused:

        class Net:
            @graphpipe.stage
            def forward(self, x):
                return x

    assert "decorate the class" in str(refused.value) + str(refused.value.__cause__)


def test_models_modules_and_pipelines_are_stages(tmp_path):
    scale = graphpipe.load(scaled(tmp_path / "m.onnx", 3.0))
    module = graphpipe.stage(torch.nn.Linear(4, 2))
    inner = Pipeline([Stage(lambda v: {"w": v + 1}, "inner")])

    def whole(x):
        first = scale(x)
        return {"y": module(first), "w": inner(v=first)["w"]}

    x = np.ones((3, 4), np.float32)
    pipeline = graphpipe.trace(whole, {"x": x})
    plain, answer = whole(x), pipeline.infer({"x": x})
    assert answer["y"].shape == (3, 2)
    for name, array in plain.items():
        np.testing.assert_allclose(array, answer[name], rtol=1e-6)
    pipeline.close()
    assert not scale.closed
    assert type(scale(x)) is np.ndarray


def test_a_stage_that_is_called_twice_is_two_stages_of_one_model():
    look_up = LookUp({"a": 1})

    def both(one, other):
        return {"one": look_up(one)["ids"], "other": look_up(other)["ids"]}

    made = LookUp.made
    pipeline = graphpipe.trace(both, (["a"], ["b"]))
    assert [stage.name for stage in pipeline.stages] == ["LookUp", "LookUp_2"]
    assert [stage.model.function for stage in pipeline.stages] == [look_up] * 2
    answer = pipeline.infer({"one": ["b"], "other": ["a"]})
    assert (answer["one"].tolist(), answer["other"].tolist()) == ([-1], [1])
    assert LookUp.made == made


def test_state_is_built_once_and_never_for_a_request():
    made = LookUp.made
    pipeline = Pipeline([Stage(LookUp, arguments={"table": {"a": 1}})])
    for _ in range(5):
        pipeline.infer({"words": ["a"]})
    assert LookUp.made == made + 1


def test_equal_names_of_several_stages_do_not_hide_one_another():
    @graphpipe.stage
    def add(x):
        return {"x": x + 1}

    @graphpipe.stage
    def less(x, y):
        return {"x": x - y}

    def mixed(x):
        one = add(x)["x"]
        other = add(one)["x"]
        return {"early": one, "x": less(other, x)["x"], "late": less(x=one, y=other)["x"]}

    pipeline = graphpipe.trace(lambda x: {"early": add(x)["x"], "z": less(add(x)["x"], x)["x"]}, (ONES,))
    assert [list(stage.gives.values()) for stage in pipeline.stages] == [["early"], ["add_2_x"], ["z"]]
    pipeline = graphpipe.trace(mixed, (ONES,))
    answer = pipeline.infer({"x": np.array([5.0])})
    assert {name: array.tolist() for name, array in answer.items()} == {"early": [6], "x": [2], "late": [-1]}


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: double(x), ["output_0"]),
        (lambda x: parts(x), ["output_0", "output_1"]),
        (lambda x: split(x), ["words"]),
        (lambda x: (split(x)["words"], x), ["words", "x"]),
        (lambda x: {"first": split(x)["words"]}, ["first"]),
    ],
)
def test_outputs_have_the_names_of_the_dict_or_the_stages(function, names):
    example = (["a b"],) if "split" in function.__code__.co_names else (ONES,)
    assert list(graphpipe.trace(function, example).infer({"x": example[0]})) == names


def test_ordinary_python_around_the_stages_is_done_when_it_is_traced():
    def deep(x, times=3):
        """Loops and conditions on what is the same in each request."""
        values = [x]
        for i in range(times):
            if i % 2 == 0:
                values.append(double(values[-1]))
        return {f"y{i}": value for i, value in enumerate(values[1:])}

    pipeline = graphpipe.trace(deep, {"x": ONES})
    assert {name: array.tolist() for name, array in pipeline.infer({"x": np.array([1.0])}).items()} == {
        "y0": [2.0], "y1": [4.0],
    }  # fmt: skip
    assert len(pipeline.stages) == 2


def test_a_function_of_any_number_of_inputs_takes_those_that_it_was_called_with():
    @graphpipe.stage
    def total(*arrays):
        return {"total": sum(arrays)}

    @graphpipe.stage
    def named(**arrays):
        return {"names": np.array(sorted(arrays), object)}

    def function(a, b):
        return {"t": total(double(a), b, a)["total"], "n": named(left=a, right=double(b))["names"]}

    answer = graphpipe.trace(function, ([1, 2], [3, 4])).infer({"a": [1, 1], "b": [0, 0]})
    assert answer["t"].tolist() == [3, 3]
    assert answer["n"].tolist() == [b"left", b"right"]


def test_a_stage_can_be_called_otherwise():
    @graphpipe.stage(name="tokens")
    def function(x):
        return {"y": x}

    other = graphpipe.stage(LookUp({}), name="empty")
    pipeline = graphpipe.trace(lambda x: (function(x)["y"], other(x)["ids"]), (["a"],), name="named")
    assert [stage.name for stage in pipeline.stages] == ["tokens", "empty"]
    assert pipeline.name == "named"


def test_declared_types_hold_and_lists_take_them():
    @graphpipe.stage
    @graphpipe.model(inputs={"x": "float32[n]"}, outputs={"y": "float32[n]"})
    def inner(x):
        return x

    @graphpipe.model(inputs={"y": "float32[n]"}, outputs={"z": "float32[n]"})
    @graphpipe.stage
    def outer(y):
        return y

    pipeline = graphpipe.trace(lambda x: outer(inner(x)), ([1.5, 2],))
    assert pipeline.signature.inputs[0].text == "float32[n]"
    assert pipeline.infer({"x": [1, 2]})["z"].dtype == np.float32
    assert outer([1]).dtype == np.float32
    with pytest.raises(graphpipe.InvalidRequest, match="float64"):
        outer(ONES)


def test_stages_are_stages_of_pipelines_and_models_too(tmp_path, serve):
    look_up = LookUp({"hello": 7})
    assert Pipeline([split, look_up]).infer({"text": ["hello"]})["ids"].tolist() == [7]
    assert graphpipe.load(split).infer({"text": ["hello"]})["words"].tolist() == [b"hello"]
    with graphpipe.load(f"{__file__}:LookUp", arguments={"table": {"a": 3}}) as model:
        assert model.infer({"words": ["a"]})["ids"].tolist() == [3]


PROGRAM = """
import numpy as np
import graphpipe


@graphpipe.stage
def split(text):
    return {"words": np.array([line.split()[0] for line in text], object)}


@graphpipe.stage
class LookUp:
    def __init__(self, table, vocabulary, scale=1):
        words = vocabulary.read_text().split()
        self.table = {word.encode(): number * scale for number, word in enumerate(words)} | {
            word.encode(): number for word, number in table.items()
        }

    def __call__(self, words):
        return np.array([self.table.get(word, -1) for word in words])


@graphpipe.stage
def both(one, other):
    return {"ids": one + other, "one": one}
"""
TRACED = """
import sys
from pathlib import Path
import graphpipe
sys.path.insert(0, sys.argv[1])
import words

vocabulary = Path(sys.argv[1], "vocab.txt")
first, other = words.LookUp({"extra": 9}, vocabulary, scale=2), words.LookUp({}, vocabulary)

def ids(text):
    found = words.split(text)["words"]
    return {"ids": words.both(first(found), other(found))["ids"]}

pipeline = graphpipe.trace(ids, {"text": ["hello", "extra"]})
pipeline.save(sys.argv[2], **({"code": [Path(sys.argv[1], "words.py")]} if not sys.argv[2].endswith(".toml") else {}))
print(pipeline.infer({"text": ["hello", "world", "extra", "none"]})["ids"].tolist())
"""


@pytest.mark.parametrize("target", ["deep/ids.toml", "ids"])
def test_what_another_process_traced_and_saved_is_loaded_and_served(tmp_path, serve, target, monkeypatch):
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "words.py").write_text(PROGRAM)
    (source / "vocab.txt").write_text("hello world")
    (source / "make.py").write_text(TRACED)
    done = subprocess.run(
        [sys.executable, source / "make.py", source, source / target],
        env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = [0, 3, 8, -2]
    assert done.stdout.strip() == str(expected)
    if target == "ids":
        # It has all of it.
        for name in ("words.py", "vocab.txt", "make.py"):
            (source / name).unlink()
    moved = source.rename(tmp_path / "moved")
    texts = ["hello", "world", "extra", "none"]
    with graphpipe.load(moved / target) as loaded:
        assert loaded.infer({"text": texts})["ids"].tolist() == expected
        assert [stage.name for stage in loaded.model.stages] == ["split", "LookUp", "LookUp_2", "both"]
    server = serve("--model", str(moved / target))
    assert graphpipe.remote.execute(server.url, texts).tolist() == expected


def test_a_saved_trace_is_an_equal_pipeline(tmp_path):
    pipeline = graphpipe.trace(lambda text: LOOK_UP(split(text)["words"]), (["hello"],), name="words")
    loaded = graphpipe.load(pipeline.save(tmp_path / "words.toml"))
    assert [(s.name, s.takes, s.gives) for s in loaded.model.stages] == [
        (s.name, s.takes, s.gives) for s in pipeline.stages
    ]
    assert str(loaded.signature) == str(pipeline.signature)
    again = Pipeline([stage.model for stage in loaded.model.stages])
    assert again.infer({"text": ["hello"]})["ids"].tolist() == [5]


LOOK_UP = LookUp({"hello": 5}, unknown=0)


def test_what_no_file_could_say_is_not_saved_and_how_to_mend_it_is(tmp_path):
    class Undecorated:
        def __init__(self, table):
            self.table = table

        def __call__(self, words):
            return words

    cases = {
        "a table with a key that is a bytes, and keys are text": AnyTable({b"hello": 0}),
        "a path within a list": AnyTable([Path("a"), Path("b")]),
        "it is a ndarray, and only numbers, texts, lists and tables are; write it to a file": AnyTable([ONES]),
        "None, for which a file has no word": AnyTable(None),
        "decorate its class, Undecorated, with @graphpipe.stage": graphpipe.stage(Undecorated({})),
    }
    for said, look_up in cases.items():
        pipeline = graphpipe.trace(lambda x, look_up=look_up: look_up(x), {"x": ["a"]})
        for target in ("p.toml", "p"):
            with pytest.raises(PackageError) as refused:
                pipeline.save(tmp_path / target)
            assert said in str(refused.value)
            assert not (tmp_path / target).exists()


@graphpipe.stage
class AnyTable:
    def __init__(self, table):
        self.table = table

    def __call__(self, words):
        return words


def test_a_subclass_with_a_constructor_of_its_own_is_decorated_itself(tmp_path):
    pipeline = graphpipe.trace(lambda words: Plain()(words)["ids"], (["a"],))
    with pytest.raises(PackageError, match="decorate"):
        pipeline.save(tmp_path / "p.toml")
    pipeline = graphpipe.trace(lambda words: Decorated(3)(words)["ids"], (["a"],))
    assert "arguments = { unknown = 3 }" in pipeline.save(tmp_path / "p.toml").read_text()


class Plain(LookUp):
    def __init__(self):
        super().__init__({})


@graphpipe.stage
class Decorated(LookUp):
    def __init__(self, unknown):
        super().__init__({}, unknown)


def test_what_a_stage_was_made_with_is_what_it_was_then(tmp_path):
    table = {"a": 1}
    look_up = LookUp(table)
    table["b"] = 2
    pipeline = graphpipe.trace(lambda words: look_up(words)["ids"], (["a"],))
    assert "{ table = { a = 1 } }" in pipeline.save(tmp_path / "p.toml").read_text()


def test_nothing_is_kept_of_an_example_or_of_a_stage(tmp_path):
    class Big:
        def __call__(self, x):
            return {"y": x + 1}

    gc.disable()
    try:
        big = graphpipe.stage(Big)()
        example = np.ones(1000)
        seen = weakref.ref(example)
        kept = []

        def function(x, big=big):
            kept.append(x)
            return big(x)

        pipeline = graphpipe.trace(function, (example,))
        assert not any(type(each) is np.ndarray for each in kept[:1])
        kept.clear()
        del example
        assert seen() is None
        for refused in (lambda x, big=big: big(x) if x else x, lambda x, big=big: (big(x), 3)):
            other = np.ones(1000)
            seen = weakref.ref(other)
            with contextlib.suppress(graphpipe.TraceError):
                graphpipe.trace(refused, (other,))
            del other
            assert seen() is None
        gone = weakref.ref(big)
        big(ONES)
        del pipeline, function, refused, big
        assert gone() is None
    finally:
        gc.enable()


def test_traces_in_threads_and_within_one_another_know_nothing_of_each_other():
    failed = []

    def inner_and_outer(number):
        def outer(x):
            pipeline = graphpipe.trace(lambda y: double(double(y)), (np.ones(number),))
            return {"z": pipeline(double(x))}

        pipeline = graphpipe.trace(outer, (np.ones(number),))
        if pipeline.infer({"x": np.ones(number)})["z"].tolist() != [8.0] * number or len(pipeline.stages) != 2:
            failed.append(number)

    threads = [threading.Thread(target=inner_and_outer, args=(i + 1,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_the_same_function_trains_and_serves():
    """A loop of training calls it on texts, and a server runs the pipeline: one and the same tensors."""
    vectors = torch.nn.Embedding(3, 4)
    embed = graphpipe.stage(vectors, name="embed")

    def prepare(text):
        return embed(LOOK_UP_3(split(text)["words"])["ids"])

    pipeline = graphpipe.trace(prepare, (["hello"],))
    rng = np.random.default_rng(0)
    for _ in range(5):
        texts = rng.choice(["hello you", "wörld", "👋", "你好"], 8).tolist()
        np.testing.assert_array_equal(prepare(texts), pipeline.execute(texts))


LOOK_UP_3 = LookUp({"hello": 0, "world": 1}, unknown=2)


def test_a_program_of_a_user_is_typed(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""\
            import graphpipe


            @graphpipe.stage
            class LookUp:
                def __init__(self, table: dict[str, int]) -> None:
                    self.table = table

                def __call__(self, words: object) -> object:
                    return words


            look_up = LookUp({"a": 1})
            look_up.table.keys()
            LookUp(3)
            pipeline = graphpipe.trace(lambda words: look_up(words), {"words": ["a"]})
            pipeline.save("words.toml")
            pipeline.nothing()
        """)
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", program],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert [int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line] == [15, 18], done.stdout
