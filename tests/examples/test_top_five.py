"""examples/top-five: from the bytes of a picture to its five best labels, and what becomes of odd pictures."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import pytest
from PIL import Image

import graphpipe
from graphpipe import InvalidRequest
from tests.serving import ROOT, environment

FOLDER = ROOT / "examples" / "top-five"
CHANCE = np.random.default_rng(3)
# The middle of 256 x 256 pixels is taken as it is, so what comes out can be told exactly.
COLOURS = CHANCE.integers(0, 256, (256, 256, 3), np.uint8)
GREY = CHANCE.integers(0, 256, (256, 256), np.uint8)
ALPHA = CHANCE.integers(0, 2, (256, 256), np.uint8) * 255
SEEN = ALPHA[..., None] > 0


def module(name):
    spec = spec_from_file_location(f"top_five_{name}", FOLDER / f"{name}.py")
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


decode = module("decode").Decode()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("top-five")
    subprocess.run([sys.executable, FOLDER / "make.py", folder], check=True, env=environment(), cwd=folder)
    return folder


def file_of(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def middle(array):
    return np.broadcast_to(array, (256, 256, 3))[16:240, 16:240]


def header(width, height):
    """A PNG that says how large it is, and ends there."""
    said = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", said), (b"IDAT", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_raw_bytes_over_the_wire_come_back_as_labels(made, serve):
    server = serve("--model", made / "pipeline.toml")
    files = [(made / name).read_bytes() for name in ("checks.jpg", "dots.png")]
    with graphpipe.Client(server.url) as client:
        answer = client.infer({"image": files})
        assert answer["labels"][:, 0].tolist() == [b"blue checks", b"red dots"]
        assert answer["labels"].shape == answer["scores"].shape == (2, 5)
        assert (np.diff(answer["scores"], axis=1) <= 0).all()
        assert client.infer({"image": []})["labels"].shape == (0, 5)
        # What a caller did wrong is no fault of the server's: neither it nor the process that decodes is the worse for it.
        for bad in (
            b"",
            b"GIF89a" * 9,
            b"\xff\xd8\xff\xe0" + b"nonsense",
            files[0][:-900],
            files[1][:900],
            header(60000, 60000),
        ):
            with pytest.raises(InvalidRequest, match=r"^stage 'decode': image 2 of 2: "):
                client.infer({"image": [files[0], bad]})
        assert client.infer({"image": files})["labels"].tolist() == answer["labels"].tolist()
    assert "ended" not in server.log


def test_the_network_tells_pictures_apart_that_it_has_not_seen(made, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    make = module("make")
    chance = np.random.default_rng(8)
    files = [make.file_of(make.picture(label, chance, (300, 260)), "PNG") for label in make.LABELS * 2]
    with graphpipe.load(made / "classifier.onnx") as classifier:
        probabilities = classifier.infer({"pixels": decode(files)})["probabilities"]
    top = module("top_five").TopFive(made / "labels.txt")(probabilities)
    right = [labels[0] == label for labels, label in zip(top["labels"], make.LABELS * 2, strict=True)]
    assert np.mean(right) > 0.7  # one in twenty would be chance
    assert np.array_equal(top["scores"], -np.sort(-probabilities, axis=1)[:, :5])


def test_of_equals_the_first_label_comes_first():
    labels = FOLDER.parent / "top-five" / "top_five.py"  # any file with lines
    count = len(labels.read_text().splitlines())
    top = module("top_five").TopFive(labels)(np.full((1, count), 1 / count, np.float32))
    assert top["labels"][0].tolist() == labels.read_text().splitlines()[:5]
    with pytest.raises(ValueError, match=f"has {count} lines, and the model gives 3"):
        module("top_five").TopFive(labels)(np.ones((1, 3), np.float32))


PICTURES = {
    "colours": (Image.fromarray(COLOURS), COLOURS),
    "grey": (Image.fromarray(GREY), GREY[..., None]),
    "black and white": (Image.fromarray(ALPHA).convert("1", dither=0), ALPHA[..., None]),
    "palette": (
        Image.fromarray(COLOURS).quantize(64),
        np.asarray(Image.fromarray(COLOURS).quantize(64).convert("RGB")),
    ),
    "transparency": (
        Image.fromarray(np.dstack([COLOURS, ALPHA])),
        np.where(SEEN, COLOURS, 255),
    ),
    "grey with transparency": (
        Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)]),
        np.where(SEEN, GREY[..., None], 255),
    ),
    "16 bits": (Image.fromarray(GREY.astype(np.uint16) * 256 + 77), GREY[..., None]),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_whatever_a_png_holds_becomes_red_green_and_blue(kind):
    image, expected = PICTURES[kind]
    [pixels] = decode([file_of(image)])
    assert np.array_equal(pixels, middle(expected))


def test_a_colour_that_stands_for_transparency_lies_on_white():
    clear = tuple(int(value) for value in COLOURS[100, 100])
    [pixels] = decode([file_of(Image.fromarray(COLOURS), transparency=clear)])
    assert np.array_equal(pixels, middle(np.where(np.equal(COLOURS, clear).all(axis=2, keepdims=True), 255, COLOURS)))
    palette = Image.fromarray(GREY).quantize(16)
    [pixels] = decode([file_of(palette, transparency=3)])
    shown = np.asarray(palette.convert("RGB"))
    assert np.array_equal(pixels, middle(np.where((np.asarray(palette) == 3)[..., None], 255, shown)))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_of_any_kind_is_what_pillow_makes_of_it(mode, progressive):
    smooth = Image.fromarray(COLOURS).resize((16, 16)).resize((256, 256)).convert(mode)
    content = file_of(smooth, "JPEG", progressive=progressive, quality=95)
    [pixels] = decode([content])
    assert np.array_equal(pixels, middle(np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))))
    # JPEG loses a little, and nothing is upside down or inverted.
    assert np.abs(pixels.astype(int) - middle(np.asarray(smooth.convert("RGB")))).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(orientation):
    upright = CHANCE.integers(0, 256, (90, 130, 3), np.uint8)
    # What the camera stored, so that what EXIF says of it is true.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: np.rot90(upright), 7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    assert np.array_equal(decode([file_of(image, exif=exif)]), decode([file_of(Image.fromarray(upright))]))
    jpegs = [file_of(image, "JPEG", exif=exif, quality=100), file_of(Image.fromarray(upright), "JPEG", quality=100)]
    turned, plain = decode(jpegs).astype(int)  # JPEG's own blocks lie otherwise, and its colours are coarser
    assert np.abs(turned - plain).mean() < 12


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_what_exif_says_is_not_believed_where_it_is_nonsense():
    plain = decode([file_of(Image.fromarray(COLOURS), "JPEG")])
    for exif in (b"Exif\0\0" + b"nonsense" * 9, b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff"):
        assert np.array_equal(decode([file_of(Image.fromarray(COLOURS), "JPEG", exif=exif)]), plain)
    exif = Image.Exif()
    exif[0x0112] = 77
    assert np.array_equal(decode([file_of(Image.fromarray(COLOURS), "JPEG", exif=exif)]), plain)


@pytest.mark.parametrize("size", [(1, 1), (1, 100_000), (100_000, 1), (3, 500), (224, 224), (640, 480)])
def test_a_picture_of_any_shape_gives_its_middle(size):
    [pixels] = decode([file_of(Image.new("RGB", size, (10, 20, 30)))])
    assert (pixels == (10, 20, 30)).all()


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((8000, 8000), "it has 8,000 x 8,000 pixels; a picture may have 50,000,000 pixels; send a smaller one"),
        ((12000, 12000), "a picture may have 50,000,000 pixels"),
        ((2**31 - 1, 2**31 - 1), "it has more pixels than Pillow opens; a picture may have 50,000,000 pixels"),
    ],
)
def test_pixels_are_counted_before_there_are_any(size, words):
    with pytest.raises(InvalidRequest, match=f"^image 1 of 1: .*{words}"):
        decode([header(*size)])


def test_a_picture_of_a_few_bytes_that_is_enormous_is_not_decoded():
    file = file_of(Image.new("L", (8000, 7000)), compress_level=1)
    assert len(file) < 300_000
    with pytest.raises(InvalidRequest, match="it has 8,000 x 7,000 pixels"):
        decode([file])
    small = module("decode").Decode(pixels_max=99)
    assert small([file_of(Image.new("L", (33, 3)))]).shape == (1, 224, 224, 3)
    with pytest.raises(InvalidRequest, match="it has 10 x 10 pixels; a picture may have 99 pixels"):
        small([file_of(Image.new("L", (10, 10)))])


def test_pictures_are_counted_before_any_is_decoded():
    assert decode([file_of(Image.new("L", (1, 1)))] * 256).shape == (256, 224, 224, 3)
    with pytest.raises(
        InvalidRequest, match="^1,000,000 images came, and a call may have 256; send them in several calls"
    ):
        decode([b""] * 1_000_000)


def test_an_error_says_which_picture_it_is_and_what_came():
    good = file_of(Image.fromarray(COLOURS))
    for bad, words in [
        (b"", "no bytes came, which"),
        (
            b"hello",
            r"5 bytes that begin with b'hello' came, which cannot be read as a JPEG or PNG; send the file as it is",
        ),
        (file_of(Image.fromarray(COLOURS), "GIF"), "begin with b'GIF"),
        (good[:3000], "3000 bytes that begin like a PNG are broken or end too early .* send the whole file"),
    ]:
        with pytest.raises(InvalidRequest, match=f"^image 3 of 4: .*{words}"):
            decode([good, good, bad, b""])
