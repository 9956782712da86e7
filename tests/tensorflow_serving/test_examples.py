"""SavedModels of TensorFlow: strings, signatures with names of their own, and those that take examples."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphpipe
from graphpipe.errors import InvalidRequest, MalformedMessage, TooLarge
from graphpipe.server.protocols.tensorflow_serving.examples import examples_in
from tests.front.servers import InProcess, in_process
from tests.raw_http import Answer, call


@pytest.fixture(scope="module")
def tf() -> Any:
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    import tensorflow

    return tensorflow


def written(tf: Any, path: Path) -> Path:
    """A SavedModel with a signature of each kind, as TensorFlow's first version writes them."""
    v1 = tf.compat.v1
    builder = v1.saved_model.Builder(str(path))
    with tf.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, [None], "examples")
        features = {
            "x": v1.FixedLenFeature([2], tf.float32),
            "by": v1.FixedLenFeature([], tf.int64, 1),
            "name": v1.FixedLenFeature([], tf.string, ""),
        }
        parsed = v1.parse_example(serialized, features)
        scores = parsed["x"] * v1.cast(parsed["by"], tf.float32)[:, None]
        labels = tf.stack([parsed["name"] + "a", parsed["name"] + "b"], 1)
        text = v1.placeholder(tf.string, [None], "text")
        signatures = v1.saved_model.signature_def_utils
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": v1.saved_model.predict_signature_def({"text": text}, {"bytes": text + "!"}),
                "classes": signatures.classification_signature_def(serialized, labels, scores),
                "scores": signatures.classification_signature_def(serialized, None, scores),
                "labels": signatures.classification_signature_def(serialized, labels, None),
                "values": signatures.regression_signature_def(serialized, tf.reduce_sum(scores, 1)),
            },
        )
        builder.save()
    return path


@pytest.fixture(scope="module")
def server(tf: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    path = str(written(tf, tmp_path_factory.mktemp("saved") / "model"))
    names = ("classes", "scores", "labels", "values")
    models = {name: graphpipe.load(path, signature=name) for name in names} | {"text": graphpipe.load(path)}
    with in_process({name: model.model for name, model in models.items()}) as running:
        yield running


def ask(server: InProcess, model: str, verb: str, document: Any) -> Answer:
    return call(server.url, "POST", f"/v1/models/{model}:{verb}", json.dumps(document).encode())


EXAMPLES = {
    "context": {"by": 2, "x": [0.0, 0.0]},
    "examples": [{"x": [1.0, 2.5], "name": "é"}, {"x": [3.0, 4], "by": [10]}, {"x": [5, 6.5], "name": {"b64": "eA=="}}],
}
SCORES, LABELS = [[2.0, 5.0], [30.0, 40.0], [10.0, 13.0]], [["éa", "éb"], ["a", "b"], ["xa", "xb"]]


def test_examples_are_classified(server: InProcess) -> None:
    def pairs(labels: Any, scores: Any) -> Any:
        return [[list(pair) for pair in zip(*each, strict=True)] for each in zip(labels, scores, strict=True)]

    for model, labels, scores in (
        ("classes", LABELS, SCORES),
        ("scores", [["", ""]] * 3, SCORES),
        ("labels", LABELS, [[0.0, 0.0]] * 3),
    ):
        answer = ask(server, model, "classify", EXAMPLES | {"signature_name": model})
        assert json.loads(answer.body) == {"results": pairs(labels, scores)}


def test_examples_have_values(server: InProcess) -> None:
    assert json.loads(ask(server, "values", "regress", EXAMPLES).body) == {"results": [7.0, 70.0, 23.0]}


def test_a_signature_says_what_it_is_called_and_for(server: InProcess) -> None:
    answer = call(server.url, "GET", "/v1/models/values/metadata")
    ((name, signature),) = json.loads(answer.body)["metadata"]["signature_def"]["signature_def"].items()
    assert (name, signature["method_name"]) == ("values", "tensorflow/serving/regress")
    for model, verb, says in (
        ("classes", "regress", "call :classify"),
        ("values", "classify", "call :regress"),
        ("text", "classify", "call :predict"),
    ):
        refused = ask(server, model, verb, EXAMPLES)
        assert (refused.status, says in refused.text) == (400, True)
    refused = ask(server, "values", "regress", EXAMPLES | {"signature_name": "classes"})
    assert (refused.status, "this one is 'values'" in refused.text) == (400, True)


def test_whoever_predicts_sends_examples_as_bytes(server: InProcess, tf: Any) -> None:
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.extend([1.0, 2.0])
    coded = {"b64": base64.b64encode(example.SerializeToString()).decode()}
    answer = ask(server, "values", "predict", {"instances": [{"inputs": coded}, {"inputs": coded}]})
    assert json.loads(answer.body) == {"predictions": [3.0, 3.0]}


def test_strings_are_a_model_s_own(server: InProcess) -> None:
    answer = ask(server, "text", "predict", {"instances": ["é", {"b64": "YQ=="}]})
    assert json.loads(answer.body) == {"predictions": ["é!", "a!"]}
    refused = ask(server, "text", "predict", {"instances": [{"b64": "/w=="}]})
    assert (refused.status, "no text in UTF-8" in refused.text) == (400, True)


def test_examples_that_do_not_fit_the_model_are_refused(server: InProcess) -> None:
    for example in ({"x": 1.0}, {"x": ["a", "b"]}, {}):
        assert ask(server, "values", "regress", {"examples": [example]}).status == 400


FEATURES = st.dictionaries(
    st.text(max_size=4),
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.booleans(), max_size=3)
    | st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=3)
    | st.lists(st.text(max_size=4) | st.binary(max_size=4).map(lambda each: {"b64": base64.b64encode(each).decode()})),
    max_size=3,
)


