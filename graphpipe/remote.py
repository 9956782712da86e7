"""The original client's calls: one line from an array to an answer.

    graphpipe.remote.execute("http://127.0.0.1:9000", array)

Each takes a server's URL. Connections are kept and used again between calls, by threads too. Errors are those of
graphpipe.errors: a ServiceError if the server said no, NoAnswer if no answer was understood.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np

from graphpipe.client import Client
from graphpipe.client.calls import Array
from graphpipe.wire import MetadataResponse
from graphpipe.wire.dtypes import DTYPES

__all__ = [
    "execute",
    "execute_multi",
    "get_input_names",
    "get_input_shapes",
    "get_input_types",
    "get_output_names",
    "get_output_shapes",
    "get_output_types",
    "metadata",
]

_CLIENTS_MAX = 64

_clients: dict[str, Client] = {}


@overload
def execute(
    uri: str,
    inp: object,
    input_name: str | None = None,
    output_name: str | None = None,
    *,
    config: str | None = "",
    cast: bool = False,
    timeout: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Array | Any: ...


@overload
def execute(
    uri: str,
    inp: object,
    input_name: str | None = None,
    output_name: list[str] | tuple[str, ...] = ...,
    *,
    config: str | None = "",
    cast: bool = False,
    timeout: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> list[Array]: ...


def execute(
    uri: str,
    inp: object,
    input_name: str | None = None,
    output_name: str | list[str] | tuple[str, ...] | None = None,
    *,
    config: str | None = "",
    cast: bool = False,
    timeout: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Array | list[Array]:
    """Run the model at ``uri`` on one input: an array if it has one output, else a list of them.

    ``output_name`` may be a list of names: the answer is then a list, in their order.
    ``inp`` is an array of any shape that the model takes, lists and numbers, which take the model's element type,
    or a frame, whose columns become one tensor.
    ``timeout`` is in seconds (60 unless given); ``headers`` are sent along.
    """
    call: Any = _client(uri).execute  # whose overloads are those above
    answer: Array | list[Array] = call(
        inp, input_name, output_name, config=config, cast=cast, timeout=timeout, headers=headers
    )
    return answer


def execute_multi(
    uri: str,
    inputs: Sequence[object],
    input_names: Sequence[str | None] | None = None,
    output_names: Sequence[str | None] | None = None,
    config: str | None = None,
    *,
    cast: bool = False,
    timeout: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> list[Array]:
    """Run the model at ``uri`` on several inputs: the outputs in the order asked for, or all of its defaults."""
    return _client(uri).execute_multi(
        inputs, input_names, output_names, config=config, cast=cast, timeout=timeout, headers=headers
    )


def metadata(uri: str) -> MetadataResponse:
    """What the model at ``uri`` takes and gives."""
    return _client(uri).metadata()


def get_input_names(uri: str) -> list[str]:
    """The names of the model's inputs, in order."""
    return [io.name for io in metadata(uri).inputs]


def get_output_names(uri: str) -> list[str]:
    """The names of the model's outputs, in order."""
    return [io.name for io in metadata(uri).outputs]


def get_input_types(uri: str) -> list[np.dtype[Any] | None]:
    """The element types of the model's inputs as they travel: object for strings, None where unknown."""
    return [DTYPES[io.type] for io in metadata(uri).inputs]


def get_output_types(uri: str) -> list[np.dtype[Any] | None]:
    """The element types of the model's outputs as they travel: object for strings, None where unknown."""
    return [DTYPES[io.type] for io in metadata(uri).outputs]


def get_input_shapes(uri: str) -> list[list[int | None]]:
    """The shapes of the model's inputs: None where a dimension varies."""
    return [_shape(io.shape) for io in metadata(uri).inputs]


def get_output_shapes(uri: str) -> list[list[int | None]]:
    """The shapes of the model's outputs: None where a dimension varies."""
    return [_shape(io.shape) for io in metadata(uri).outputs]


def _shape(dims: Sequence[int]) -> list[int | None]:
    return [d if d >= 0 else None for d in dims]


def _client(uri: str) -> Client:
    # No lock: a child must not find it held by a thread of its parent.
    try:
        client = _clients.get(uri)
    except TypeError:  # a list, say: Client has the words for it
        client = None
    if client is None:
        client = _clients.setdefault(uri, Client(uri))
        with contextlib.suppress(KeyError, RuntimeError):  # another thread was quicker
            while len(_clients) > _CLIENTS_MAX:
                # The oldest; calls under way on it finish.
                _clients.pop(next(iter(_clients))).close_idle()
    return client
