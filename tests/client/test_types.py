"""What a type checker says of a user's program: the mistakes in it, and nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.type_checked import mypy_errors

PROGRAM = """
import numpy as np

import graphpipe
from graphpipe import remote

x = np.zeros((1, 4), np.float32)
print(remote.execute("http://h", x).argmax(), x + remote.execute("http://h", x, output_name="label"))
remote.execute("http://h", x, output_name=["a", "b"]).argmax()  # MISTAKE
with graphpipe.Client("http://h") as client:
    label, probabilities = client.execute(x)
    print(client.execute(x, "x", ["a", "b"])[0].argmax(), client.infer({"x": x})["y"].argmax())
    print(client.infer({"x": x}, as_frame=True).head(), client.signature.inputs, client.metadata(timeout=1).inputs)
    client.execute(x, None, ["a", "b"]).argmax()  # MISTAKE
    client.infer(x)  # MISTAKE
with graphpipe.load("m.onnx") as model:
    print(model.execute(x).argmax(), model.infer({"x": x}, outputs_as="torch")["y"].cpu())
    model.infer([x])  # MISTAKE


async def main() -> None:
    async with graphpipe.AsyncClient("http://h") as client:
        print((await client.execute(x)).argmax(), (await client.signature).inputs)
        (await client.execute(x, output_name=["a", "b"])).argmax()  # MISTAKE
        await client.infer(x)  # MISTAKE
"""


def test_mypy_finds_an_array_without_a_name_and_several_outputs_used_as_one(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    found = {number for _, number in mypy_errors(tmp_path, program.name)}
    planted = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if "# MISTAKE" in line}
    assert found == planted
