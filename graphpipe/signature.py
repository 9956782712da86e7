"""What a model takes and gives: names, element types and shapes, and the check of a request against them.

A check looks at names, types and shapes, never at elements, and gives a *plan*: which input each tensor is, what has to
be converted, which outputs are wanted. Every refusal says what came, what was expected, and how to mend it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.arrays import array_of, has_own_type
from graphpipe.errors import InvalidRequest
from graphpipe.wire.dtypes import dtype_name, dtype_named
from graphpipe.words import counted, listed, nearest, quoted

__all__ = ["Plan", "Signature", "TensorSpec", "fitted"]

Array = NDArray[Any]
Dim = int | str | None

_BOOL, _UINT8 = np.dtype(bool), np.dtype(np.uint8)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output.

    ``dtype`` is None where it is unknown and object for strings. ``shape`` counts elements, outermost axis first: a
    number is fixed, a symbol (``"n"``) may be anything but the same wherever it occurs in one request, None may be
    anything. A ``shape`` of None stands for any rank. A ``repeated`` one stands for any number of tensors, under any names.

        TensorSpec("image", np.dtype("f4"), ("n", 224, 224, 3))     # n images
        TensorSpec("mask", np.dtype(bool), ("n",))                  # and as many flags
    """

    name: str
    dtype: np.dtype[Any] | None = None
    shape: tuple[Dim, ...] | None = None
    description: str = ""
    repeated: bool = False

    @classmethod
    def of(cls, name: str, text: str) -> TensorSpec:
        """The spec that a text like ``float32[n, 4]``, ``string`` or ``any...`` describes. Raises ValueError.

        docs/wire.md has the grammar; here it may also be a type's other names.
        """
        match = re.fullmatch(r"\s*(\w+)\s*(?:\[(.*)\]\s*)?(\.\.\.\s*)?", text, re.DOTALL)
        if match is None:
            raise ValueError(f"{name}: expected a type and a shape like float32[n, 4]; {quoted(text)} came")
        dtype = None if match[1] in ("any", "unknown") else dtype_named(match[1])
        shape = None if match[2] is None else _dims(name, match[2])
        return cls(name, dtype, shape, repeated=match[3] is not None)

    @property
    def text(self) -> str:
        """Type and shape in the form that ``of`` reads."""
        kind = "any" if self.dtype is None else dtype_name(self.dtype)
        return (
            kind + ("" if self.shape is None else f"[{', '.join(map(_dim_text, self.shape))}]") + "..." * self.repeated
        )

    def __str__(self) -> str:
        dims = "any shape" if self.shape is None else f"[{', '.join('?' if d is None else str(d) for d in self.shape)}]"
        return f"{self.name} {dtype_name(self.dtype)} {dims}"


_SYMBOL = re.compile(r"[^\W\d]\w*")
# Up to the next comma that is not in quotes. Unrolled, so that nothing is tried twice: a child on an older Python reads
# this too, and knows no possessive quantifiers.
_NEXT_DIM = re.compile(r'([^,"]*(?:"[^"\\]*(?:\\.[^"\\]*)*"[^,"]*)*)(,|$)', re.DOTALL)


def _dims(name: str, text: str) -> tuple[Dim, ...]:
    dims: list[Dim] = []
    at, comma = 0, text.strip() and ","
    while comma:
        match = _NEXT_DIM.match(text, at)
        if match is None:
            raise ValueError(f"{name}: a quote is not closed; {quoted(text)} came")
        dims.append(_dim(name, match[1].strip()))
        at, comma = match.end(), match[2]
    return tuple(dims)


def _dim(name: str, text: str) -> Dim:
    if re.fullmatch(r"\d{1,19}", text):
        return int(text)
    if text in ("?", "-1"):
        return None
    if _SYMBOL.fullmatch(text):
        return text
    if text.startswith('"'):
        try:
            symbol = json.loads(text)
        except ValueError:
            symbol = None
        if isinstance(symbol, str):
            return symbol
    raise ValueError(f"{name}: a dimension is a number, a word or ?; {quoted(text)} came")


