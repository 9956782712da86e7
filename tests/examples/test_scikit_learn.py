"""examples/scikit-learn: served both ways, by its own command and by the server's."""

from __future__ import annotations

import pytest

import graphpipe
from tests.serving import ROOT

PATH = ROOT / "examples" / "scikit-learn" / "serve.py"

FLOWERS = [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]


@pytest.mark.parametrize("way", ["its own", "the server's"])
def test_flowers_are_told_apart(serve, way):
    if way == "its own":
        server = serve("127.0.0.1:0", code=f"import runpy; runpy.run_path({str(PATH)!r}, run_name='__main__')")
    else:
        server = serve("--model", f"{PATH}:classify")
    with graphpipe.Client(server.url) as client:
        answer = client.infer({"flowers": FLOWERS})
        assert client.metadata().name == "classify"
    assert answer["kind"].tolist() == [0, 2]
    assert (answer["probability"] > 0.9).all()
