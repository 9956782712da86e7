"""The networks: a tower for texts, a tower for pictures, and a head that says whether the two belong together.

Small ones, of the two kinds that everybody knows: the first is made as BERT is, the second as ResNet is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Head", "ImageTower", "TextTower"]

WIDTH = 32
LENGTH_MAX = 64


class TextTower(nn.Module):
    """A BERT of two layers: ``ids`` and ``mask`` int64 [n, length] to ``text_vector`` float32 [n, 32]."""

    def __init__(self, words: int, layers: int = 2) -> None:
        super().__init__()
        self.words = nn.Embedding(words, WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH_MAX, WIDTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.layers = nn.ModuleList([Layer() for _ in range(layers)])

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The state of each text's first token, which is [CLS]."""
        states = self.norm(self.words(ids) + self.places[: ids.shape[1]])
        # What is there to fill a row up has no weight: nothing is added to the others.
        ignored = (1.0 - mask.to(states.dtype))[:, None, None, :] * -1e4
        for layer in self.layers:
            states = layer(states, ignored)
        return torch.tanh(states[:, 0])


class Layer(nn.Module):
    """Every token looks at all tokens of its text, then at itself."""

    def __init__(self, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.looks = nn.Linear(WIDTH, 3 * WIDTH)
        self.joins = nn.Linear(WIDTH, WIDTH)
        self.first = nn.LayerNorm(WIDTH)
        self.thinks = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
        self.second = nn.LayerNorm(WIDTH)

    def forward(self, states: Tensor, ignored: Tensor) -> Tensor:
        """States [n, length, 32] to states; ``ignored`` is added to what the tokens mean to one another."""
        asks, has, says = (self._by_head(each) for each in self.looks(states).chunk(3, dim=-1))
        weights = torch.softmax(asks @ has.transpose(-1, -2) / (WIDTH // self.heads) ** 0.5 + ignored, dim=-1)
        seen = torch.cat((weights @ says).unbind(1), dim=-1)
        states = self.first(states + self.joins(seen))
        thought: Tensor = self.second(states + self.thinks(states))
        return thought

    def _by_head(self, states: Tensor) -> Tensor:
        """[n, heads, length, 32 / heads]. A reshaping would be exported as one that does not take no rows."""
        return torch.stack(states.chunk(self.heads, dim=-1), dim=1)


class ImageTower(nn.Module):
    """A ResNet of three blocks: ``pixels`` uint8 [n, 64, 64, 3] to ``image_vector`` float32 [n, 32]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2), Block(16, WIDTH, 2))

    def forward(self, pixels: Tensor) -> Tensor:
        """The mean over all places of a picture."""
        planes = pixels.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0
        means: Tensor = self.blocks(self.stem(planes)).mean(dim=(2, 3))
        return means


class Block(nn.Module):
    """Two convolutions, and a way around them."""

    def __init__(self, takes: int, gives: int, stride: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            nn.Conv2d(takes, gives, 3, stride, padding=1, bias=False), nn.BatchNorm2d(gives), nn.ReLU(),
            nn.Conv2d(gives, gives, 3, padding=1, bias=False), nn.BatchNorm2d(gives),
        )  # fmt: skip
        self.around = nn.Sequential(nn.Conv2d(takes, gives, 1, stride, bias=False), nn.BatchNorm2d(gives))

    def forward(self, planes: Tensor) -> Tensor:
        """Planes [n, takes, h, w] to [n, gives, h / stride, w / stride]."""
        return torch.relu(self.way(planes) + self.around(planes))


class Head(nn.Module):
    """``text_vector`` and ``image_vector`` float32 [n, 32] to ``probability`` float32 [n]: that they belong together."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = nn.Sequential(nn.Linear(3 * WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))

    def forward(self, text_vector: Tensor, image_vector: Tensor) -> Tensor:
        """By both, and by what they have in common."""
        both = torch.cat([text_vector, image_vector, text_vector * image_vector], dim=1)
        return torch.sigmoid(self.judge(both)).squeeze(1)
