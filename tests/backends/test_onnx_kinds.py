"""ONNX: quantised models just load; execution providers by name, and what to install for those that are missing."""

from __future__ import annotations

import json
import logging

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import graphpipe
from graphpipe.backends.find import kind_of
from graphpipe.backends.onnx import _providers, _session
from graphpipe.backends.options import LoadOptions
from graphpipe.errors import LoadError
from tests import onnx_graphs


def test_an_int8_model_of_quantize_and_dequantize_nodes_just_serves(tmp_path, serve):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    random = np.random.default_rng(0)
    weights = random.standard_normal((16, 8)).astype(np.float32)
    exact = onnx_graphs.save(
        tmp_path / "exact.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", onnx_graphs.FLOAT, ["n", 16])],
        [("y", onnx_graphs.FLOAT, ["n", 8])],
        [numpy_helper.from_array(weights, "w")],
    )

    class Rows(CalibrationDataReader):
        def __init__(self):
            self.left = [{"x": random.standard_normal((4, 16)).astype(np.float32)} for _ in range(8)]

        def get_next(self):
            return self.left.pop() if self.left else None

    logging.disable(logging.WARNING)  # advice on preprocessing, which this model does not need
    try:
        quantize_static(str(exact), str(tmp_path / "int8.onnx"), Rows(), quant_format=QuantFormat.QDQ)
    finally:
        logging.disable(logging.NOTSET)
    ops = {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= ops
    x = random.standard_normal((5, 16)).astype(np.float32)
    here = graphpipe.load(tmp_path / "int8.onnx").infer({"x": x})["y"]
    there = graphpipe.remote.execute(serve("--model", tmp_path / "int8.onnx").url, x)
    assert np.allclose(here, there, atol=0.1)  # a step or two of the quantisation
    assert np.allclose(here, x @ weights, atol=0.25)
    assert not np.array_equal(here, x @ weights)


@pytest.mark.parametrize(
    ("name", "wheel"),
    [
        ("CUDAExecutionProvider", "onnxruntime-gpu"),
        ("cuda", "onnxruntime-gpu"),
        ("tensorrt", "onnxruntime-gpu"),
        ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
        ("openvino", "onnxruntime-openvino"),
    ],
)
def test_a_provider_that_is_missing_names_the_wheel_that_has_it(tmp_path, name, wheel):
    there = [provider.lower() for provider in onnxruntime.get_available_providers()]
    if name.lower() in there or f"{name.lower()}executionprovider" in there:
        pytest.skip(f"{name} is here")
    path = onnx_graphs.pair_sum(tmp_path / "sum.onnx")
    with pytest.raises(LoadError, match=f"is not in this build of ONNX Runtime.*pip install {wheel}"):
        graphpipe.load(path, providers=[name])


def test_a_device_is_a_provider_with_a_number(tmp_path):
    path = onnx_graphs.pair_sum(tmp_path / "sum.onnx")
    a = np.ones((1, 3), np.float32)
    assert graphpipe.load(path, device="cpu").infer({"a": a, "b": a})["sum"].tolist() == [[2.0, 2.0, 2.0]]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(LoadError, match="CUDAExecutionProvider is not in this build"):
            graphpipe.load(path, device="cuda:1")


def test_an_unknown_provider_lists_those_that_there_are(tmp_path):
    path = onnx_graphs.pair_sum(tmp_path / "sum.onnx")
    with pytest.raises(LoadError, match=r"no execution provider 'abacus' here; there are .*CPUExecutionProvider"):
        graphpipe.load(path, providers=["abacus"])


def test_providers_are_tried_in_the_order_given(tmp_path):
    path = onnx_graphs.pair_sum(tmp_path / "sum.onnx")
    model = graphpipe.load(path, providers=["cpu"])
    assert model.model._session.get_providers() == ["CPUExecutionProvider"]


def test_operators_that_cannot_be_loaded_are_named(tmp_path):
    path = onnx_graphs.pair_sum(tmp_path / "sum.onnx")
    with pytest.raises(LoadError, match=r"nowhere\.so: ONNX Runtime cannot load these operators"):
        graphpipe.load(path, custom_ops=[str(tmp_path / "nowhere.so")])


def settings_of(provider, **options):
    """What a provider is told, in a build that has it."""
    ((name, settings),) = _providers([provider], LoadOptions(providers=(provider,), **options))
    assert name == provider
    return settings


def test_openvino_has_as_many_threads_as_it_is_given_and_bfloat16_where_it_is_asked_for():
    openvino = "OpenVINOExecutionProvider"
    assert settings_of(openvino) == {"num_of_threads": "1"}
    assert settings_of(openvino, intra_threads=3) == {"num_of_threads": "3"}
    asked = settings_of(openvino, bfloat16=True)
    assert json.loads(asked["load_config"]) == {"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}}
    assert settings_of("CPUExecutionProvider", intra_threads=3, bfloat16=True) == {}


def test_bfloat16_is_of_use_to_an_onnx_model_where_the_build_with_openvino_is_installed(tmp_path, monkeypatch):
    assert "bfloat16" not in kind_of("m.onnx").uses
    (tmp_path / "onnxruntime_openvino-1.24.1.dist-info").mkdir()
    told = tmp_path / "onnxruntime_openvino-1.24.1.dist-info" / "METADATA"
    told.write_text("Metadata-Version: 2.1\nName: onnxruntime-openvino\nVersion: 1.24.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "bfloat16" in kind_of("m.onnx").uses
    assert graphpipe.load("examples/digits/digits.onnx", bfloat16=True)


class Cuda:
    """A build of ONNX Runtime for CUDA, as far as it is asked before a session is made."""

    def __init__(self):
        self.said = []

    def __getattr__(self, name):
        return getattr(onnxruntime, name)

    def get_available_providers(self):
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def preload_dlls(self):
        print("Failed to load libcudnn.so.9")  # it does, and a server's stdout is not for that
        self.said.append("preload_dlls")

    def InferenceSession(self, *_, **__):  # noqa: N802 -- ONNX Runtime's name
        self.said.append("InferenceSession")
        raise RuntimeError("no GPU")


def test_cudas_libraries_are_loaded_from_their_wheels_before_a_session_that_wants_them(capsys):
    cuda = Cuda()
    # Where there is a driver, a session is tried; where there is none, that is said.
    with pytest.raises(LoadError, match=r"^model\.onnx: .*(?:no GPU|no libcuda\.so\.1 here)"):
        _session(cuda, "model.onnx", LoadOptions(device="cuda:0"))
    assert cuda.said[0] == "preload_dlls"
    assert capsys.readouterr().out == ""


def test_a_session_on_the_cpu_touches_no_library_of_cuda():
    cuda = Cuda()
    with pytest.raises(LoadError, match="no GPU"):
        _session(cuda, "model.onnx", LoadOptions(device="cpu"))
    assert cuda.said == ["InferenceSession"]
