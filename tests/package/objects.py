"""Things of Python that somebody wants to pack."""

from __future__ import annotations


def add(x, y):
    """A function."""
    return {"out": x + y}


class Adder:
    """A class whose instances may have something in them."""

    def __call__(self, x, y):
        """The sum."""
        return {"out": x + y}

    def add(self, x, y):
        """The sum too."""
        return {"out": x + y}
