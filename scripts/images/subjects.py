"""The images, and one of them with all that it is asked with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scripts.images.containers import MODELS, Container
from scripts.images.engines import Engine
from scripts.images.models import Model

__all__ = ["IMAGES", "Failed", "Image", "Subject"]


class Failed(Exception):
    """An image did not do what it has to; the message says what it did."""


@dataclass(frozen=True)
class Image:
    """One Dockerfile, and what is asked of it beyond what is asked of all."""

    name: str
    models: Sequence[str]
    flags: Sequence[str] = ()  # of the server, besides its model
    tmpfs: bool = False  # whether it needs a place to write to
    kernels: str = ""  # what oneDNN's log has to say when the last model is called
    beside_bytes_max: int = 0  # what it may take beside its base; 0: anything
    refuses_gpu: bool = False
    obeys_threads: bool = False
    computes_in_bfloat16: bool = False
    systemd: bool = False  # whether deploy/systemd is tried with it
    choices: Mapping[str, str] = field(default_factory=dict)  # what a user may say otherwise when he builds it


IMAGES: Final = {
    image.name: image
    for image in (
        Image(
            "onnx",
            ["digits"],
            beside_bytes_max=180_000_000,
            systemd=True,
            choices={
                "REQUIREMENTS": "docker/requirements/server.txt",
                "EXTRAS": "onnx",
                "PACKAGES": "h11",
                "PIP_FLAGS": "--no-binary=multidict",
                "BUILD_PACKAGES": "gcc libc6-dev python3-dev",
                "CFLAGS": "-frecord-gcc-switches -fno-gcse",
            },
        ),
        Image("cpu", ["digits", "channels-first"], tmpfs=True, kernels=r"exec,cpu,convolution,\S+?,", systemd=True),
        Image(
            "openvino",
            ["digits", "int8", "products"],
            tmpfs=True,
            obeys_threads=True,
            computes_in_bfloat16=True,
            systemd=True,
        ),
        Image("torch", ["small"], tmpfs=True, kernels=r"exec,cpu,convolution,\S+?,", systemd=True),
        Image("cuda", ["digits"], refuses_gpu=True),
    )
}


@dataclass
class Subject:
    """An image that is built, and what it is asked with."""

    image: Image
    tag: str
    engine: Engine
    models: Mapping[str, Model]
    tokens: Sequence[bytes]
    version: str
    base: str = ""
    secrets: Mapping[str, Path] = field(default_factory=dict)  # what builds are given, with the tokens in it

    @property
    def folder(self) -> Path:
        return next(iter(self.models.values())).folder

    @property
    def served(self) -> list[str]:
        """The models as flags."""
        return [*(f"--model={MODELS}/{model.file}" for model in self.models.values()), *self.image.flags]

    def must_answer(self, container: Container, url: str) -> None:
        for name, model in self.models.items():
            if not container.answer(model, url, f":/models/{name}" if url.startswith("unix:") else f"/models/{name}"):
                raise Failed(f"other numbers than wanted from {name}")
