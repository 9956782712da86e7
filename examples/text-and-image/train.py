"""Train both towers and their head for a little while, and write a folder that is served: pipeline.toml with all it names.

    python examples/text-and-image/train.py FOLDER

What the networks learn from comes through the first two stages of that very pipeline. Needs torch, onnx and Pillow.
"""

from __future__ import annotations

import argparse
import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from decoder import SIDE, decode
from pairs import Pair, Pairs, jpeg
from torch import Tensor, nn
from torch.utils.data import DataLoader
from towers import WIDTH, Head, ImageTower, TextTower
from wordpiece import Tokenizer

import graphpipe

__all__ = ["Networks", "export", "loader", "networks", "train"]

HERE = Path(__file__).parent
SERVED = ("pipeline.toml", "wordpiece.py", "vocab.txt", "decoder.py")
ROWS = 32


class Batch(NamedTuple):
    """What the networks take, and what they should say."""

    ids: Tensor
    mask: Tensor
    pixels: Tensor
    is_true: Tensor


class Networks(nn.Module):
    """The three that are trained together, each of which is served as a stage."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.text, self.image, self.head = TextTower(words), ImageTower(), Head()

    def forward(self, ids: Tensor, mask: Tensor, pixels: Tensor) -> Tensor:
        """The probability, for each row, that its text is true of its picture."""
        probability: Tensor = self.head(self.text(ids, mask), self.image(pixels))
        return probability


def networks() -> Networks:
    """With random weights, the same ones every time."""
    torch.manual_seed(0)
    return Networks(len(Tokenizer().numbers))


def loader(pairs: Any) -> DataLoader[Any]:
    """Batches of pairs. What makes tensors of texts and files is a pipeline of the two stages that are served."""
    stages = graphpipe.Pipeline([Tokenizer, decode], outputs=["ids", "mask", "pixels"], name="processing")

    def collate(rows: list[Pair]) -> Batch:
        made = stages.infer({"text": [row.text for row in rows], "image": [row.image for row in rows]})
        tensors = {name: torch.from_numpy(array) for name, array in made.items()}
        return Batch(**tensors, is_true=torch.tensor([float(row.is_true) for row in rows]))

    return DataLoader(pairs, batch_size=ROWS, collate_fn=collate)


def train(model: Networks, batches: DataLoader[Any]) -> Iterator[float]:
    """One step for each batch; gives the loss before it. The model is ready to be asked at the end."""
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for batch in batches:
        loss = nn.functional.binary_cross_entropy(model(batch.ids, batch.mask, batch.pixels), batch.is_true)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        yield loss.item()
    model.eval()


def export(model: Networks, folder: Path, *, dynamo: bool = False) -> None:
    """Write the networks as ONNX, for any number of rows and any length, and beside them all else that is served.

    PyTorch has two exporters: the older one takes a second, the newer one (``dynamo``) half a minute, and onnxscript.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokens, vector = torch.ones((2, 8), dtype=torch.int64), torch.zeros((2, WIDTH))
    picture = torch.zeros((2, SIDE, SIDE, 3), dtype=torch.uint8)
    _export(model.text, folder / "text.onnx", {"ids": tokens, "mask": tokens.clone()}, "text_vector", dynamo)
    _export(model.image, folder / "image.onnx", {"pixels": picture}, "image_vector", dynamo)
    both = {"text_vector": vector, "image_vector": vector.clone()}
    _export(model.head, folder / "head.onnx", both, "probability", dynamo)
    for name in SERVED:
        shutil.copy(HERE / name, folder)


def _export(network: nn.Module, path: Path, example: dict[str, Tensor], output: str, dynamo: bool) -> None:
    axes = {name: {0: "n", 1: "length"} if name in ("ids", "mask") else {0: "n"} for name in example}
    said: dict[str, Any] = {"input_names": [*example], "dynamic_axes": {**axes, output: {0: "n"}}, "opset_version": 17}
    if dynamo:
        sizes = {"n": torch.export.Dim("n"), "length": torch.export.Dim("length")}
        shapes = {name: {place: sizes[axis] for place, axis in own.items()} for name, own in axes.items()}
        said = {"dynamic_shapes": shapes, "external_data": False, "verbose": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each exporter of what it would rather be called with
        torch.onnx.export(
            network.eval(), tuple(example.values()), str(path), output_names=[output], dynamo=dynamo, **said
        )


def main() -> None:
    """Read the command line, train, write the folder and two pictures to ask about."""
    parser = argparse.ArgumentParser(description="Train networks for texts and pictures, to be served.")
    parser.add_argument("folder", type=Path, help="where it is written to")
    parser.add_argument("--steps", type=int, default=40, help=f"batches of {ROWS} pairs to learn from; 40 if not said")
    parser.add_argument("--dynamo", action="store_true", help="export with the newer of PyTorch's exporters")
    options = parser.parse_args()
    torch.set_num_threads(1)  # for networks as small as these, more is slower
    model = networks()
    losses = list(train(model, loader(Pairs(ROWS * options.steps))))
    export(model, options.folder, dynamo=options.dynamo)
    for colour, shape in (("red", "circle"), ("blue", "square")):
        (options.folder / f"{colour}-{shape}.jpg").write_bytes(jpeg(colour, shape, random.Random(1)))
    last = sum(losses[-5:]) / len(losses[-5:])
    print(f"loss {losses[0]:.2f} at first, {last:.2f} at last")
    print(f"serve it: graphpipe-serve --model {options.folder} --warmup 0")


if __name__ == "__main__":
    main()
