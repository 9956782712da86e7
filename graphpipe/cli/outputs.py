"""Where outputs go: files, standard output, or a summary that a person can read."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.wire.dtypes import dtype_name
from graphpipe.words import visible

__all__ = ["Destinations", "summary", "written_out"]

Array = NDArray[Any]
_HIGHEST = 5


class Destinations:
    """The files that ``--output`` names. False if there are none."""

    def __init__(self, texts: Sequence[str], as_json: bool = False) -> None:
        self._files = [_name_and_file(text) for text in texts]
        for _, file in self._files:
            if file != "-" and Path(file).suffix.lower() not in (".npy", ".npz"):
                raise ValueError(f"--output {file!r}: expected a file .npy or .npz, or - for standard output")
            if file == "-" and sys.stdout is None:
                raise ValueError("--output -: standard output is closed")
            if file == "-" and sys.stdout.isatty():
                raise ValueError("--output -: an array is not for a terminal's eyes; pipe it on, or leave --output out")

        if sum(file == "-" for _, file in self._files) + as_json > 1 and any(file == "-" for _, file in self._files):
            raise ValueError("--output -: standard output takes one array and no more; give the others files")

    def __bool__(self) -> bool:
        return bool(self._files)

    @property
    def names(self) -> list[str]:
        """The outputs that are asked for by saying where each goes; empty if some are taken as they come."""
        names = [name for name, _ in self._files]
        return list(dict.fromkeys(names)) if all(names) else []

    def write(self, outputs: Mapping[str, Array]) -> None:
        """Write every file. Raises ValueError if an output is not there, or which one is meant is not clear."""
        for name, file in self._files:
            if name and name not in outputs:
                have = f"there {'is' if len(outputs) == 1 else 'are'} {', '.join(outputs) or 'none'}"
                raise ValueError(f"--output {name}={file}: there is no output {name!r}; {have}")
            chosen = {name: outputs[name]} if name else dict(outputs)
            if file.lower().endswith(".npz"):
                np.savez(file, allow_pickle=False, **{key: _plain(array, key) for key, array in chosen.items()})
                continue
            if len(chosen) != 1:
                named = f"--output {next(iter(chosen), 'NAME')}={file}"
                raise ValueError(f"--output {file}: there are {len(chosen)} outputs; name one ({named}) or take .npz")
            (key,) = chosen
            if file == "-":
                np.save(sys.stdout.buffer, _plain(chosen[key], key), allow_pickle=False)
                sys.stdout.buffer.flush()
            else:
                np.save(file, _plain(chosen[key], key), allow_pickle=False)


def written_out(outputs: Mapping[str, Array]) -> dict[str, Any]:
    """The outputs as JSON has them."""
    return {
        name: {"type": dtype_name(array.dtype), "shape": list(array.shape), "data": _lists(array)}
        for name, array in outputs.items()
    }


def summary(outputs: Mapping[str, Array]) -> str:
    """The outputs in words: their shapes, how far their numbers reach, and some of the numbers."""
    return "\n".join(line for name, array in outputs.items() for line in _summary(name, array)) or "no outputs"


def _summary(name: str, array: Array) -> list[str]:
    head = f"{visible(name)}  {dtype_name(array.dtype)} {list(array.shape)}"
    if not array.size:
        return [f"{head}  empty"]
    if array.dtype.kind == "O":
        shown = np.vectorize(_readable, otypes=[object])(array)
        return [head, _indented(np.array2string(shown, threshold=20, max_line_width=110))]
    lines = [head]
    if array.size > 1:
        low, high, mean = map(float, (array.min(), array.max(), array.mean(dtype=np.float64)))
        lines[0] += f"  from {low:.6g} to {high:.6g}, mean {mean:.6g}"
    with np.printoptions(precision=4, suppress=True, threshold=40, edgeitems=3, linewidth=110):
        lines.append(_indented(str(array)))
    if array.dtype.kind == "f" and array.size > 3 and array.size == max(array.shape):
        scores = array.reshape(-1)
        highest = np.argsort(scores)[::-1][:_HIGHEST]
        lines.append("  highest: " + ", ".join(f"{scores[i]:.4g} at {i}" for i in highest))
    return lines


def _plain(array: Array, name: str) -> Array:
    """An array that a .npy file can hold: text becomes an array of fixed-length bytes, if nothing is lost by it."""
    if array.dtype.kind != "O":
        return array
    if any(item.endswith(b"\0") for item in array.flat):
        raise ValueError(f"output {name!r} has text that ends in NUL, which a .npy file cannot hold; take --json")
    return array.astype(np.bytes_) if array.size else array.astype("S1")


def _lists(array: Array) -> Any:
    if array.dtype.kind == "O":
        return np.vectorize(lambda item: item.decode("utf-8", "replace"), otypes=[object])(array).tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        # JSON has no word for what is not a number.
        array, finite = array.astype(object), np.isfinite(array)
        array[~finite] = None
    return array.tolist()


def _readable(item: bytes) -> str:
    text = item.decode("utf-8", "replace")
    return text if len(text) <= 200 else f"{text[:200]}... ({len(item)} bytes)"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _name_and_file(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    return (name, file) if equals and name else ("", text)
