"""A .pt2 file without its pickles and libraries.

torch.export.load unpickles whatever is in the archive: weights and constants that are no plain tensors, objects of any
class, and the sample inputs, which nothing needs. Here only tensors are unpickled; sample inputs that are more are left
out; objects and compiled libraries are refused, and so is a program whose text is more than one (formulas.py).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graphpipe.backends.torch.formulas import what_is_no_program
from graphpipe.errors import LoadError

__all__ = ["without_code"]

# Where the format of today, and that of 2.7, keep sample inputs. PyTorch finds a member whatever the case of its name.
_SAMPLES = re.compile(r"(?:^|/)data/sample_inputs/[^/]*\.pt$|^serialized_example_inputs\.pt$", re.IGNORECASE)
_LIBRARIES = re.compile(r"(?:^|/)data/aotinductor/", re.IGNORECASE)
_OBJECTS = re.compile(r"(?:^|/)data/constants/opaque_obj", re.IGNORECASE)
# The variable that PyTorch has for it: nothing but tensors is unpickled, whatever its own code asks for.
_TENSORS_ONLY, _ANYTHING = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
_JSON = re.compile(r"\.json$", re.IGNORECASE)
_environment = threading.Lock()
_YOURS = "; if it is yours: --trust-model"


@contextlib.contextmanager
def without_code(torch: Any, path: Path) -> Iterator[Path]:
    """A path from which the program can be loaded until the block ends. Raises LoadError for what would be unpickled or
    loaded as a library.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_tensors_only())
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
            names = archive.namelist()
            records = _records(torch, path)
            members = {*names, *records}
            if any(_LIBRARIES.search(name) for name in members):
                raise LoadError(
                    f"{path}: holds compiled libraries (AOTInductor); export the program without them" + _YOURS
                )
            if any(_OBJECTS.search(name) for name in members):
                raise LoadError(
                    f"{path}: holds pickled Python objects, which are not loaded: they can run any code" + _YOURS
                )
            for text in (*(archive.read(name) for name in names if _JSON.search(name)), *records.values()):
                if text and (what := what_is_no_program(text)):
                    raise LoadError(f"{path}: holds {what}; it is not loaded: it could run any code" + _YOURS)
            samples = [name for name in names if _SAMPLES.search(name)]
            plain = all(_is_plain(torch, archive.read(name)) for name in samples)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise LoadError(f"{path}: not a program that torch.export.save wrote: {error}") from None
        yield path if plain else _rewritten(archive, samples, stack)


@contextlib.contextmanager
def _tensors_only() -> Iterator[None]:
    with _environment:
        before = {name: os.environ.pop(name, None) for name in (_TENSORS_ONLY, _ANYTHING)}
        os.environ[_TENSORS_ONLY] = "1"
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _records(torch: Any, path: Path) -> dict[str, bytes]:
    """The members as PyTorch reads them, with the content of those that are JSON: of an odd archive it may read others
    than zipfile does.
    """
    try:
        reader = torch._C.PyTorchFileReader(str(path))
        return {name: reader.get_record(name) if _JSON.search(name) else b"" for name in reader.get_all_records()}
    except RuntimeError:
        return {}  # the format of 2.7, which PyTorch reads with zipfile


def _is_plain(torch: Any, samples: bytes) -> bool:
    """Whether sample inputs are tensors and containers of them."""
    if not samples:
        return True
    try:
        torch.load(io.BytesIO(samples), weights_only=True)
    except Exception:
        return False
    return True


def _rewritten(archive: zipfile.ZipFile, samples: list[str], stack: contextlib.ExitStack) -> Path:
    """The same archive with sample inputs that say nothing."""
    file = stack.enter_context(contextlib.closing(tempfile.NamedTemporaryFile(suffix=".pt2")))  # noqa: SIM115
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as target:
        for info in archive.infolist():
            if info.filename in samples:
                target.writestr(info.filename, b"")
            else:
                with archive.open(info) as part, target.open(info.filename, "w", force_zip64=True) as copy:
                    shutil.copyfileobj(part, copy, 1 << 20)
    file.flush()
    return Path(file.name)
