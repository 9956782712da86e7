"""What a picture becomes: held against what torchvision does, written out here with Pillow and numpy."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from graphpipe.cli.inputs import values_of
from graphpipe.cli.presets import PRESETS, ImageForm
from graphpipe.signature import TensorSpec

Image = pytest.importorskip("PIL.Image")

F4 = np.dtype("f4")
IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))
CLIP = (np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711]))


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[..., 0] = 255  # red
    Image.fromarray(pixels).save(path)
    return str(path)


def landscape(width, height):
    """A picture with something in every corner."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(7).integers(0, 60, (height, width))
    pixels = np.stack([x * 180 // width + noise, y * 180 // height + noise, (x + y) % 190 + noise], 2)
    return Image.fromarray(pixels.astype(np.uint8))


def seen(file, spec, **flags):
    ((_, pixels),) = values_of([str(file)], [spec], ImageForm.of(**flags))
    return pixels


def torchvision(image, resize, crop, how):
    """Resize(resize) and CenterCrop(crop), as torchvision.transforms has them for pictures of Pillow."""
    w, h = image.size
    short, long = (w, h) if w <= h else (h, w)
    new_long = int(resize * long / short)
    image = image.resize((resize, new_long) if w <= h else (new_long, resize), how)
    left, top = round((image.width - crop) / 2.0), round((image.height - crop) / 2.0)
    return np.asarray(image.crop((left, top, left + crop, top + crop)))


@pytest.mark.parametrize("size", [(320, 240), (241, 517), (100, 99), (224, 224), (1031, 333)])
@pytest.mark.parametrize(("preset", "crop", "resize"), [
    ("imagenet", 224, 256), ("imagenet", 299, 342), ("imagenet-caffe", 224, 256), ("clip", 224, 224), ("clip", 336, 336),
    ("zero-one", 64, 64), ("minus-one-one", 96, 96),
])  # fmt: skip
def test_a_preset_is_what_torchvision_and_the_original_trainers_do(tmp_path, size, preset, crop, resize):
    image = landscape(*size)
    image.save(tmp_path / "photo.png")
    how = Image.Resampling.BICUBIC if preset == "clip" else Image.Resampling.BILINEAR
    pixels = torchvision(image, resize, crop, how).astype(np.float64)
    wanted = {
        "imagenet": lambda: (pixels / 255 - IMAGENET[0]) / IMAGENET[1],
        "clip": lambda: (pixels / 255 - CLIP[0]) / CLIP[1],
        "imagenet-caffe": lambda: pixels[..., ::-1] - [103.939, 116.779, 123.68],
        "zero-one": lambda: pixels / 255,
        "minus-one-one": lambda: pixels / 127.5 - 1,
    }[preset]().transpose(2, 0, 1)[None]
    got = seen(tmp_path / "photo.png", TensorSpec("x", F4, ("n", 3, crop, crop)), preset=preset)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("dtype", "shape", "wanted"),
    [
        (None, None, (4, 6, 3)),
        ("u1", (None, None, None, 3), (1, 4, 6, 3)),
        ("f4", ("n", 3, 8, 12), (1, 3, 8, 12)),
        ("f4", ("n", 8, 12, 3), (1, 8, 12, 3)),
        ("f4", ("batch", "num_channels", "height", "width"), (1, 3, 4, 6)),
        ("f4", ("n", 3, 8, "w"), (1, 3, 8, 12)),
        ("f2", (1, 1, 2, 2), (1, 1, 2, 2)),
        ("f4", ("n", 28, 28), (1, 28, 28)),
        ("f4", (3, 5, 5), (3, 5, 5)),
        ("u1", (5, 5, 3), (5, 5, 3)),
        ("f4", (9, 9), (9, 9)),
    ],
)
def test_an_image_is_laid_out_as_the_model_takes_it(photo, dtype, shape, wanted):
    pixels = seen(photo, TensorSpec("x", dtype and np.dtype(dtype), shape))
    assert pixels.shape == wanted
    assert pixels.dtype == (dtype or "u1")
    if dtype and dtype.startswith("f"):
        assert 0 <= pixels.min() <= pixels.max() <= 1
    if wanted == (1, 3, 8, 12):
        np.testing.assert_array_equal(pixels.mean(axis=(0, 2, 3)), [1, 0, 0])


def test_the_aspect_is_kept_unless_told_otherwise(tmp_path):
    """Half black, half white, twice as wide as high."""
    pixels = np.zeros((50, 100, 3), np.uint8)
    pixels[:, 50:] = 255
    pixels[:, 95:, 1:] = 0  # a red edge
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    spec = TensorSpec("x", np.dtype("u1"), (20, 20, 3))
    cropped, padded, stretched = (seen(tmp_path / "wide.png", spec, fit=fit) for fit in ("", "pad", "stretch"))
    assert cropped[:, :9].max() == 0
    assert cropped[:, 11:].min() == 255  # the edge is off
    assert padded[:5].max() == padded[15:].max() == 0
    assert padded[6:14, 11:18].min() == 255
    assert stretched[:, -1, 0].min() == 255
    assert stretched[:, -1, 1].max() < 60  # the edge is there, a little blurred
    np.testing.assert_array_equal(seen(tmp_path / "wide.png", spec, fit="crop"), cropped)


def test_open_sizes_are_the_presets_or_as_asked_or_the_pictures_own(tmp_path):
    landscape(80, 60).save(tmp_path / "photo.png")
    spec = TensorSpec("x", F4, ("n", 3, "h", "w"))
    for flags, size in (
        ({"preset": "imagenet"}, (224, 224)),
        ({"preset": "imagenet", "size": "96"}, (96, 96)),
        ({"preset": "zero-one"}, (60, 80)),
        ({"preset": "zero-one", "size": "32,48"}, (32, 48)),
    ):
        assert seen(tmp_path / "photo.png", spec, **flags).shape == (1, 3, *size)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_that_a_camera_took_sideways_is_upright(tmp_path, orientation):
    upright = np.arange(60, dtype=np.uint8).reshape(4, 5, 3) * 4
    # What the camera wrote down, so that a viewer that follows the tag shows `upright`.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: np.rot90(upright), 7: np.rot90(upright, 2).transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_array_equal(seen(tmp_path / "photo.png", TensorSpec("x", np.dtype("u1"))), upright)


def test_pixels_are_normalised_as_asked(photo):
    spec = TensorSpec("x", F4, (1, 3, 4, 6))
    for flags, wanted in (
        ({"mean": "127.5", "std": "127.5,1,2"}, [1, -127.5, -63.75]),
        ({"mean": "0", "std": "1"}, [255, 0, 0]),
        ({"std": "255"}, [1, 0, 0]),
        ({"mean": "0.5", "std": "0.5", "scale": "1/255"}, [1, -1, -1]),
        ({"mean": "123.675,116.28,103.53", "std": "58.395,57.12,57.375"}, (np.eye(3)[0] - IMAGENET[0]) / IMAGENET[1]),
    ):
        np.testing.assert_allclose(seen(photo, spec, **flags)[0, :, 0, 0], wanted, rtol=1e-5)


MEAN, STD = "0.485,0.456,0.406", "0.229,0.224,0.225"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"mean": MEAN, "std": STD},
            "for pixels of 0 to 1, and here they are 0 to 255; write --image-preset imagenet, or",
        ),
        ({"mean": "0.481,0.458,0.408", "std": "0.269,0.261,0.276"}, "write --image-preset clip"),
        ({"mean": "0.5", "std": "0.5"}, "write --image-preset minus-one-one"),
        ({"mean": "0.1307", "std": "0.3081"}, "write --image-scale 1/255 beside them, or the numbers times 255"),
        ({"mean": "0.5"}, "for pixels of 0 to 1"),
        ({"std": "0.5"}, "for pixels of 0 to 1"),
        ({"mean": "127.5", "scale": "1/255"}, "makes pixels 0 to 1, and 127.5 is for 0 to 255"),
        ({"mean": "127.5"}, "add --image-std 1, or 255"),
        ({"mean": MEAN, "preset": "imagenet"}, f"leave it out, or --image-mean {MEAN}"),
        ({"mean": "x", "std": "1"}, "--image-mean: expected numbers"),
        ({"mean": "nan", "std": "1"}, "--image-mean: expected numbers"),
        ({"std": "1,0,1"}, "divided by 0"),
        ({"scale": "1/0"}, "expected a number like 0.5 or 1/255"),
        ({"size": "224x224"}, "expected one number, or a height and a width like 224,320"),
    ],
)
def test_numbers_that_make_no_sense_beside_the_pixels_are_refused(flags, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ImageForm.of(**flags)


def test_what_does_not_fit_the_model_is_refused(photo, tmp_path):
    with pytest.raises(ValueError, match="--image-preset imagenet has 3 numbers, and the model takes 1 channel$"):
        seen(photo, TensorSpec("x", F4, ("n", 1, 4, 4)), preset="imagenet")
    with pytest.raises(ValueError, match="the model takes uint8, which gets pixels as they are, 0 to 255; leave"):
        seen(photo, TensorSpec("x", np.dtype("u1"), ("n", 3, 4, 4)), preset="imagenet")
    with pytest.raises(ValueError, match="takes 1 dimension, which no image has"):
        seen(photo, TensorSpec("x", F4, ("n",)))
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    damaged = bytearray((tmp_path / "deep.png").read_bytes())
    damaged[45] ^= 255
    (tmp_path / "damaged.png").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"damaged\.png: "):
        seen(tmp_path / "damaged.png", TensorSpec("x", F4, ("n", 1, 4, 4)))
    with pytest.raises(ValueError, match="not 0 to 255, but of mode I;16; save it with 8 bits"):
        seen(tmp_path / "deep.png", TensorSpec("x", F4, ("n", 1, 4, 4)))


