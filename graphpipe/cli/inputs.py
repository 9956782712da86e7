"""From what is written after ``--input`` to arrays: files of many kinds, and values written out."""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.cli import tables
from graphpipe.cli.images import SUFFIXES, image
from graphpipe.cli.presets import ImageForm
from graphpipe.json_objects import each_once
from graphpipe.signature import TensorSpec
from graphpipe.words import first_line

__all__ = ["values_of"]

Array = NDArray[Any]

_FORMS = (
    "x.npy, x.npz:key, an image, x.csv, x.parquet, x.json, x.txt, text:WORDS, '[1, 2, 3]', '{\"x\": [1]}' or - for standard "
    "input"
)


def values_of(
    texts: Sequence[str], specs: Sequence[TensorSpec], images: ImageForm, more: Sequence[TensorSpec] = ()
) -> list[tuple[str, object]]:
    """The inputs that the texts stand for, each with its name ("" where it has none). A table is several of them.

    ``specs`` are a model's inputs in order, ``more`` those that it has besides. Raises ValueError for what cannot be read.
    """
    by_name = {spec.name: spec for spec in (*specs, *more)}
    named = [_name_and_form(text, by_name) for text in texts]
    values: list[tuple[str, object]] = []
    for i, (name, form) in enumerate(named):
        spec = by_name.get(name, TensorSpec(name)) if name else specs[i] if i < len(specs) else TensorSpec("")
        value = _value(form, spec, images)
        if isinstance(value, tables.Table) and not name:
            values += tables.by_input(value, specs, by_name)
        elif isinstance(value, tables.Table):
            values.append((name, tables.as_one(value, spec)))
        else:
            values.append((name or spec.name, value))
    return values


def _name_and_form(text: str, known: dict[str, TensorSpec]) -> tuple[str, str]:
    name, equals, form = text.partition("=")
    if not equals or not name or (name not in known and (Path(text).exists() or text.startswith(("text:", "[", "{")))):
        return "", text
    return name, form


def _value(form: str, spec: TensorSpec, images: ImageForm) -> object:
    if form.startswith("text:"):
        return _text(form[len("text:") :], spec)
    if form == "-":
        if sys.stdin is None:
            raise ValueError("--input -: standard input is closed")
        return _npy(sys.stdin.buffer, "standard input")
    if re.match(r"\s*[\[{\-+.\d]", form) and not Path(form).exists():
        return _json(form, repr(form))
    file, colon, key = form.rpartition(":")
    if colon and file.lower().endswith(".npz"):
        return _npz(file, key)
    if colon and file.lower().endswith(tables.SUFFIXES):
        return tables.table(file).chosen(key)
    suffix = Path(form).suffix.lower()
    if suffix == ".npy":
        with open(form, "rb") as stream:
            return _npy(stream, form)
    if suffix == ".npz":
        return _npz(form, "")
    if suffix == ".json":
        return _json(_words(form), form)
    if suffix == ".txt":
        return _text(_words(form), spec)
    if suffix in tables.SUFFIXES:
        return tables.table(form)
    if suffix in SUFFIXES:
        if spec.dtype == object:  # the model decodes it
            return _string(Path(form).read_bytes(), spec)
        return image(form, spec, images)
    raise ValueError(f"--input {form!r} is none of {_FORMS}")


def _npy(stream: Any, where: str) -> Array:
    import io

    try:
        # A pipe cannot seek, which numpy wants to.
        content = stream if stream is not sys.stdin.buffer else io.BytesIO(stream.read())
        array = np.load(content, allow_pickle=False)
    except Exception as error:
        if isinstance(error, OSError):
            raise
        # A damaged file is met by zipfile, zlib, struct and tokenize, each of which has errors of its own.
        raise ValueError(f"{where}: no array in .npy format: {first_line(error)}") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{where}: holds several arrays; name one: file.npz:KEY")
    return array


def _npz(file: str, key: str) -> Array:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            keys = list(arrays)
            if not key and len(keys) != 1:
                raise ValueError(f"name one of its arrays, {file}:KEY; it has {', '.join(keys) or 'none'}")
            if key and key not in keys:
                have = f"there {'is' if len(keys) == 1 else 'are'} {', '.join(keys) or 'none'}"
                raise ValueError(f"there is no array {key!r}; {have}")
            found: Array = arrays[key or keys[0]]
            return found
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file}: {error}") from None
    except Exception as error:
        if isinstance(error, OSError):
            raise
        raise ValueError(f"{file}: not an .npz file: {first_line(error)}") from None


def _json(text: str, where: str) -> object:
    try:
        value = json.loads(text, object_pairs_hook=each_once)
    except ValueError as error:
        raise ValueError(f"{where}: not JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"{where}: lists in lists, deeper than any array") from None
    return tables.of_json(value, where)


def _words(file: str) -> str:
    """The text of a file, its ends of lines as they are, without the mark that Windows puts before it. Raises ValueError."""
    try:
        return Path(file).read_bytes().removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None


def _text(text: str, spec: TensorSpec) -> Array:
    """One string, in as many dimensions as the model wants."""
    return _string(text.encode("utf-8", "surrogateescape"), spec)  # the bytes of a command line as they were typed


def _string(content: bytes, spec: TensorSpec) -> Array:
    array = np.empty((), object)
    array[()] = content
    return array.reshape((1,) * len(spec.shape or ()))
