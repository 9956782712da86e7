"""The same inputs by the way of training and by the way of serving give the same tensors, whatever they are.

In training the stages' classes are called by the loader of a dataset, with texts as str and pictures as the bytes of files.
Served, they are stages of a pipeline on a server, which is asked over a socket, in GraphPipe's own form and in the Open
Inference Protocol's. Tokens and pixels are equal to the bit, since the same code makes them. What the graph behind them
computes has a tolerance of 1e-6: a runtime adds up in an order that depends on its threads.
"""

from __future__ import annotations

import http.client
import io
import json
import shutil
import struct
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st
from PIL import Image

import graphpipe
from tests.serving import ROOT, serving

pytest.importorskip("onnxruntime_extensions")
pytest.importorskip("tokenizers")
torch = pytest.importorskip("torch")

EXAMPLES = ROOT / "examples"
# For a decoder that hangs: the error is to be there long before.
IN_TIME_S = 30

PICTURES = """
name = "pictures"

[[stages]]
name = "decode"
source = "decode.py:Decode"
isolate = 1
isolate_timeout_s = 20

[[stages]]
source = "light.onnx"
"""

LIGHT = """
<ir_version: 8, opset_import: ["" : 17]>
light (uint8[n, 224, 224, 3] pixels) => (float[n, 3] means)
{
  floats = Cast <to = 1> (pixels)
  means = ReduceMean <axes = [1, 2], keepdims = 0> (floats)
}
"""


def module(path):
    spec = spec_from_file_location(f"equality_{path.stem}", path)
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


class Served:
    """A model on a server, asked in two ways over connections that stay."""

    def __init__(self, server, name):
        self.name = name
        self.client = graphpipe.Client(f"{server.url}/models/{name}", timeout=IN_TIME_S)
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=IN_TIME_S)

    def close(self):
        self.client.close()
        self.connection.close()

    def by_graphpipe(self, name, values, outputs):
        return self.client.infer({name: np.array([*values, None], object)[:-1]}, outputs)

    def by_json(self, name, values, outputs):
        """Open Inference, all of it JSON."""
        tensor = {"name": name, "datatype": "BYTES", "shape": [len(values)], "data": values}
        return self._asked({"inputs": [tensor], "outputs": [{"name": each} for each in outputs]}, b"")

    def by_bytes(self, name, values, outputs):
        """Open Inference, with the tensors as bytes behind the JSON."""
        body = b"".join(struct.pack("<I", len(each)) + each for each in values)
        tensor = {"name": name, "datatype": "BYTES", "shape": [len(values)]}
        tensor["parameters"] = {"binary_data_size": len(body)}
        asked = [{"name": each, "parameters": {"binary_data": True}} for each in outputs]
        return self._asked({"inputs": [tensor], "outputs": asked}, body)

    def _asked(self, head, body):
        said = json.dumps(head).encode()
        fields = {"Inference-Header-Content-Length": str(len(said))} if body else {}
        self.connection.request("POST", f"/v2/models/{self.name}/infer", said + body, fields)
        answer = self.connection.getresponse()
        size = int(answer.getheader("Inference-Header-Content-Length") or answer.getheader("Content-Length"))
        told, rest = json.loads(answer.read(size)), answer.read()
        if answer.status == 400:
            raise graphpipe.InvalidRequest(told["error"])
        assert answer.status == 200, told
        return dict(_outputs(told["outputs"], rest))