def _dim_text(dim: Dim) -> str:
    if isinstance(dim, str):  # some tools call them floor(h/2)
        return dim if _SYMBOL.fullmatch(dim) else json.dumps(dim, ensure_ascii=False)
    return "?" if dim is None else str(dim)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the tensors of requests with one head become a model's inputs.

    ``names[i]`` is the input that tensor i is, or None if it is left out; ``casts[i]`` the type that it is converted to
    first, or None.
    """

    names: tuple[str | None, ...]
    casts: tuple[np.dtype[Any] | None, ...]
    outputs: tuple[str, ...]
    plain: bool = field(init=False)  # nothing left out, nothing converted

    def __post_init__(self) -> None:
        object.__setattr__(self, "plain", None not in self.names and not any(d is not None for d in self.casts))

    def inputs(self, tensors: Sequence[Array]) -> dict[str, Array]:
        """The tensors by the names of the inputs that they are.

        Raises InvalidRequest where a value does not fit the type that it is to be converted to.
        """
        if self.plain:
            if len(tensors) == len(self.names) == 1:  # nearly always
                return {self.names[0]: tensors[0]}  # type: ignore[dict-item]
            return dict(zip(self.names, tensors, strict=True))  # type: ignore[arg-type]
        return {
            name: tensor if dtype is None else _cast_numbers(tensor, dtype, name)
            for name, dtype, tensor in zip(self.names, self.casts, tensors, strict=True)
            if name is not None
        }


@dataclass(frozen=True, slots=True)
class Signature:
    """All inputs and outputs of a model, in order.

    ``default_inputs`` and ``default_outputs`` name what a request without names means; None: all, in order. Inputs that
    are no default may be left out; with ``any_inputs`` so may they, if another comes in their place. ``variadic`` models
    take any number of tensors under any names; ``open_outputs`` models can be asked for outputs not listed here. With
    ``loose_symbols`` a symbol is a name that a tool made up: equal ones are not held against each other.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    default_inputs: tuple[str, ...] | None = None
    default_outputs: tuple[str, ...] | None = None
    variadic: bool = False
    open_outputs: bool = False
    loose_symbols: bool = False
    any_inputs: bool = False

    def __post_init__(self) -> None:
        for what, specs, defaults in (
            ("input", self.inputs, self.default_inputs),
            ("output", self.outputs, self.default_outputs),
        ):
            names = [spec.name for spec in specs]
            if len(set(names)) < len(names):
                raise ValueError(f"an {what} name occurs twice in {names}")
            unknown = [] if self.variadic else [name for name in defaults or () if name not in names]
            if unknown and not (what == "output" and self.open_outputs):
                raise ValueError(f"there is no {what} {unknown[0]!r}; {_have(names, what)}")

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.inputs))}) -> ({', '.join(map(str, self.outputs))})"

    @property
    def input_names(self) -> tuple[str, ...]:
        """The default inputs, in order."""
        return tuple(s.name for s in self.inputs) if self.default_inputs is None else self.default_inputs

    @property
    def output_names(self) -> tuple[str, ...]:
        """The default outputs, in order."""
        return tuple(s.name for s in self.outputs) if self.default_outputs is None else self.default_outputs

    def with_defaults(self, inputs: Sequence[str] | None, outputs: Sequence[str] | None) -> Signature:
        """The same with other default inputs and outputs; None leaves them. Raises ValueError for an unknown name."""
        chosen = [
            None if names is None else tuple(_find(name, {spec.name for spec in specs}) or name for name in names)
            for names, specs in ((inputs, self.inputs), (outputs, self.outputs))
        ]
        return replace(
            self,
            default_inputs=chosen[0] or self.default_inputs,
            default_outputs=chosen[1] or self.default_outputs,
            any_inputs=self.any_inputs and not chosen[0],
        )

    def plan(
        self,
        dtypes: Sequence[np.dtype[Any]],
        shapes: Sequence[tuple[int, ...]],
        input_names: Sequence[str] = (),
        output_names: Sequence[str] = (),
        *,
        cast: bool = False,
        ignore_extra_inputs: bool = False,
        bools: Sequence[int] = (),
    ) -> Plan:
        """Check the tensors of a request, given by type and shape, and the names that it uses.

        Tensor i is the input ``input_names[i]``, or default input i where that is missing or empty; further names are
        ignored. No ``output_names`` means all defaults, an empty one the default at its place; order and repeats are
        kept. ``x`` and ``x:0`` are one name. ``cast`` allows a conversion between numbers (never from floating point to
        integers, never between text and numbers); ``ignore_extra_inputs`` leaves out tensors that the model does not
        know. ``bools`` are the places of uint8 tensors that their sender says to be bool: that is what a model gets which
        declares nothing else.

        Raises InvalidRequest.
        """
        outputs = self._outputs(output_names)
        names = self._inputs(input_names, len(dtypes), ignore_extra_inputs)
        by_name = {spec.name: spec for spec in self.inputs}
        if self.variadic:
            # Whoever runs it knows better what fits; only what was asked for is done here.
            pairs = zip(names, dtypes, strict=True)
            known = [(by_name.get(name or "") if cast else None, dtype) for name, dtype in pairs]
            casts = [None if s is None else _check_dtype(s, d, cast) for s, d in known]
            return Plan(names, _with_bools(casts, bools, [None if s is None else s.dtype for s, _ in known]), outputs)
        # A graph's input may be any tensor of it (open), and such a one has no spec here.
        specs = [by_name.get(name) if name is not None else None for name in names]
        symbols: dict[str, tuple[int, str]] = {}
        casts = []
        for spec, dtype, shape in zip(specs, dtypes, shapes, strict=True):
            casts.append(None if spec is None else _check_dtype(spec, dtype, cast))
            if spec is not None:
                _check_shape(spec, shape, {} if self.loose_symbols else symbols)
        declared = [None if spec is None else spec.dtype for spec in specs]
        return Plan(names, _with_bools(casts, bools, declared), outputs)

    def _inputs(self, given: Sequence[str], count: int, ignore_extra: bool) -> tuple[str | None, ...]:
        defaults = self.input_names
        known = {spec.name for spec in self.inputs}
        names: list[str | None] = []
        taken: set[str] = set()
        for i in range(count):
            name = given[i] if i < len(given) else ""
            if not name:
                if i < len(defaults):
                    name = defaults[i]
                elif self.variadic:
                    name = f"input_{i}"
                else:
                    raise InvalidRequest(
                        f"{counted(count, 'tensor')} came, and tensor {i} has no name; {_have(defaults, 'input')}: "
                        f"send {len(defaults)}, or name {'it' if count == 1 else 'them'}"
                    )
            found = name if self.variadic else _find(name, known)
            if found is None and not ignore_extra:
                raise InvalidRequest(
                    f"there is no input {quoted(name)}; {_have(_names(self.inputs), 'input')}{nearest(name, known)}; "
                    "leave it out, or start the server with --ignore-extra-inputs"
                )
            if found is not None:
                if found in taken:
                    raise InvalidRequest(f"input {quoted(found)} came twice; send each input once")
                taken.add(found)
            names.append(found)
        missing = (
            [] if self.variadic or (self.any_inputs and taken) else [name for name in defaults if name not in taken]
        )
        if missing:
            what = "input" if len(missing) == 1 else "inputs"
            came = listed([name for name in names if name]) if any(given) and taken else str(count)
            raise InvalidRequest(f"missing {what} {listed(missing)}; {came} came; {_have(defaults, 'input')}")
        return tuple(names)

    def _outputs(self, asked: Sequence[str]) -> tuple[str, ...]:
        defaults = self.output_names
        if not asked:
            return () if self.variadic else defaults
        if self.variadic:
            return tuple(name or f"output_{i}" for i, name in enumerate(asked))
        known = {spec.name for spec in self.outputs}
        names = []
        for i, name in enumerate(asked):
            if not name:
                if i >= len(defaults) and self.open_outputs:
                    names.append(f"output_{i}")
                    continue
                if i >= len(defaults):
                    raise InvalidRequest(
                        f"output {i} has no name, and there is no default for it; {_have(defaults, 'output')}"
                    )
                name = defaults[i]
            found = _find(name, known)
            if found is None:
                if not self.open_outputs:
                    have = _have(_names(self.outputs), "output")
                    raise InvalidRequest(f"there is no output {quoted(name)}; {have}{nearest(name, known)}")
                found = name
            names.append(found)
        return tuple(names)


