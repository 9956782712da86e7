"""echo: the inputs are the outputs."""

from pathlib import Path

from tests.contract.samples import Sample


def build(folder: Path) -> Sample:
    return Sample("echo", strings=True, checks=False, has_symbols=False, expected_of=dict)
