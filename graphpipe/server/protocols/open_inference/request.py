"""A request's JSON: which tensors come, how and where, and what is asked for. Checked before a tensor is touched.

Tensors come in JSON (``data``), or as bytes behind it (``binary_data_size``), one after another in the order of the inputs;
a request may have both kinds. Numbers in bytes become views of the body. They start wherever the JSON happens to end, at any
address, which is every model's to take.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import InvalidRequest, MalformedMessage, TooLarge, Unsupported
from graphpipe.server.protocols.lists import array_of, flattened
from graphpipe.server.protocols.open_inference.datatypes import dtype_of
from graphpipe.server.protocols.open_inference.texts import LENGTH_BYTES, separated
from graphpipe.server.protocols.room import Room
from graphpipe.wire.dtypes import BYTES_MAX, ENTRIES_MAX, NAME_BYTES_MAX, NDIM_MAX
from graphpipe.words import quoted

__all__ = ["Asked", "Tensor", "asked_in"]

Array = NDArray[Any]

_CONFIG_CHARACTERS_MAX = 1 << 20
_BOOL = np.dtype(bool)
_SHARED_MEMORY = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")


class Tensor(NamedTuple):
    """An input: its elements are in ``data``, or in ``length`` bytes at ``start`` of what follows the JSON."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    data: list[Any] | None
    start: int
    length: int

    @property
    def is_view(self) -> bool:
        """Whether its array is a view of the body."""
        return self.data is None and self.dtype.kind not in "Ob"

    def array(self, behind: memoryview | bytes, room: Room) -> Array:
        """Its elements, of which those in bytes lie in ``behind``; what is no view of them takes ``room``.

        Raises InvalidRequest where they do not fit its type, Overloaded.
        """
        what = f"input {quoted(self.name)}"
        if self.data is not None:
            elements, nested = flattened(self.data, what)
            number = math.prod(self.shape)
            if len(elements) != number:
                raise InvalidRequest(
                    f"{what} has shape {list(self.shape)}, which takes {number} elements; {len(elements)} came"
                    + (f", in lists of shape {list(nested)}" if len(nested) > 1 else "")
                )
            return array_of(elements, self.dtype, what, room).reshape(self.shape)
        if self.dtype.kind == "O":
            data = behind[self.start : self.start + self.length]
            return separated(data, math.prod(self.shape), what, room).reshape(self.shape)
        if self.dtype.kind == "b":
            octets = np.ndarray(self.shape, np.uint8, behind, self.start)
            # True is any byte but 0 to those who made it, and 1 to numpy.
            return octets != 0 if octets.size and octets.max() > 1 else octets.view(_BOOL)
        return np.ndarray(self.shape, self.dtype, behind, self.start)


class Asked(NamedTuple):
    """What a request's JSON says, behind which ``behind`` bytes follow. ``binary`` says of an output whether it is to come
    as bytes, ``binary_others`` of one that is not named there.
    """

    behind: int
    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    binary: Mapping[str, bool]
    binary_others: bool
    config: str
    id: str | None

    @property
    def is_plain(self) -> bool:
        """Whether all inputs are views of the body, wherever that is: what follows from the JSON holds for the next body."""
        return all(tensor.is_view for tensor in self.tensors)

    def is_as_bytes(self, output: str) -> bool:
        """Whether an output is to come as bytes."""
        return self.binary.get(output, self.binary_others)

    def arrays(self, behind: memoryview | bytes, room: Room) -> list[Array]:
        """The inputs. Raises InvalidRequest, Overloaded."""
        return [tensor.array(behind, room) for tensor in self.tensors]


def asked_in(document: object, behind: int, strings_max: int) -> Asked:
    """What a request's document says, behind which so many bytes follow.

    Raises MalformedMessage where something has not the form that the protocol gives it, InvalidRequest where it does not
    add up, TooLarge, and Unsupported (501) for what of the protocol is not done here.
    """
    request = _object(document, "the request")
    called = request.get("id")
    if called is not None and type(called) is not str:
        raise MalformedMessage("id is a string")
    if called is not None and len(called) > NAME_BYTES_MAX:
        raise TooLarge(f"id has {len(called):,} characters, and at most {NAME_BYTES_MAX:,} are taken")
    parameters = _object(request.get("parameters") or {}, "parameters")
    config = parameters.get("config", "")
    if type(config) is not str:
        raise InvalidRequest("parameters: config is a string, which the model gets as it is")
    if len(config) > _CONFIG_CHARACTERS_MAX:
        raise TooLarge(f"config has {len(config):,} characters, and at most {_CONFIG_CHARACTERS_MAX:,} are taken")
    tensors = _tensors(request.get("inputs"), behind, strings_max)
    outputs, binary = _outputs(request.get("outputs"))
    others = _flag(parameters, "binary_data_output", "parameters")
    return Asked(
        behind, tuple([tensor.name for tensor in tensors]), tensors, outputs, binary, others or False, config, called
    )


