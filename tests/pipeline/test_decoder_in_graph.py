"""The image decoder of onnxruntime-extensions: bytes that end or hang its process are an error of one call, by `isolate`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from PIL import Image

import graphpipe
from graphpipe.errors import DeadlineExceeded, ModelFailed
from tests.isolation.conftest import eventually, held, is_alive
from tests.isolation.conftest import nothing_left as nothing_left_fixture

extensions = pytest.importorskip("onnxruntime_extensions")

# Each of its calls may end a process, or take until the deadline.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

nothing_left = nothing_left_fixture
OPERATORS = extensions.get_library_path()
GROWTH_BYTES_MAX = 64 << 20

DECODER = """
<ir_version: 8, opset_import: ["" : 17, "com.microsoft.extensions" : 1]>
decoder (uint8[size] image) => (uint8[height, width, 3] pixels)
{
  pixels = com.microsoft.extensions.DecodeImage <color_space = "rgb"> (image)
}
"""

PIPELINE = f"""
name = "pictures"

[[stages]]
source = "decoder.onnx"
custom_ops = ["{OPERATORS}"]
isolate = 1
isolate_timeout_s = 2

[[stages]]
source = "bright.py:bright"
"""

BRIGHT = '''"""How bright a picture is."""


def bright(pixels):
    return {"light": pixels.mean(axis=(0, 1))}
'''


def picture(kind, **options):
    file = io.BytesIO()
    grain = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(grain).save(file, kind, **options)
    return file.getvalue()


JPEG = picture("JPEG")
ENDS = {
    "letters": b"hello world!",
    "WebP": picture("WEBP"),
    "GIF": picture("GIF"),
    "BMP": picture("BMP"),
    "a JPEG's beginning and nonsense": b"\xff\xd8\xff\xe0" + b"nonsense" * 20,
}
HANGS = {
    "a JPEG without its last two bytes": JPEG[:-2],
    "half a JPEG": JPEG[: len(JPEG) // 2],
}
REFUSED = {"half a PNG": picture("PNG")[:900], "three bytes": JPEG[:3], "no bytes": b""}
# What a caller is told of each.
TOLD = [
    *((content, ModelFailed, "ended with status 1") for content in ENDS.values()),
    *((content, DeadlineExceeded, "gave no answer in 2 s") for content in HANGS.values()),
    *((content, ModelFailed, "failed") for content in REFUSED.values()),
]


def tensor(content):
    return {"image": np.frombuffer(content, np.uint8)}


@pytest.fixture
def folder(tmp_path):
    onnx.save(onnx.parser.parse_model(DECODER), tmp_path / "decoder.onnx")
    (tmp_path / "pipeline.toml").write_text(PIPELINE)
    (tmp_path / "bright.py").write_text(BRIGHT)
    return tmp_path


def children_of(pid):
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        found.update(map(int, (task / "children").read_text().split()))
    return {child for child in found if is_alive(child)}


def resident_bytes(pid):
    [line] = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def test_bytes_that_end_or_hang_a_process_are_an_error_and_the_next_call_is_answered(folder, nothing_left):
    with graphpipe.load(folder / "decoder.onnx", custom_ops=(OPERATORS,), isolate=1, isolate_timeout_s=2) as model:
        expected = model.infer(tensor(JPEG))["pixels"]
        assert expected.shape == (60, 80, 3)
        before = held()
        for content, kind, words in TOLD:
            with pytest.raises(kind, match=words):
                model.infer(tensor(content))
            # With it the process that ended is there again.
            assert np.array_equal(model.infer(tensor(JPEG))["pixels"], expected)
        eventually(lambda: len(held()["children"]) == len(before["children"]), "a process was left")
        eventually(lambda: held()["segments"] <= before["segments"], "memory was left")


def test_as_a_stage_on_a_server_it_takes_nobody_along(folder, serve):
    server = serve("--model", folder / "pipeline.toml", tracebacks=True)
    pid = server.process.pid
    with graphpipe.Client(server.url, timeout=60) as client:
        expected = client.infer(tensor(JPEG))["light"]
        before, processes = resident_bytes(pid), len(children_of(pid))
        for content, kind, words in TOLD:
            with pytest.raises(graphpipe.ServiceError) as raised:
                client.infer(tensor(content))
            assert type(raised.value) is kind, (raised.value, words)
            assert np.array_equal(client.infer(tensor(JPEG))["light"], expected)
        eventually(lambda: len(children_of(pid)) == processes, "a process was left")
        assert resident_bytes(pid) - before < GROWTH_BYTES_MAX
        last = children_of(pid)
    server.stop()
    eventually(lambda: not any(map(is_alive, last)), "a process outlived its server")
