"""Compile Text2Ids with MATXScript and save it: .../venvs/matx/bin/python examples/text2ids/script.py FOLDER.

It runs where MATXScript is, and needs g++ on PATH; nothing of GraphPipe. Whoever loads the folder needs no compiler.
"""

import json
import os
import sys
import tempfile
from typing import Any


def main(folder: str) -> None:
    """Write the module to ``folder``."""
    with tempfile.TemporaryDirectory() as compiled:
        os.environ["MATX_DSO_DIR"] = compiled  # else ./dso, read when it is imported
        import matx  # type: ignore[import-not-found]
        from text2ids import Text2Ids  # type: ignore[import-not-found]

        scripted = matx.script(Text2Ids)()

        def process(text: bytes) -> Any:  # its parameters are the inputs
            return scripted(text)

        module = matx.trace(process, b"hello world")
        module.save(folder)
    # A module names its inputs; of its outputs it says nothing.
    with open(os.path.join(folder, "model.spec.graphpipe.json"), "w") as file:
        json.dump({"outputs": [{"name": "ids", "dtype": "int64", "shape": ["n"]}]}, file)


if __name__ == "__main__":
    main(sys.argv[1])