def official(tf: Any, features: dict[str, Any]) -> Any:
    example = tf.train.Example()
    example.features.SetInParent()
    for name, values in features.items():
        feature = example.features.feature[name]
        if not values:
            continue
        if isinstance(values[0], str | dict):
            feature.bytes_list.value.extend(
                each.encode() if isinstance(each, str) else base64.b64decode(each["b64"]) for each in values
            )
        elif isinstance(values[0], int):
            feature.int64_list.value.extend(map(int, values))
        else:
            feature.float_list.value.extend(values)
    return example


@settings(max_examples=200, deadline=None)
@given(st.lists(FEATURES, min_size=1, max_size=3), st.none() | FEATURES)
def test_examples_are_those_that_tensorflow_reads(tf: Any, examples: Any, context: Any) -> None:
    request = {"examples": examples} | ({} if context is None else {"context": context})
    (array,) = examples_in(request, "x", 10).arrays
    for octets, features in zip(array.tolist(), examples, strict=True):
        assert tf.train.Example.FromString(octets) == official(tf, (context or {}) | features)


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        ({}, MalformedMessage, "examples is a list"),
        ({"examples": {}}, MalformedMessage, "examples is a list"),
        ({"examples": []}, MalformedMessage, "examples is a list"),
        ({"examples": [1]}, MalformedMessage, r"examples\[0\] is no object"),
        ({"examples": [{}], "context": [1]}, MalformedMessage, "context is no object"),
        ({"examples": [{}, {"x": None}]}, InvalidRequest, r"examples\[1\]\['x'\]"),
        ({"examples": [{"x": [True, 1.5]}]}, InvalidRequest, "numbers, strings"),
        ({"examples": [{"x": [1, "a"]}]}, InvalidRequest, "numbers, strings"),
        ({"examples": [{"x": [[1]]}]}, InvalidRequest, "numbers, strings"),
        ({"examples": [{"x": 2**63}]}, InvalidRequest, "int64 cannot hold"),
        ({"examples": [{"x": 1e39}]}, InvalidRequest, "float32 cannot hold"),
        ({"examples": [{"x": {}}]}, InvalidRequest, "is no"),
        ({"examples": [{"x": {"b64": "!"}}]}, InvalidRequest, "no base64"),
        ({"examples": [{}] * 11}, TooLarge, "11 examples"),
        ({"examples": [{}] * 8, "context": {"x": "a" * (8 << 20)}}, TooLarge, "send fewer examples"),
    ],
)
def test_what_is_no_example_is_refused_in_words(request_: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        examples_in(request_, "x", 10)