def _names(specs: Iterable[TensorSpec]) -> list[str]:
    return [spec.name for spec in specs]


def _find(name: str, known: set[str]) -> str | None:
    """The known name that is meant: TensorFlow's callers write ``x`` and ``x:0`` for the same tensor."""
    if name in known:
        return name
    other = name[:-2] if name.endswith(":0") else f"{name}:0"
    return other if other in known else None


def _have(names: Sequence[str], what: str) -> str:
    if not names:
        return f"the model has no {what}s"
    return f"the model's {what}{' is' if len(names) == 1 else 's are'} {listed(names)}"


def _with_bools(
    casts: Sequence[np.dtype[Any] | None], bools: Sequence[int], declared: Sequence[np.dtype[Any] | None]
) -> tuple[np.dtype[Any] | None, ...]:
    if not bools:
        return tuple(casts)
    return tuple(_BOOL if i in bools and declared[i] is None else cast for i, cast in enumerate(casts))


def _check_dtype(spec: TensorSpec, dtype: np.dtype[Any], cast: bool) -> np.dtype[Any] | None:
    want = spec.dtype
    if want is None or dtype == want:
        return None
    if {want, dtype} == {_BOOL, _UINT8}:
        return want  # how bool travels
    if want.kind == "O" and dtype.kind in "OSU":
        return None
    came, expected = dtype_name(dtype), dtype_name(want)
    head = f"input {spec.name!r} is {came}, but the model takes {expected}"
    if "O" in (want.kind, dtype.kind) or dtype.kind in "SU":
        raise InvalidRequest(f"{head}; text and numbers are not converted into each other")
    if not np.can_cast(dtype, want, "same_kind"):
        raise InvalidRequest(f"{head}; convert it first: .astype({expected!r})")
    if not cast:
        raise InvalidRequest(
            f"{head}; convert it first: .astype({expected!r}), or allow conversion: cast=True in the client, "
            "--cast on the server"
        )
    return want


