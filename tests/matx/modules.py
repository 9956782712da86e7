"""Scripts and saves small modules, where MATXScript is: python modules.py FOLDER COMMAS.CC SUMS.CC"""

# ruff: noqa: UP006, UP035 - MATXScript knows types by these names

import os
import subprocess
import sys
from typing import Any, Dict, List, Tuple

import matx
import numpy as np


class Lowered:
    def __init__(self) -> None:
        pass

    def __call__(self, words: List[str]) -> Tuple[List[str], int]:
        return [word.lower() for word in words], len(words)


class Scaled:
    def __init__(self) -> None:
        pass

    def __call__(self, x: matx.NDArray, factor: float, times: int, rows: List[List[int]]) -> Dict[bytes, Any]:
        total = 0
        for row in rows:
            for number in row:
                total += number
        return {b"x": x, b"product": factor * times, b"total": total}


class Odd:
    def __init__(self) -> None:
        pass

    def __call__(self, text: bytes) -> int:
        if text == b"hang":
            while True:
                pass
        return int(text)


class Counted:
    def __init__(self) -> None:
        pass

    def __call__(self, table: Dict[str, int]) -> int:
        return len(table)


class Marked:
    def __init__(self) -> None:
        pass

    def __call__(self, texts: List[bytes]) -> List[bytes]:
        return [each + b"!" for each in texts]


def compiled(code: str, folder: str) -> None:
    """Compile operators to a library of the same name, and load it."""
    library = os.path.join(folder, f"lib{os.path.basename(code).removesuffix('.cc')}.so")
    subprocess.run(["g++", "-std=c++14", "-w", "-fPIC", "-shared", *matx.get_cflags(), code, "-o", library], check=True)
    matx.pipeline.load_ops(library)


def main(folder: str, *operators: str) -> None:
    """Write every module below ``folder``, and beside them libraries of operators."""
    lowered, scaled, odd, counted, marked = [matx.script(each)() for each in (Lowered, Scaled, Odd, Counted, Marked)]
    for code in operators:
        compiled(code, folder)
    commas = matx.pipeline.ops.CountCommas()
    adds, sums, negates = [getattr(matx.pipeline.ops, each)() for each in ("AddToRows", "SumOfRows", "Negated")]

    def of_words(words):
        return lowered(words)

    def of_numbers(x, factor, times, rows):
        return scaled(x, factor, times, rows)

    def of_one(text):
        return odd(text)

    def of_table(table):
        return counted(table)

    def two(text):
        return commas(text), odd(text)

    def contract(x, k, flags, s):
        return adds(x, k), sums(x), negates(flags), marked(s)

    rows = matx.array.from_numpy(np.ones((2, 4), np.float32))
    numbers, yes = matx.array.from_numpy(np.ones(2, np.int64)), matx.array.from_numpy(np.ones(2, bool))
    matx.trace(contract, rows, numbers, yes, [b"a"]).save(os.path.join(folder, "contract"))
    array = matx.NDArray([1.0], [1], "float32")
    matx.trace(of_words, ["Hello"]).save(os.path.join(folder, "lowered"))
    matx.trace(of_numbers, array, 1.5, 2, [[1]]).save(os.path.join(folder, "scaled"))
    matx.trace(of_one, b"1").save(os.path.join(folder, "odd"))
    matx.trace(of_table, {"a": 1}).save(os.path.join(folder, "counted"))
    matx.trace(two, b"1").save(os.path.join(folder, "commas"))


if __name__ == "__main__":
    main(*sys.argv[1:])