def test_a_range_that_nobody_said_is_said(photo, capsys):
    for spec, flags in (
        (TensorSpec("x", F4, (1, 3, 4, 4)), {"preset": "zero-one"}),
        (TensorSpec("x", np.dtype("u1"), (1, 3, 4, 4)), {}),
        (TensorSpec("x"), {}),
    ):
        seen(photo, spec, **flags)
    assert capsys.readouterr().err == ""
    guessed = seen(photo, TensorSpec("x", F4, (1, 3, 4, 4)))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pixels are 0 to 1, resized and cut to its centre from 6x4 to 4x4; if the model learned from others" in said
    assert "--image-preset imagenet" in said
    np.testing.assert_array_equal(guessed, seen(photo, TensorSpec("x", F4, (1, 3, 4, 4)), preset="zero-one"))


def test_the_commands_take_it_all(graphpipe, folder, photo):
    (folder / "look.py").write_text(
        "from typing import Annotated\nimport numpy as np\nfrom numpy.typing import NDArray\n"
        'def corner(x: Annotated[NDArray[np.float32], "n", 3, 2, 2]):\n    return x[:, :, 0, 0]\n'
    )
    status, out, err = graphpipe("run", "look:corner", "-i", photo, "--image-preset", "imagenet-caffe", "--json")
    assert (status, err) == (0, "")
    assert "[[-103.93" in out
    status, out, err = graphpipe("run", "look:corner", "-i", photo, "--image-mean", MEAN, "--image-std", STD)
    assert (status, out) == (1, "")
    assert "write --image-preset imagenet" in err
    status, _, err = graphpipe("run", "look:corner", "-i", photo, "--image-preset", "imagnet")
    assert status == 2
    assert all(name in err for name in PRESETS)


@pytest.mark.parametrize("form", ["photo.png", "bytes:photo.png", "image=bytes:photo.png"])
def test_a_model_of_strings_gets_a_files_bytes_as_they_are(photo, tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    Path("photo.png").write_bytes(b"\x89PNG what it holds")
    spec = TensorSpec("image", np.dtype(object), ("n",))
    ((name, value),) = values_of([form], [spec], ImageForm.of())
    assert (name, value.shape, value[0]) == ("image", (1,), b"\x89PNG what it holds")
