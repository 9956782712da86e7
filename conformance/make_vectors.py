"""Write conformance/vectors anew from conformance/making. The same input gives the same files, and a test compares.

python conformance/make_vectors.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from conformance.cases import FOLDER
from conformance.making import attacks, growing, invalid, odd, unsendable, valid

# file: group, what the file is about, the cases
FILES: dict[str, tuple[str, str, Any]] = {
    "valid-ours.json": ("valid", "messages of our writer", valid.by_us),
    "valid-builder.json": ("valid", "messages of the official Builder, in several manners", valid.by_builder),
    "valid-by-hand.json": ("valid", "messages put together by hand", valid.by_hand),
    "valid-growing.json": ("valid", "messages of later and earlier schemas", growing.valid),
    "valid-odd.json": ("valid", "parts in odd places, and large messages", odd.valid),
    "invalid-growing.json": (
        "invalid",
        "kinds that there are not, and tables with too little in them",
        growing.invalid,
    ),
    "attacks-odd.json": ("attacks", "tables that are too small or misaligned, and fields outside of them", odd.refused),
    "invalid.json": ("invalid", "what a careless writer might send", invalid.cases),
    "attacks-on-structure.json": ("attacks", "parts that stand where nothing may stand", attacks.on_structure),
    "attacks-on-size.json": ("attacks", "numbers that ask for more than there is", attacks.on_size),
    "unsendable.json": ("unsendable", "values that no writer may write", unsendable.cases),
}


def files() -> dict[str, str]:
    """The text of each file by its name."""
    return {name: _text(*content) for name, content in FILES.items()}


def _text(group: str, about: str, cases: Any) -> str:
    made: Iterable[dict[str, Any]] = cases()
    vectors = ",\n".join(json.dumps(each, ensure_ascii=False) for each in made)
    head = json.dumps({"$schema": "../schema.json", "group": group, "about": about})
    return f'{head[:-1]}, "vectors": [\n{vectors}\n]}}\n'


def main() -> None:
    for name, text in files().items():
        (FOLDER / name).write_text(text)
        print(f"{name}: {text.count(chr(10)) - 2} vectors, {len(text.encode())} bytes")


if __name__ == "__main__":
    main()