def _tensors(inputs: object, behind: int, strings_max: int) -> tuple[Tensor, ...]:
    tensors: list[Tensor] = []
    at = strings = 0
    for i, item in enumerate(_items(inputs, "inputs")):
        tensor = _tensor(_object(item, f"inputs[{i}]"), f"inputs[{i}]", at, behind - at)
        at += tensor.length
        if tensor.dtype.kind == "O":
            strings += math.prod(tensor.shape)
            if strings > strings_max:
                raise TooLarge(f"the request has {strings} strings or more; at most {strings_max} are taken")
        tensors.append(tensor)
    if at != behind:
        raise InvalidRequest(f"{behind} bytes follow the JSON, and its inputs take {at} (binary_data_size)")
    return tuple(tensors)


def _tensor(item: Mapping[str, Any], place: str, at: int, left: int) -> Tensor:
    name = _name(item, place)
    what = f"input {quoted(name)}"
    datatype = item.get("datatype")
    if type(datatype) is not str:
        raise MalformedMessage(f"{what} has no datatype: a string like 'FP32'")
    dtype = dtype_of(datatype, what)
    shape = _shape(item.get("shape"), dtype, what)
    parameters = _object(item.get("parameters") or {}, f"parameters of {what}")
    _refuse_shared_memory(parameters, what)
    size, data = parameters.get("binary_data_size"), item.get("data")
    if size is None:
        if type(data) is not list:
            raise MalformedMessage(f"{what} has no data: a list, or bytes behind the JSON (binary_data_size)")
        return Tensor(name, dtype, shape, data, at, 0)
    if data is not None:
        raise InvalidRequest(f"{what} comes twice: in data, and as bytes (binary_data_size)")
    if type(size) is not int or size < 0:
        raise MalformedMessage(f"binary_data_size of {what} is a number of bytes")
    if size > left:
        raise InvalidRequest(
            f"{what} takes {size} bytes behind the JSON, where only {left} are left; "
            "Inference-Header-Content-Length says where the JSON ends"
        )
    if dtype.kind != "O" and size != math.prod(shape) * dtype.itemsize:
        raise InvalidRequest(
            f"{what} is {datatype} {list(shape)}, which takes {math.prod(shape) * dtype.itemsize} bytes; "
            f"binary_data_size is {size}"
        )
    return Tensor(name, dtype, shape, None, at, size)


def _shape(shape: object, dtype: np.dtype[Any], what: str) -> tuple[int, ...]:
    if type(shape) is not list or any(type(dim) is not int for dim in shape):
        raise MalformedMessage(f"{what} has no shape: a list of whole numbers")
    if len(shape) > NDIM_MAX:
        raise InvalidRequest(f"{what} has {len(shape)} dimensions; at most {NDIM_MAX} are taken")
    if any(dim < 0 for dim in shape):
        raise InvalidRequest(f"{what} has shape {shape}; no dimension of a tensor is negative")
    item_size = LENGTH_BYTES if dtype.kind == "O" else dtype.itemsize
    # numpy holds no array with a shape whose product is too large, though one dimension were 0.
    if math.prod(dim or 1 for dim in shape) * item_size >= BYTES_MAX:
        raise InvalidRequest(f"{what} has shape {shape}, which is 2 GiB or more; send fewer rows at once")
    return tuple(shape)


def _outputs(outputs: object) -> tuple[tuple[str, ...], dict[str, bool]]:
    names: dict[str, None] = {}
    binary: dict[str, bool] = {}
    for i, item in enumerate(_items(outputs, "outputs") if outputs is not None else ()):
        output = _object(item, f"outputs[{i}]")
        name = _name(output, f"outputs[{i}]")
        if name in names:
            raise InvalidRequest(f"output {quoted(name)} is asked for twice; ask for each once")
        names[name] = None
        what = f"output {quoted(name)}"
        parameters = _object(output.get("parameters") or {}, f"parameters of {what}")
        _refuse_shared_memory(parameters, what)
        if parameters.get("classification"):
            raise Unsupported(f"{what}: classes are not made of scores here (classification); ask for the scores", 501)
        flag = _flag(parameters, "binary_data", f"parameters of {what}")
        if flag is not None:
            binary[name] = flag
    return tuple(names), binary


def _items(value: object, what: str) -> list[Any]:
    if type(value) is not list:
        raise MalformedMessage(f"the request has no {what}: a list")
    if len(value) > ENTRIES_MAX:
        raise TooLarge(f"{len(value)} {what} came, and at most {ENTRIES_MAX} are taken")
    return value


def _object(value: object, what: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise MalformedMessage(f"{what} is no JSON object")
    return value


def _name(item: Mapping[str, Any], place: str) -> str:
    name = item.get("name")
    if type(name) is not str or not name:
        raise MalformedMessage(f"{place} has no name")
    if len(name) > NAME_BYTES_MAX:
        raise TooLarge(f"the name of {place} has {len(name):,} characters")
    return name


def _flag(parameters: Mapping[str, Any], key: str, what: str) -> bool | None:
    flag = parameters.get(key)
    if flag is not None and type(flag) is not bool:
        raise MalformedMessage(f"{what}: {key} is true or false")
    return flag


def _refuse_shared_memory(parameters: Mapping[str, Any], what: str) -> None:
    if any(key in parameters for key in _SHARED_MEMORY):
        raise Unsupported(f"{what} is in shared memory, which this server does not have; send its bytes", 501)
