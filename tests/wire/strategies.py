"""What hypothesis draws for the wire: tensors of all types, arrays in every memory layout, names, metadata."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphpipe.wire import IOMetadata, MetadataResponse, Type
from graphpipe.wire.dtypes import DTYPES
from tests.wire.official import STRING, Manner, Tensor

NUMERIC = [(Type(i), dtype) for i, dtype in enumerate(DTYPES) if dtype is not None and dtype.kind != "O"]

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
raw_strings = st.one_of(st.binary(max_size=9), st.sampled_from([b"\0", b"a\0", b"\xff\xfe\xfd", b"x" * 300]))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.lists(texts, max_size=4)
manners = st.builds(
    Manner,
    data=st.sampled_from(["byte vector", "numpy", "elements"]),
    nul=st.booleans(),
    shape_by_length=st.booleans(),
    tensors_first=st.booleans(),
    config_last=st.booleans(),
    data_first=st.booleans(),
    empty_vectors=st.booleans(),
    both_data=st.booleans(),
    defaults=st.booleans(),
    gap=st.sampled_from([0, 0, 4, 64]),
)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """A tensor of any type, as the wire has it: any bits are a number, any bytes a string."""
    shape = draw(shapes)
    count = int(np.prod(shape, dtype=np.int64))
    kind, dtype = draw(st.sampled_from([*NUMERIC, (Type.STRING, np.dtype(object))]))
    if kind is Type.STRING:
        return Tensor(STRING, shape, draw(st.lists(raw_strings, min_size=count, max_size=count)))
    length = count * dtype.itemsize
    return Tensor(int(kind), shape, draw(st.randoms(use_true_random=False)).randbytes(length))


def array_of(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The array that a user would hold for this tensor."""
    if isinstance(tensor.data, bytes):
        return np.frombuffer(tensor.data, DTYPES[tensor.type]).reshape(tensor.shape)
    array = np.empty(len(tensor.data), object)
    array[:] = tensor.data
    return array.reshape(tensor.shape)


def tensor_of(array: np.ndarray[Any, Any]) -> Tensor:
    """The tensor that an array in wire form stands for."""
    if array.dtype.kind == "O":
        return Tensor(STRING, array.shape, list(array.ravel()))
    kinds = [kind for kind, dtype in NUMERIC if dtype == array.dtype]
    assert len(kinds) == 1, f"{array.dtype} is no type of the wire"
    return Tensor(int(kinds[0]), array.shape, array.tobytes())


@st.composite
def memory_layouts(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], Tensor]:
    """An array in some layout of memory, with the tensor that has to be sent for it."""
    kind, dtype = draw(st.sampled_from([*NUMERIC, (Type.UINT8, np.dtype(bool))]))
    shape = draw(shapes)
    count = int(np.prod(shape, dtype=np.int64))
    raw = draw(st.randoms(use_true_random=False)).randbytes(count * dtype.itemsize)
    if dtype == np.bool_:
        raw = bytes(byte & 1 for byte in raw)
    array = np.frombuffer(raw, dtype).reshape(shape)
    for change in draw(st.lists(st.sampled_from(sorted(CHANGES)), max_size=3)):
        array = CHANGES[change](array)
    # Element by element, through Python's own iteration order; the bits survive as they are.
    little = array.dtype.newbyteorder("<")
    expected = b"".join(array[at].astype(little).tobytes() for at in np.ndindex(array.shape))
    return array, Tensor(int(kind), array.shape, expected)


def _every_second(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array[(slice(None, None, 2),) * array.ndim] if array.ndim else array


def _backwards(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array[(slice(None, None, -1),) * array.ndim] if array.ndim else array


def _odd_address(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    memory = np.zeros(array.nbytes + 1, np.uint8)
    moved: np.ndarray[Any, Any] = np.ndarray(array.shape, array.dtype, memory.data, 1)
    moved[...] = array
    return moved


def _read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    view = array.view()
    view.flags.writeable = False
    return view


CHANGES = {
    "transposed": lambda a: a.T,
    "fortran": np.asfortranarray,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "every second": _every_second,
    "backwards": _backwards,
    "odd address": _odd_address,
    "read-only": _read_only,
    "repeated": lambda a: np.broadcast_to(a, (2, *a.shape)),
}

metadata_ios = st.builds(
    IOMetadata,
    name=texts,
    description=texts,
    shape=st.lists(st.integers(-1, 2**40), max_size=5).map(tuple),
    type=st.sampled_from(Type),
)
metadata_responses = st.builds(
    MetadataResponse,
    name=texts,
    version=texts,
    server=texts,
    description=texts,
    inputs=st.lists(metadata_ios, max_size=3).map(tuple),
    outputs=st.lists(metadata_ios, max_size=3).map(tuple),
)
error_lists = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), texts), max_size=3)
