"""A model that somebody else goes on with."""

from __future__ import annotations

from typing import Any

from graphpipe.backends.model import Model

__all__ = ["Lent"]


class Lent:
    """A model that is not closed by whoever serves it: its owner does that."""

    def __init__(self, model: Model) -> None:
        self.lent = model
        # For whoever asks what the model is made of.
        self.function = getattr(model, "function", None) or model

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lent, name)

    def close(self) -> None:
        """Nothing: whoever lent it closes it."""
