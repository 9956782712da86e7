"""A placeholder: what it answers is random, and the same to the same request."""

from pathlib import Path

import graphpipe
from tests.contract.samples import Sample


def build(folder: Path) -> Sample:
    problem = graphpipe.Problem.of(
        {"x": "float32[n, 4]", "k": "int64[n]", "flags": "bool[n]", "s": "string[m]"},
        {"y": "float32[n, 4]", "total": "float32[n]", "no": "bool[n]", "t": "string[m]"},
    )
    problem.write(folder / "problem.toml")
    model = graphpipe.placeholder(problem)
    return Sample(f"placeholder:{folder / 'problem.toml'}", strings=True, expected_of=model.infer)