def _check_shape(spec: TensorSpec, shape: tuple[int, ...], symbols: dict[str, tuple[int, str]]) -> None:
    want = spec.shape
    if want is None:
        return
    if len(shape) != len(want):
        hint = ""
        if len(shape) + 1 == len(want):
            hint = f"; for one row, send it as [1, {', '.join(map(str, shape))}]" if shape else "; send a list of one"
        raise InvalidRequest(
            f"input {spec.name!r} has shape {list(shape)}, but the model takes "
            f"{counted(len(want), 'dimension')}: {spec}{hint}"
        )
    for axis, (got, expected) in enumerate(zip(shape, want, strict=True)):
        if isinstance(expected, int):
            if got != expected:
                raise InvalidRequest(
                    f"input {spec.name!r} has shape {list(shape)}: {got} along axis {axis}, "
                    f"but the model takes {expected} there: {spec}{_filled_up(spec, axis) if got < expected else ''}"
                )
        elif expected is not None:
            first, where = symbols.setdefault(expected, (got, spec.name))
            if got != first:
                raise InvalidRequest(
                    f"input {spec.name!r} has {got} along axis {axis}, but {expected!r} is already {first} "
                    f"in {where!r}; both must be equal: {spec}"
                )


def _filled_up(spec: TensorSpec, axis: int) -> str:
    """How token ids and their like, which are made as long as it takes, are; nothing for other inputs."""
    if not axis or spec.dtype is None or spec.dtype.kind not in "iu":
        return ""
    return f"; make it as long, or have the server do it (--pad {spec.name}:{axis}:0)"


def fitted(value: object, dtype: np.dtype[Any] | None, cast: bool, name: str) -> Array:
    """``value`` as an array of ``dtype``, if it may become one; else as it is, for the model to refuse.

    Lists and numbers are converted where nothing is lost; what has a type of its own only if ``cast``. ``name`` is the
    input's, or its place.

    Raises InvalidRequest if a value does not fit the type, or is no array.
    """
    array = array_of(value, f"input {name}" if name.isdigit() else repr(name))
    if dtype is None or array.dtype == dtype or (array.dtype == np.bool_ and dtype == np.uint8):
        return array
    free = not has_own_type(value)
    if free and not array.size:
        return array.astype(dtype)  # numpy makes float64 of []
    if not (cast or free) or not {dtype.kind, array.dtype.kind} <= set("biuf"):
        return array
    whole = dtype.kind in "iu" and array.dtype.kind in "iu"
    if (free and whole) or np.can_cast(array.dtype, dtype, "same_kind"):
        return _cast_numbers(array, dtype, name)
    return array


def _cast_numbers(array: Array, dtype: np.dtype[Any], name: str) -> Array:
    """``array`` converted to ``dtype``. Raises InvalidRequest if a value does not fit the input called ``name``."""
    if array.dtype == np.bool_ and dtype == np.uint8:
        return array.view(np.uint8)
    if dtype.kind in "iu" and array.dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise InvalidRequest(f"input {name!r} has values that {dtype} cannot hold ({limits.min} to {limits.max})")
    with np.errstate(over="raise"):
        try:
            return array.astype(dtype)
        except FloatingPointError:
            raise InvalidRequest(f"input {name!r} has values that {dtype} cannot hold; scale it first") from None
