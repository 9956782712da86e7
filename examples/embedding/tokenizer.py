"""Texts to the numbers that an encoder of the BERT family takes: the stage in Python.

The same class makes the inputs that the encoder learns from and, as the first stage of a pipeline, those that it is asked
with. Needs tokenizers.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import BertWordPieceTokenizer

import graphpipe

LENGTH_MAX = 256
VOCAB = Path(__file__).with_name("vocab.txt")


@graphpipe.model(
    inputs={"text": "string[n]"},
    outputs={"input_ids": "int64[n, length]", "attention_mask": "int64[n, length]"},
)
class Tokenizer:
    """Tokens of the words in ``vocab.txt``, which lies beside this file if nothing else is said."""

    def __init__(self, vocab: Path = VOCAB) -> None:
        self._tokenizer = BertWordPieceTokenizer(str(vocab), lowercase=True)
        self._tokenizer.enable_truncation(LENGTH_MAX)
        self._tokenizer.enable_padding()

    def __call__(self, text: Iterable[bytes | str]) -> dict[str, NDArray[Any]]:
        """``input_ids`` and ``attention_mask``, int64 [n, length], of n texts; the shorter ones are filled up with zeros.

        Texts are str where a model learns, and UTF-8 as it came where one is served.
        """
        texts = [each.decode() if isinstance(each, bytes) else each for each in text]
        found = self._tokenizer.encode_batch(texts)
        length = len(found[0].ids) if found else 0
        return {
            "input_ids": np.array([each.ids for each in found], np.int64).reshape(len(texts), length),
            "attention_mask": np.array([each.attention_mask for each in found], np.int64).reshape(len(texts), length),
        }
