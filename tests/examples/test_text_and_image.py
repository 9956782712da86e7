"""examples/text-and-image: what the networks learn from is what they are asked with, from Python, Go and Java."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphpipe
from tests.serving import ROOT, environment

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

FOLDER = ROOT / "examples" / "text-and-image"
# Its modules import one another as a script's do.
sys.path.append(str(FOLDER))

TEXTS = [
    "a red circle", "", "Ünïcödé CAFÉ", "日本語 text", "👩‍👩‍👧 and 😀", "x" * 300, "circle " * 200, "don't [stop]",
    "tabs\tand\nlines",
]  # fmt: skip
PROCESSED = ["ids", "mask", "pixels"]


def module(name):
    spec = spec_from_file_location(f"text_and_image_{name}", FOLDER / f"{name}.py")
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


TRAIN, WORDPIECE, DECODER = module("train"), module("wordpiece"), module("decoder")
PAIRS = TRAIN.Pairs(8)


def file(image, form="PNG", **how):
    stream = io.BytesIO()
    image.save(stream, form, **how)
    return stream.getvalue()


def gradient():
    return Image.merge("RGB", [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.new("L", (256, 256), 9)])


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return file(gradient().resize((120, 60)), "JPEG", exif=exif)


IMAGES = {
    "jpeg": file(gradient(), "JPEG"), "png": file(gradient()), "grey": file(Image.linear_gradient("L"), "JPEG"),
    "palette": file(gradient().convert("P")), "cmyk": file(gradient().convert("CMYK"), "JPEG"), "exif": turned(),
    "sixteen bits": file(Image.fromarray(np.arange(65536, dtype=np.uint16).reshape(256, 256))),
    "one bit": file(gradient().convert("1")), "transparent": file(Image.new("RGBA", (9, 5), (255, 0, 0, 0))),
    "one pixel": file(Image.new("RGB", (1, 1), "blue")),
}  # fmt: skip


def served_folder(folder, steps):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = TRAIN.networks()
    losses = list(TRAIN.train(model, TRAIN.loader(TRAIN.Pairs(TRAIN.ROWS * steps))))
    TRAIN.export(model, folder)
    torch.set_num_threads(threads)
    for place, name in ((0, "one.jpg"), (1, "other.jpg")):
        (folder / name).write_bytes(PAIRS[place].image)
    return model, losses


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text-and-image")
    model, losses = served_folder(folder, steps=40)
    return folder, model, losses


@pytest.fixture
def server(made, serve):
    return serve("--model", made[0])


def test_the_loss_falls(made):
    _, _, losses = made
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.9 * losses[0]


def test_a_loaders_tensors_are_those_of_the_servers_stages_bit_by_bit(server):
    pairs = [TRAIN.Pair(text, image, True) for text, image in zip(TEXTS, IMAGES.values(), strict=False)]
    [batch] = TRAIN.loader(pairs)
    with graphpipe.Client(server.url) as client:
        asked = {"text": [pair.text for pair in pairs], "image": [pair.image for pair in pairs]}
        found = client.infer(asked, outputs=PROCESSED)
    for name in PROCESSED:
        learned = getattr(batch, name).numpy()
        assert (learned.dtype, learned.shape) == (found[name].dtype, found[name].shape)
        assert learned.tobytes() == found[name].tobytes()


def test_a_server_says_what_the_networks_say(made, server):
    _, model, _ = made
    [batch] = TRAIN.loader(PAIRS)
    with torch.no_grad():
        expected = model(batch.ids, batch.mask, batch.pixels).numpy()
    with graphpipe.Client(server.url) as client:
        asked = {"text": [pair.text for pair in PAIRS], "image": [pair.image for pair in PAIRS]}
        found = client.infer(asked)["probability"]
        # Rows that are filled up further for their neighbours' sake are what they are alone.
        alone = [client.infer({"text": [pair.text], "image": [pair.image]})["probability"][0] for pair in PAIRS]
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(found - alone).max() < 1e-5


def test_no_rows_have_no_answers(made):
    with graphpipe.load(made[0]) as pipeline:
        assert pipeline.infer({"text": [], "image": []})["probability"].shape == (0,)
        assert list(map(str, pipeline.signature.inputs)) == ["text string [n]", "image string [n]"]


WORD = st.text(st.sampled_from("abcxyzÄÖéİΣ9.,'-!日本豈\t$`한\x0b\x1c\x85\u2028\u200b"), max_size=12) | st.sampled_from(
    ["circle", "😀", "x" * 101]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(WORD, max_size=6).map(" ".join), min_size=1, max_size=4))
def test_the_tokens_are_those_of_the_library_that_berts_are_made_with(texts):
    tokenizers = pytest.importorskip("tokenizers")
    library = tokenizers.BertWordPieceTokenizer(str(FOLDER / "vocab.txt"), lowercase=True)
    library.enable_truncation(64)
    library.enable_padding()
    expected = library.encode_batch(texts)
    found = WORDPIECE.Tokenizer()([text.encode() for text in texts])
    assert found["ids"].tolist() == [each.ids for each in expected]
    assert found["mask"].tolist() == [each.attention_mask for each in expected]


def test_a_text_that_is_none_is_named():
    with pytest.raises(graphpipe.InvalidRequest, match="text 1 is not UTF-8: .* at byte 2"):
        WORDPIECE.Tokenizer()([b"a", b"ab\xff"])


def test_pictures_are_upright_and_in_colours_whatever_they_were():
    pixels = dict(zip(IMAGES, DECODER.decode([*IMAGES.values()])["pixels"], strict=True))
    assert np.abs(pixels["jpeg"].astype(int) - pixels["png"]).mean() < 4
    assert (pixels["transparent"] == 255).all()
    assert (pixels["one pixel"] == (0, 0, 255)).all()
    assert pixels["sixteen bits"][0, 0].tolist() < [3] * 3
    assert pixels["sixteen bits"][-1, -1].tolist() > [250] * 3
    # The gradient of red goes down; turned by the camera, it goes from right to left.
    assert pixels["exif"][32, 60, 0] < pixels["exif"][32, 4, 0]
    assert abs(int(pixels["exif"][4, 32, 0]) - pixels["exif"][60, 32, 0]) < 20


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"", "image 1, of 0 bytes, is no whole JPEG or PNG file: it is neither"),
        (b"nothing", "it is neither"),
        (file(Image.new("RGB", (9, 9)), "GIF"), "it is neither"),
        (IMAGES["jpeg"][:-900], "image 1, .*truncated"),
        (IMAGES["png"][:300], "image 1, "),
        (IMAGES["png"][:60] + b"\0\0\0\0" + IMAGES["png"][64:], "image 1, "),
        (file(Image.new("1", (5001, 5000))), "image 1 has 5,001 x 5,000 pixels; at most 25,000,000"),
        (file(Image.new("1", (14000, 14000))), "image 1"),
    ],
)
def test_bytes_that_are_no_picture_are_refused_with_the_number_of_the_image(bad, words):
    with pytest.raises(graphpipe.InvalidRequest, match=words):
        DECODER.decode([IMAGES["jpeg"], bad])


def test_a_server_refuses_a_bad_picture_and_answers_the_next(server):
    with graphpipe.Client(server.url) as client:
        with pytest.raises(graphpipe.InvalidRequest, match="stage 'decoder': image 1"):
            client.infer({"text": ["a", "b"], "image": [IMAGES["png"], IMAGES["png"][:99]]})
        assert client.infer({"text": ["a"], "image": [IMAGES["png"]]})["probability"].shape == (1,)


def excused(page):
    """The commands of a page that are left to this file."""
    return re.findall(
        r"<!-- not run: [^\n]*test_text_and_image[^\n]* -->\n```sh\n(.*?)```", page.read_text(), re.DOTALL
    )


def shell(command, folder, url=""):
    text = command.replace("http://127.0.0.1:9000", url)
    text = re.sub(r"(\.\./\.\./)?\.build/text-and-image", str(folder), text)
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-euc", text], cwd=ROOT, env={**environment(), "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answers(said):
    return [float(line.split()[0]) for line in said.splitlines()]


@pytest.fixture
def in_python(made, server):
    folder = made[0]
    said = shell(f"python {FOLDER}/ask.py {server.url} 'a red circle' {folder}/one.jpg {folder}/other.jpg", folder)
    with graphpipe.load(folder) as pipeline:
        images = [(folder / name).read_bytes() for name in ("one.jpg", "other.jpg")]
        expected = pipeline.infer({"text": ["a red circle"] * 2, "image": images})["probability"]
    assert np.abs(answers(said) - expected).max() < 1e-5
    return answers(said)


@pytest.mark.skipif(not shutil.which("go"), reason="there is no Go here")
def test_go_is_answered_as_python_is(made, server, in_python):
    command = excused(FOLDER / "README.md")[0]
    assert "go run" in command
    assert np.allclose(answers(shell(command, made[0], server.url)), in_python, rtol=0, atol=1e-5)


@pytest.mark.skipif(not shutil.which("javac"), reason="there is no Java here")
def test_java_is_answered_as_python_is(made, server, in_python):
    command = excused(FOLDER / "README.md")[1]
    assert "Ask.java" in command
    assert np.allclose(answers(shell(command, made[0], server.url)), in_python, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_newer_exporter_writes_the_same_networks(made, tmp_path):
    pytest.importorskip("onnxscript")
    TRAIN.export(made[1], tmp_path, dynamo=True)
    asked = {"text": [pair.text for pair in PAIRS], "image": [pair.image for pair in PAIRS]}
    with graphpipe.load(made[0]) as older, graphpipe.load(tmp_path) as newer:
        assert np.abs(older.infer(asked)["probability"] - newer.infer(asked)["probability"]).max() < 1e-5


def seen(svg):
    """What a picture shows, without what was measured: times, shares, and where things are, which depends on them."""
    found = []
    for each in ElementTree.fromstring(svg).iter():
        words = re.sub(r"[\d.,]+ (ms|%|s)\b|[\d.]+ (µs|us)|<?\d+ %", "...", each.text or "")
        found.append((each.tag, each.get("class"), re.sub(r"onnxruntime [\d.]+", "onnxruntime", words)))
    return found


def test_the_docs_picture_is_what_their_command_draws(made):
    folder = made[0]
    shutil.copy(folder / "one.jpg", folder / "red-circle.jpg")
    [command] = excused(ROOT / "docs" / "explaining.md")
    shell(command, folder)
    drawn, shown = (folder / "branches.svg"), ROOT / "docs" / "images" / "explained-branches.svg"
    assert seen(drawn.read_text()) == seen(shown.read_text())
