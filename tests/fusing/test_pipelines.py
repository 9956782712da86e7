"""A pipeline of graphs becomes one graph that answers as the pipeline does, by its own names."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphpipe
from graphpipe import Pipeline, Stage
from graphpipe.errors import LoadError
from tests.fusing.graphs import graph, saved

SCALE = "scale (float[n, 4] x) => (float[n, 4] y) <float two = {2}> { y = Mul (x, two) }"
SHIFT = "shift (float[m, 4] x) => (float[m, 4] y) <float three = {3}> { y = Add (x, three) }"
JOIN = "join (float[n, 4] a, float[n, 4] b) => (float[n, 4] d) { d = Sub (a, b) }"
X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def graphs(tmp_path):
    for name, text in (("scale", SCALE), ("shift", SHIFT), ("join", JOIN)):
        saved(tmp_path / f"{name}.onnx", text)
    return tmp_path


def run(model, **inputs):
    """What ONNX Runtime itself answers."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def takes_and_gives(model):
    return [info.name for info in model.graph.input], [info.name for info in model.graph.output]


def test_the_stages_names_say_what_goes_where(graphs):
    # Both graphs call their input x and their output y; the pipeline does not.
    with Pipeline(
        [
            Stage(graphs / "scale.onnx", outputs={"y": "scaled"}),
            Stage(graphs / "shift.onnx", outputs={"y": "shifted"}),
            Stage(graphs / "join.onnx", inputs={"a": "shifted", "b": "scaled"}),
        ],
        name="all",
    ) as pipeline:
        model = graphpipe.fuse(pipeline)
        assert takes_and_gives(model) == (["x"], ["d"])
        assert model.graph.name == "all"
        assert np.array_equal(run(model, x=X)["d"], (X + 3) - X * 2)
        assert np.array_equal(run(model, x=X)["d"], pipeline.infer({"x": X})["d"])
        more = graphpipe.fuse(pipeline, outputs={"difference": "d", "twice": "scaled"})
        assert {name: array.tolist() for name, array in run(more, x=X).items()} == {
            "difference": ((X + 3) - X * 2).tolist(), "twice": (X * 2).tolist(),
        }  # fmt: skip
        # It was not ours to close.
        pipeline.infer({"x": X})


def test_a_name_of_a_stages_own_is_not_taken_for_one_of_the_pipeline(graphs):
    # The second takes the caller's y, not what the first one calls so.
    stages = [
        Stage(graphs / "scale.onnx", outputs={"y": "scaled"}),
        Stage(graphs / "shift.onnx", inputs={"x": "y"}, outputs={"y": "shifted"}),
        Stage(graphs / "join.onnx", inputs={"a": "scaled", "b": "shifted"}),
    ]
    with Pipeline(stages, inputs=["y", "x"]) as pipeline:
        model = graphpipe.fuse(pipeline)
        assert takes_and_gives(model) == (["y", "x"], ["d"])
        assert np.array_equal(run(model, x=X, y=X * 7)["d"], X * 2 - (X * 7 + 3))


def test_a_file_and_a_folder_are_pipelines_too_and_one_may_stand_in_another(graphs):
    (graphs / "inner.toml").write_text(
        '[[stages]]\nsource = "scale.onnx"\noutputs = { y = "x" }\n'
        '[[stages]]\nsource = "shift.onnx"\nisolate = 1\noutputs = { y = "inside" }\n'
    )
    (graphs / "pipeline.toml").write_text(
        'name = "outer"\noutputs = ["d", "e"]\n'
        '[[stages]]\nname = "one"\nsource = "inner.toml"\ninputs = { x = "pixels" }\noutputs = { inside = "a" }\n'
        '[[stages]]\nsource = "scale.onnx"\ninputs = { x = "pixels" }\noutputs = { y = "b" }\n'
        '[[stages]]\nsource = "join.onnx"\n'
        '[[stages]]\nsource = "shift.onnx"\ninputs = { x = "d" }\noutputs = { y = "e" }\n'
    )
    for source in (graphs / "pipeline.toml", str(graphs)):
        model = graphpipe.fuse(source, path=graphs / "whole.onnx")
        assert takes_and_gives(model) == (["pixels"], ["d", "e"])
        assert {node.name.partition("/")[0] for node in model.graph.node} == {
            "one_scale",
            "one_shift",
            "scale",
            "join",
            "shift",
        }
    answers = [graphpipe.load(graphs / name).infer({"pixels": X}) for name in ("whole.onnx", "pipeline.toml")]
    for name in ("d", "e"):
        assert np.array_equal(answers[0][name], answers[1][name])


def test_operators_of_a_stages_own_are_known(tmp_path):
    extensions = pytest.importorskip("onnxruntime_extensions")
    library = extensions.get_library_path()
    upper = "upper (string[n] text) => (string[n] loud) { loud = ai.onnx.contrib.StringUpper (text) }"
    count = "count (string[n] loud) => (int64[1] count) { count = Shape (loud) }"
    one, two = saved(tmp_path / "upper.onnx", upper, ai_onnx_contrib=1), saved(tmp_path / "count.onnx", count)
    with Pipeline([Stage(one, custom_ops=[library]), two], outputs=["loud", "count"]) as pipeline:
        graphpipe.fuse(pipeline, path=tmp_path / "whole.onnx")
        expected = pipeline.infer({"text": ["a", "Bc"]})
    with graphpipe.load(tmp_path / "whole.onnx", custom_ops=[library]) as model:
        answer = model.infer({"text": ["a", "Bc"]})
    assert {name: array.tolist() for name, array in answer.items()} == {"loud": [b"A", b"BC"], "count": [2]}
    assert {name: array.tolist() for name, array in expected.items()} == {"loud": [b"A", b"BC"], "count": [2]}


