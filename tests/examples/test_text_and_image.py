"""examples/text-and-image: one pipeline for training and serving, asked in three languages."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphpipe
from tests.serving import ROOT, Server, environment, serving

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
Image = pytest.importorskip("PIL.Image")

FOLDER = ROOT / "examples" / "text-and-image"
TEXTS = ["a red circle", "THE TRIANGLE IS GREEN!", "", "ein rötlicher Kreis", "红色的圆 🙂", "x" * 300, "a\tb\u0301 c"]


@pytest.fixture(scope="module")
def example() -> Iterator[Any]:
    """The folder's own modules, as train.py sees them."""
    names = [path.stem for path in FOLDER.glob("*.py")]
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(FOLDER))
    import pairs
    import train

    yield type("Example", (), {"train": train, "pairs": pairs})
    sys.path.remove(str(FOLDER))
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(before)


@pytest.fixture(scope="module")
def trained(example) -> tuple[Any, list[float]]:
    model = example.train.networks()
    return model, list(example.train.train(model, example.train.loader(example.pairs.Pairs(16 * 32))))


@pytest.fixture(scope="module")
def folder(example, trained, tmp_path_factory) -> Path:
    place: Path = tmp_path_factory.mktemp("served") / "text-and-image"
    example.train.export(trained[0], place)
    return place


@pytest.fixture(scope="module")
def served(folder) -> Iterator[Server]:
    with serving("--model", str(folder)) as server:
        yield server


def images(example) -> list[bytes]:
    """What pictures come in: JPEG and PNG, of several modes and shapes, one of them turned."""
    import random

    made = [example.pairs.jpeg("red", "circle", random.Random(1))]
    chance = np.random.default_rng(5)
    colours = Image.fromarray(chance.integers(0, 256, (40, 90, 3), np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    for picture, kind, options in (
        (colours, "PNG", {}), (colours.convert("L"), "JPEG", {}), (colours.convert("P"), "PNG", {}),
        (colours.convert("CMYK"), "JPEG", {}), (colours, "JPEG", {"exif": turned}), (colours.convert("RGBA"), "PNG", {}),
    ):  # fmt: skip
        file = io.BytesIO()
        picture.save(file, kind, **options)
        made.append(file.getvalue())
    return made


def test_it_learns(trained):
    _, losses = trained
    assert np.mean(losses[-4:]) < np.mean(losses[:4])


def test_what_the_loader_makes_is_what_the_server_makes(example, served):
    rows = [example.pairs.Pair(text, image, True) for text, image in zip(TEXTS, images(example), strict=True)]
    (batch,) = example.train.loader(rows)
    with graphpipe.Client(served.url) as client:
        given = client.infer({"text": TEXTS, "image": [row.image for row in rows]}, outputs=["ids", "mask", "pixels"])
    for name, array in given.items():
        made = getattr(batch, name).numpy()
        assert made.dtype == array.dtype
        assert np.array_equal(made, array), name


def test_the_network_and_the_served_pipeline_say_the_same(example, trained, served):
    model, _ = trained
    rows = [example.pairs.Pairs(40)[i] for i in range(40)]
    with graphpipe.Client(served.url) as client:
        given = client.infer({"text": [row.text for row in rows], "image": [row.image for row in rows]})["probability"]
    with torch.no_grad():
        said = [model(batch.ids, batch.mask, batch.pixels).numpy() for batch in example.train.loader(rows)]
    assert np.abs(np.concatenate(said) - given).max() < 1e-5
    assert np.ptp(given) > 0.01


def test_a_text_and_a_picture_that_are_none_are_their_callers_mistake(example, served):
    (image, *_) = images(example)
    with graphpipe.Client(served.url) as client:
        for text, file, message in (
            (b"x", image[:200], "stage 'decoder': image 1, of 200 bytes, is no whole JPEG or PNG file"),
            (b"x", b"", "stage 'decoder': image 1, of 0 bytes"),
            (b"\xff\xfe", image, "stage 'tokenizer': text 1 is not UTF-8"),
        ):
            with pytest.raises(graphpipe.InvalidRequest, match=message):
                client.infer({"text": [b"a", text], "image": [image, file]})
        assert client.infer({"text": ["a"], "image": [image]})["probability"].shape == (1,)


def test_the_picture_in_the_documents_is_what_explain_draws(example, folder):
    def words(svg: str) -> list[str]:
        # Times, and the size that they need.
        told = re.findall(r"<text[^>]*>(.*?)</text>", svg, re.DOTALL)
        return [re.sub(r"[\d.]+ (ms|%)|onnxruntime [\d.]+|the median of \d+", "...", text) for text in told]

    inputs = {"text": ["a red circle"], "image": [images(example)[0]]}
    drawn = graphpipe.explain(str(folder), inputs, runs=3).svg()
    kept = (ROOT / "docs" / "images" / "explained-two-towers.svg").read_text()
    assert "tokenizer" in kept
    assert words(drawn) == words(kept)


def test_go_and_java_are_told_what_python_is(example, folder, served, tmp_path):
    if not all(map(shutil.which, ("go", "java", "javac"))):
        pytest.skip("Go and Java are not installed here")
    text, (image, *_) = "a red circle — with an é", images(example)
    file = tmp_path / "picture.jpg"
    file.write_bytes(image)
    with graphpipe.Client(served.url) as client:
        (expected,) = client.infer({"text": [text], "image": [image]})["probability"].tolist()
    sources = sorted(map(str, (ROOT / "clients/java/client/src/main/java").rglob("*.java")))
    classes = tmp_path / "classes"
    subprocess.run(["javac", "-d", str(classes), *sources], check=True)
    programs = {
        "go": ["go", "run", "."],
        "java": ["java", "-cp", str(classes), "Ask.java"],
    }
    env = {**environment(), "GOFLAGS": "-mod=mod", "GOWORK": "off"}
    for name, program in programs.items():
        asked = [*program, served.url, text, str(file)]
        told = subprocess.run(asked, cwd=FOLDER / "ask", env=env, capture_output=True, text=True, check=False)
        assert told.returncode == 0, (name, told.stderr)
        assert abs(float(told.stdout) - expected) < 1e-5, name
        refused = subprocess.run(
            [*asked[:-1], __file__], cwd=FOLDER / "ask", env=env, capture_output=True, text=True, check=False
        )
        assert refused.returncode == 1
        assert "stage 'decoder': image 0" in refused.stderr, name
