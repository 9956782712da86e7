"""The committed digit model: it is what its script makes, and it is as good as its README says."""

import json
import re
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.serving import ROOT

FOLDER = ROOT / "examples" / "digits"


@pytest.fixture(scope="module")
def train():
    spec = spec_from_file_location("digits_train", FOLDER / "train.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(model, pixels):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["label", "probabilities"], {"pixels": pixels})


def test_the_committed_model_reads_digits_it_has_not_seen(train):
    _, pixels, _, labels = train.split()
    answers, probabilities = run(FOLDER / "digits.onnx", pixels)
    assert np.mean(answers == labels) >= 0.97
    assert probabilities.shape == (len(pixels), 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    # The label is found among the scores, whose order softmax keeps; two may round to one probability.
    np.testing.assert_array_equal(
        np.take_along_axis(probabilities, answers[:, None], 1)[:, 0], probabilities.max(axis=1)
    )


def test_training_again_gives_as_good_a_model_and_the_same_sample(train, tmp_path, capsys):
    train.main(tmp_path, tmp_path)
    accuracy = re.search(r"accuracy on 360 held-out digits: (0\.\d+)", capsys.readouterr().out)
    assert float(accuracy[1]) >= 0.97
    _, pixels, _, _ = train.split()
    ours, again = run(FOLDER / "digits.onnx", pixels), run(tmp_path / "digits.onnx", pixels)
    # Neither bytes nor probabilities: another machine's linear algebra rounds elsewhere, and training adds it up.
    assert np.mean(ours[0] == again[0]) >= 0.98
    np.testing.assert_array_equal(np.load(tmp_path / "digit.npy"), np.load(FOLDER / "digit.npy"))
    assert (tmp_path / "digit.json").read_bytes() == (FOLDER / "digit.json").read_bytes()


def test_the_bundled_digit_is_the_same_in_both_files_and_is_read_rightly():
    pixels, sample = np.load(FOLDER / "digit.npy"), json.loads((FOLDER / "digit.json").read_text())
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, [sample["pixels"]])
    assert run(FOLDER / "digits.onnx", pixels)[0].tolist() == [sample["label"]]


def test_the_batch_is_dynamic_and_the_file_small(train):
    graph = onnx.load(FOLDER / "digits.onnx").graph
    shape = graph.input[0].type.tensor_type.shape
    assert [axis.dim_param or axis.dim_value for axis in shape.dim] == ["n", 64]
    assert (FOLDER / "digits.onnx").stat().st_size < 200_000
    for rows in (0, 1, 7):
        assert run(FOLDER / "digits.onnx", np.zeros((rows, 64), np.float32))[0].shape == (rows,)