def test_an_input_that_a_pipeline_cannot_take_is_at_its_default(tmp_path):
    model = graph("old (float[n, 4] x, float factor) => (float[n, 4] y) { y = Mul (x, factor) }")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(5), "factor"))
    onnx.save(model, tmp_path / "old.onnx")
    fused = graphpipe.fuse(Pipeline([tmp_path / "old.onnx"]))
    assert takes_and_gives(fused) == (["x"], ["y"])
    assert np.array_equal(run(fused, x=X)["y"], X * 5)


def double(y):
    return {"z": y * 2}


def test_the_first_stage_that_is_no_graph_is_refused_by_name(graphs):
    problem = graphpipe.Problem.of({"x": "float32[n, 4]"}, {"y": "float32[n, 4]"})
    with Pipeline([graphs / "scale.onnx", double]) as inner:
        for stages, words in (
            (
                [graphs / "scale.onnx", double],
                r"stage 'double' \(Python function\) is no graph; stages that are files of ONNX",
            ),
            ([Stage(inner, "inner"), double], r"stage 'inner\.double' \(Python function\)"),
            ([Stage(graphs / "scale.onnx", problem=problem)], r"stage 'scale' \(.*with a problem around it"),
            ([Stage(graphs / "scale.onnx", pad=["x:1:0"])], r"stage 'scale' \(.*with a pad around it"),
            (["echo"], r"stage 'echo' \(echo\) is no graph"),
        ):
            with Pipeline(stages) as pipeline, pytest.raises(LoadError, match=words):
                graphpipe.fuse(pipeline, path=graphs / "whole.onnx")
    assert not (graphs / "whole.onnx").exists()


def test_what_is_asked_of_a_pipeline_otherwise_is_refused_in_words(graphs):
    with Pipeline([graphs / "scale.onnx"]) as pipeline, graphpipe.load(graphs / "scale.onnx") as model:
        for parts, options, words in (
            (
                (pipeline, graphs / "shift.onnx"),
                {},
                "part 1 is a model or a pipeline; one pipeline is fused, or graphs",
            ),
            ((pipeline,), {"name_map": {"x": "y"}}, "take no name map"),
            (
                (pipeline,),
                {"outputs": ["z"]},
                "no stage of 'pipeline' gives 'z', which is to be an output; they give 'y'",
            ),
            ((pipeline,), {"outputs": ["x"]}, "gives 'x', which is to be an output"),
            ((model,), {}, "'scale' is ONNX, and no pipeline"),
        ):
            with pytest.raises(LoadError, match=words):
                graphpipe.fuse(*parts, **options)
    with Pipeline([Stage(graphs / "scale.onnx", outputs={"y": "x"})]) as pipeline:
        with pytest.raises(LoadError, match=r"'x' would be an input and an output.*outputs=\{'new_x': 'x'\}"):
            graphpipe.fuse(pipeline)
        assert takes_and_gives(graphpipe.fuse(pipeline, outputs={"new_x": "x"})) == (["x"], ["new_x"])


NAMES = st.sampled_from(["x", "y", "h", "a"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["scale", "shift"]), NAMES, NAMES), min_size=1, max_size=5))
def test_whatever_the_names_are_the_graph_answers_as_the_pipeline(graphs, steps):
    stages = [Stage(graphs / f"{file}.onnx", inputs={"x": taken}, outputs={"y": given}) for file, taken, given in steps]
    with Pipeline(stages) as pipeline:
        fused = graphpipe.fuse(pipeline, outputs={"out": steps[-1][2]}, trial=False)
        inputs = {name: X + place for place, name in enumerate(pipeline.signature.input_names)}
        assert takes_and_gives(fused)[0] == list(inputs)
        # A stage that nothing needs leaves its inputs to nobody.
        assert np.array_equal(run(fused, **inputs)["out"], pipeline.infer(inputs)[steps[-1][2]])


def test_the_command_takes_a_pipelines_file(graphs):
    (graphs / "pipeline.toml").write_text(
        '[[stages]]\nsource = "scale.onnx"\noutputs = { y = "x" }\n[[stages]]\nsource = "shift.onnx"\n'
    )
    code = "import sys; from graphpipe.server.start import main; sys.argv[0] = 'graphpipe'; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "fuse", "pipeline.toml", "-o", "whole.onnx"],
        cwd=graphs, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    size = (graphs / "whole.onnx").stat().st_size
    assert done.stdout == (
        f"whole.onnx: a pipeline in one graph, {size} B; opsets ai.onnx 17\n"
        "  takes x: float32 [n, 4]\n  gives y: float32 [n, 4]\n"
    )
    (graphs / "f.py").write_text("def f(y):\n    return {'z': y}\n")
    with (graphs / "pipeline.toml").open("a") as file:
        file.write('[[stages]]\nsource = "f.py:f"\n')
    done = subprocess.run(
        [sys.executable, "-c", code, "fuse", "pipeline.toml", "-o", "other.onnx"],
        cwd=graphs, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "stage 'f' (Python function) is no graph; stages" in done.stderr
    assert not (graphs / "other.onnx").exists()