def _outputs(told, rest):
    kinds = {"INT64": np.int64, "UINT8": np.uint8, "FP32": np.float32}
    for output in told:
        kind, shape = kinds[output["datatype"]], output["shape"]
        if "data" in output:
            yield output["name"], np.array(output["data"], kind).reshape(shape)
        else:
            size = output["parameters"]["binary_data_size"]
            yield output["name"], np.frombuffer(rest[:size], kind).reshape(shape)
            rest = rest[size:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("equality")
    module(EXAMPLES / "embedding" / "make.py").make(made / "texts", small=True)
    (made / "pictures").mkdir()
    (made / "pictures" / "pipeline.toml").write_text(PICTURES)
    shutil.copy(EXAMPLES / "top-five" / "decode.py", made / "pictures")
    onnx.save(onnx.parser.parse_model(LIGHT), made / "pictures" / "light.onnx")
    return made


@pytest.fixture(scope="module")
def server(folder):
    models = [f"{name}={folder / name / 'pipeline.toml'}" for name in ("texts", "pictures")]
    with serving("--model", models[0], "--model", models[1]) as running:
        yield running


@pytest.fixture(scope="module")
def texts(server):
    served = Served(server, "texts")
    yield served
    served.close()


@pytest.fixture(scope="module")
def pictures(server):
    served = Served(server, "pictures")
    yield served
    served.close()


@pytest.fixture(scope="module")
def tokenizer(folder):
    return module(folder / "texts" / "tokenizer.py").Tokenizer()


@pytest.fixture(scope="module")
def decoder(folder):
    return module(folder / "pictures" / "decode.py").Decode()


@pytest.fixture(scope="module")
def graphs(folder):
    """What stands behind the tokenizer, and behind the decoder, run in this process."""
    with (
        graphpipe.load(folder / "texts" / "encoder.onnx") as encoder,
        graphpipe.load(folder / "texts" / "pooling.onnx") as pooling,
        graphpipe.load(folder / "pictures" / "light.onnx") as light,
    ):

        def vectors(tokens):
            states = encoder.infer(tokens)["last_hidden_state"]
            return pooling.infer({"last_hidden_state": states, "attention_mask": tokens["attention_mask"]})["vector"]

        yield vectors, lambda pixels: light.infer({"pixels": pixels})["means"]


def batch_of(stage, values) -> dict[str, Any]:
    """The one batch that a loader makes of these, in training: the stage puts it together."""

    def together(items):
        made = stage(items)
        tensors = made if isinstance(made, dict) else {"pixels": made}
        return {name: torch.from_numpy(array) for name, array in tensors.items()}

    loader = torch.utils.data.DataLoader(values, batch_size=max(1, len(values)), collate_fn=together)
    return next(iter(loader))


def assert_equal(came, expected):
    for name, tensor in expected.items():
        assert came[name].dtype == tensor.numpy().dtype
        assert came[name].shape == tensor.shape
        assert np.array_equal(came[name], tensor.numpy())


PIECES = st.sampled_from([
    "cat", "The mat,", "😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "naïve café", "e\u0301a\u0308", "Ångström", "ẞtraße", "日本語", "한국어",
    "हिन्दी", "ไทย", "שלום", "مرحبا بالعالم", "\u202eabc\u202c", "\u200b", "\ufeff", "\0", "\u0085", "\t\r\n", "[MASK]",
    "##cat", "<b>&amp;", "\U0010ffff", "\ufffd", "x" * 130, "cat " * 300, '"\\', "İI", "ﬁ",
])  # fmt: skip
TEXTS = st.lists(
    st.text(max_size=60) | st.lists(PIECES | st.text(max_size=5), max_size=6).map("".join), min_size=1, max_size=4
)


@settings(max_examples=80, deadline=None)
@given(TEXTS)
@example([""])
@example(["", "cat " * 2000])
@example(["\0", "a\0b", "😀" * 500])
def test_any_text_has_the_tokens_that_were_learned_from(texts, tokenizer, graphs, drawn):
    learned = batch_of(tokenizer, drawn)
    vectors, _ = graphs
    vector = vectors({name: tensor.numpy() for name, tensor in learned.items()})
    for ask in (texts.by_graphpipe, texts.by_json):
        served = ask("text", drawn, ["input_ids", "attention_mask", "vector"])
        assert_equal(served, learned)
        assert np.abs(served["vector"] - vector).max() <= 1e-6
    raw = texts.by_bytes("text", [each.encode() for each in drawn], ["input_ids"])
    assert np.array_equal(raw["input_ids"], learned["input_ids"].numpy())


# What a mode is made of: its bytes are drawn by chance.
MODES = {"PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"], "JPEG": ["L", "RGB", "CMYK"]}


