"""TorchScript that touches files: its language has operators that write and map a file by name, and a class of it may
call them while it is loaded.

The code of a program is text in its file. It is looked at before PyTorch reads it, in whatever way a name can be written:
as an attribute, over several lines, or as a text for getattr.
"""

from __future__ import annotations

import ast
import re
import zipfile
from pathlib import Path
from typing import Any

__all__ = ["what_touches_files"]

_OPERATORS = "save", "from_file", "load_tensor", "load_library"
_CODE = re.compile(r"(?:^|/)code/", re.IGNORECASE)
# Texts first: what looks like a comment in one is none.
_BETWEEN = re.compile(
    r"(\"\"\"|\'\'\')(?:\\.|[^\\])*?\1|\"(?:\\.|[^\"\\\n])*\"|\'(?:\\.|[^\'\\\n])*\'|#[^\n]*|\\\r?\n", re.DOTALL
)
_CALLED = re.compile(rf"\.\s*({'|'.join(_OPERATORS)})\b")
_TEXTS = re.compile(r"(?:\w{0,2}(?:'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")\s*)+")


def what_touches_files(torch: Any, path: Path) -> str:
    """The operator in a TorchScript file that touches files; empty if there is none."""
    with zipfile.ZipFile(path) as archive:
        code = {name: archive.read(name) for name in archive.namelist() if _CODE.search(name)}
    reader = torch._C.PyTorchFileReader(str(path))  # of an odd archive it may read others than zipfile does
    texts = [*code.values(), *(reader.get_record(name) for name in reader.get_all_records() if _CODE.search(name))]
    return next((found for text in texts if (found := _found(text.decode("utf-8", "replace")))), "")


def _found(code: str) -> str:
    if not any(name in code for name in _OPERATORS) and "getattr" not in code:
        return ""
    code = _BETWEEN.sub(lambda match: " " if match[0][0] in "#\\" else match[0], code)
    if match := _CALLED.search(code):
        return match[1]
    if "getattr" not in code:
        return ""
    for match in _TEXTS.finditer(code):
        try:
            text = ast.literal_eval(f"({match[0]})")
        except (SyntaxError, ValueError):
            continue
        if text in _OPERATORS:
            return str(text)
    return ""
