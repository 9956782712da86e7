"""Python functions: ``module:function``, ``module:Class``, ``path/to/file.py:function``, or a function handed over as
it is.

    def scale(x, factor):                                            # named by its parameters, any types and shapes
        return x * factor

    @graphpipe.model(inputs={"x": "float32[n, 4]"}, outputs={"mean": "float32[n]"})      # or by a decorator
    def mean(x):
        return x.mean(axis=1)

    def mean(x: Annotated[NDArray[np.float32], "n", 4]) -> Annotated[NDArray[np.float32], "n"]: ...   # or by
    annotations

A function gets arrays by the names of its parameters, and gives an array, a tuple of several, or a dict of them; a list
is one array, with a row for each element. A parameter with a default is an input only if its annotation says so.
``config`` and ``timeout_s``, where a function has them, are what the caller sent, and the seconds that it will still
wait. A PyTorch module is a function too, and so is scikit-learn's ``model.predict``.
"""

from __future__ import annotations

from graphpipe.backends.backend import Backend
from graphpipe.backends.find import adopted
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.python.finding import found, matches
from graphpipe.backends.python.hints import adopt

__all__ = ["BACKEND"]


def _open(source: str, options: LoadOptions) -> Model:
    return adopted(found(source), source, options)


BACKEND = Backend("python", matches, _open, adopt, uses=lambda source: ("inputs", "outputs"), named=found)