@st.composite
def files(draw):
    """The bytes of a JPEG or PNG, of any kind that Pillow writes."""
    kind = draw(st.sampled_from(sorted(MODES)))
    mode = draw(st.sampled_from(MODES[kind]))
    # Some are larger than what Pillow gives its decoders at a time.
    width, height = draw(st.tuples(st.integers(1, 60), st.integers(1, 60)) | st.just((320, 230)))
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    options: dict[str, Any] = {}
    if mode == "I;16":
        image = Image.fromarray(chance.integers(0, 2**16, (height, width), np.uint16))
    else:
        bands = len(Image.new(mode, (1, 1)).getbands())
        grain = chance.integers(0, 256, (height, width, bands), np.uint8)
        layers = [Image.fromarray(grain[..., band]) for band in range(bands)]
        image = Image.merge(mode, layers) if bands > 1 else layers[0]
        image = image.quantize(20) if mode == "P" else image.convert(mode)
    if mode in ("P", "L", "1") and kind == "PNG" and draw(st.booleans()):
        options["transparency"] = draw(st.integers(0, 19))
    if kind == "JPEG":
        options["progressive"] = draw(st.booleans())
        options["quality"] = draw(st.integers(20, 100))
        if draw(st.booleans()):
            options["restart_marker_blocks"] = 2
    orientation = draw(st.integers(0, 9))
    if orientation:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    file = io.BytesIO()
    try:
        image.save(file, kind, **options)
    except OSError:  # Pillow has too little room for some of the noisiest
        reject()
    return file.getvalue()


@settings(max_examples=60, deadline=None)
@given(st.lists(files(), min_size=1, max_size=3))
def test_any_picture_has_the_pixels_that_were_learned_from(pictures, decoder, graphs, drawn):
    learned = batch_of(decoder, drawn)
    _, light = graphs
    means = light(learned["pixels"].numpy())
    for ask in (pictures.by_graphpipe, pictures.by_bytes):
        served = ask("image", drawn, ["pixels", "means"])
        assert_equal(served, learned)
        assert np.allclose(served["means"], means, rtol=1e-6)


def answers(pictures, decoder, content):
    """What becomes of a file in training, and served in two ways: pixels, or None where it is refused."""
    for ask in (
        lambda: decoder([content]),
        lambda: pictures.by_graphpipe("image", [content], ["pixels"])["pixels"],
        lambda: pictures.by_bytes("image", [content], ["pixels"])["pixels"],
    ):
        try:
            yield ask()
        except graphpipe.InvalidRequest as refused:
            assert "image 1 of 1: " in str(refused)
            yield None


@settings(max_examples=80, deadline=None)
@given(files(), st.floats(0, 1, exclude_max=True) | st.integers(-20, -1))
def test_a_picture_that_was_cut_is_refused_in_time_or_is_the_whole_one(pictures, decoder, whole, at):
    cut = whole[: int(len(whole) * at) if isinstance(at, float) else at]
    assert len(cut) < len(whole)
    came = list(answers(pictures, decoder, cut))
    if came[0] is None:
        assert came == [None] * 3
    else:  # only what no pixel is made of is missing
        expected = decoder([whole])
        assert all(np.array_equal(each, expected) for each in came)


# Pillow's word about a camera's notes, where they are damaged, is one here and a line of the log there.
@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=80, deadline=None)
@given(files(), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_of_a_picture_that_was_damaged_training_and_serving_make_the_same(pictures, decoder, whole, damage):
    content = bytearray(whole)
    for place, value in damage:
        content[int(len(content) * place)] = value
    learned, *served = answers(pictures, decoder, bytes(content))
    for each in served:
        assert (each is None) == (learned is None)
        assert learned is None or np.array_equal(each, learned)
