"""Text2Ids scripted with MATXScript and timed beside Python's, in the interpreter that has MATXScript.

    .../bin/python compiled.py FOLDER ROUNDS CALLS WORDS,WORDS,...

Saves the module of examples/text2ids to FOLDER, and prints what each round found, as JSON in its last line.
"""

# ruff: noqa: UP006, UP035 - MATXScript knows types by these names

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "examples" / "text2ids")]

from benchmarks.harness.rounds import interleaved  # noqa: E402


def main(folder: str, rounds: int, calls: int, sizes: str) -> None:
    """Script, save, and time."""
    os.environ["MATX_DSO_DIR"] = os.path.join(folder, "compiled")  # read when it is imported
    import matx  # type: ignore[import-not-found]
    import script  # type: ignore[import-not-found]
    from text2ids import Text2Ids  # type: ignore[import-not-found]

    class Text2Array:
        """The same, with an array for an answer."""

        def __init__(self) -> None:
            self.table: Dict[bytes, int] = {b"hello": 0, b"world": 1, b"[UNK]": 2}
            self.unknown: int = self.table[b"[UNK]"]

        def __call__(self, text: bytes) -> matx.NDArray:
            ids = [self.table.get(word, self.unknown) for word in text.split()]
            return matx.NDArray(ids, [len(ids)], "int64")

    script.main(os.path.join(folder, "text2ids"))
    in_list = matx.load(os.path.join(folder, "text2ids"), -1)
    to_array = matx.script(Text2Array)()

    def process(text: bytes) -> Any:
        return to_array(text)

    in_array = matx.trace(process, b"hello world")
    in_python = Text2Ids()
    found = {}
    for words in map(int, sizes.split(",")):
        text = b" ".join([b"hello", b"world", b"unknown"][i % 3] for i in range(words))
        assert list(in_list.run({"text": text})) == in_python(text) == in_array.run({"text": text}).asnumpy().tolist()
        ways = {
            "python": timed(lambda text=text: in_python(text), calls),
            # A list of MATXScript's is none of Python's yet, and an array none of numpy's.
            "list": timed(lambda text=text: list(in_list.run({"text": text})), calls),
            "array": timed(lambda text=text: in_array.run({"text": text}).asnumpy(), calls),
        }
        interleaved(ways, 2)
        found[words] = interleaved(ways, rounds)
    print(json.dumps(found))


def timed(call, calls):  # type: ignore[no-untyped-def] # this Python may have no more than MATXScript
    """The seconds of one call, the mean of ``calls``."""

    def run() -> Dict[str, float]:
        started = time.perf_counter()
        for _ in range(calls):
            call()
        return {"s": (time.perf_counter() - started) / calls}

    return run


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
