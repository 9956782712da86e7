"""Our codec against the official one, both ways: what one writes, the other reads as the same."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpipe.wire import (
    ErrorInfo,
    InferRequest,
    MetadataRequest,
    MetadataResponse,
    Segment,
    decode_infer_response,
    decode_metadata_response,
    decode_request,
    encode_infer_response,
    encode_metadata_response,
    encode_request,
)
from graphpipe.wire.messages import encode_metadata_request
from tests.generated import graphpipe_generated
from tests.wire import official
from tests.wire.official import Manner, Tensor
from tests.wire.strategies import array_of, error_lists, manners, metadata_responses, names, tensor_of, tensors, texts

ROOT = Path(__file__).resolve().parents[2]
many = settings(max_examples=200, deadline=None)


def joined(segments: list[Segment]) -> bytes:
    return b"".join(segments)


@many
@given(st.lists(tensors(), max_size=4), names, names, texts)
def test_the_official_classes_read_our_requests(inputs, input_names, output_names, config):
    message = joined(encode_request([array_of(t) for t in inputs], input_names, output_names, config))
    assert official.read_request(message) == (config, input_names, output_names, inputs)


@many
@given(st.lists(tensors(), max_size=4), names, names, texts, manners)
def test_we_read_requests_written_by_the_official_builder(inputs, input_names, output_names, config, manner):
    message = decode_request(official.write_request(inputs, input_names, output_names, config, manner))
    assert isinstance(message, InferRequest)
    assert [tensor_of(array) for array in message.inputs] == inputs
    head = message.head
    assert (head.config, list(head.input_names), list(head.output_names)) == (config, input_names, output_names)
    assert head.types == tuple(t.type for t in inputs)
    assert head.shapes == tuple(t.shape for t in inputs)


@many
@given(st.lists(tensors(), max_size=4), error_lists)
def test_the_official_classes_read_our_answers(outputs, errors):
    message = joined(encode_infer_response([array_of(t) for t in outputs], [ErrorInfo(*e) for e in errors]))
    assert official.read_infer_response(message) == (outputs, errors)


@many
@given(st.lists(tensors(), max_size=4), error_lists, manners)
def test_we_read_answers_written_by_the_official_builder(outputs, errors, manner):
    message = decode_infer_response(official.write_infer_response(outputs, errors, manner))
    assert [tensor_of(array) for array in message.outputs] == outputs
    assert message.errors == [ErrorInfo(*e) for e in errors]


@many
@given(metadata_responses)
def test_the_official_classes_read_our_metadata(meta):
    name, version, server, description, inputs, outputs = official.read_metadata_response(
        encode_metadata_response(meta)
    )
    assert (name, version, server, description) == (meta.name, meta.version, meta.server, meta.description)
    assert inputs == tuple((io.name, io.description, io.shape, io.type) for io in meta.inputs)
    assert outputs == tuple((io.name, io.description, io.shape, io.type) for io in meta.outputs)


@many
@given(metadata_responses, manners)
def test_we_read_metadata_written_by_the_official_builder(meta, manner):
    assert decode_metadata_response(official.write_metadata_response(meta, manner)) == meta


@given(manners)
def test_requests_for_metadata_are_understood_both_ways(manner):
    assert official.read_request(encode_metadata_request()) is None
    assert decode_request(official.write_metadata_request(manner)) == MetadataRequest()
    assert decode_request(encode_metadata_request()) == MetadataRequest()


@many
@given(st.lists(tensors(), max_size=4), names, names, texts)
def test_we_read_our_own_requests(inputs, input_names, output_names, config):
    message = decode_request(joined(encode_request([array_of(t) for t in inputs], input_names, output_names, config)))
    assert isinstance(message, InferRequest)
    assert [tensor_of(array) for array in message.inputs] == inputs
    assert (message.head.config, list(message.head.input_names)) == (config, input_names)


def test_everything_may_be_absent():
    """A table without fields is legal FlatBuffers: no tensors, no names, no words."""
    w = official.Writer(Manner())
    graphpipe_generated.MetadataResponseStart(w.builder)
    assert decode_metadata_response(w.finish(graphpipe_generated.MetadataResponseEnd(w.builder))) == MetadataResponse()
    w = official.Writer(Manner())
    graphpipe_generated.InferResponseStart(w.builder)
    response = decode_infer_response(w.finish(graphpipe_generated.InferResponseEnd(w.builder)))
    assert (response.outputs, response.errors) == ([], [])


def test_an_absent_shape_is_a_scalars_and_absent_data_is_empty():
    w = official.Writer(Manner())
    data = w.data(b"\x07\x00")
    graphpipe_generated.TensorStart(w.builder)
    graphpipe_generated.TensorAddType(w.builder, official.fbs.Type.Int16)
    graphpipe_generated.TensorAddData(w.builder, data)
    scalar = graphpipe_generated.TensorEnd(w.builder)
    shape = w.shape([0, 3])
    graphpipe_generated.TensorStart(w.builder)
    graphpipe_generated.TensorAddType(w.builder, official.fbs.Type.Float32)
    graphpipe_generated.TensorAddShape(w.builder, shape)
    empty = graphpipe_generated.TensorEnd(w.builder)
    outputs = w.offsets([scalar, empty])
    graphpipe_generated.InferResponseStart(w.builder)
    graphpipe_generated.InferResponseAddOutputTensors(w.builder, outputs)
    response = decode_infer_response(w.finish(graphpipe_generated.InferResponseEnd(w.builder)))
    assert [tensor_of(array) for array in response.outputs] == [
        Tensor(4, (), b"\x07\x00"),
        Tensor(10, (0, 3), b""),
    ]


def test_the_generated_classes_are_what_the_compiler_makes_of_the_schema(tmp_path):
    generate = ROOT / "scripts" / "generate.py"
    made = subprocess.run([sys.executable, str(generate), str(tmp_path)], capture_output=True, text=True, check=False)
    if "there is no flatc" in made.stderr:
        pytest.skip("there is no flatc here")
    assert made.returncode == 0, made.stderr
    committed = Path(graphpipe_generated.__file__).read_text()
    fresh = (tmp_path / "graphpipe_generated.py").read_text()
    version, committed_version = fresh.splitlines()[0], committed.splitlines()[0]
    if version != committed_version:
        pytest.skip(f"another version: {version}; the committed classes are by {committed_version}")
    assert fresh == committed
