"""What ``graphpipe-serve --demo`` serves: the digit model of examples/digits, in numpy, and a digit to ask it about.

    from graphpipe import demo, remote
    remote.execute("http://127.0.0.1:9000", demo.digit(), output_name="label")

It lies in the package, so that an installed wheel has something to serve, with no framework at all.
"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SOURCE", "digit", "how_to_ask"]

# As --model takes it.
SOURCE = "digits=graphpipe.demo.digits:classify"


def digit() -> NDArray[np.float32]:
    """A handwritten 7 that the model has not seen: float32 [1, 64], 8 x 8 pixels from 0 to 16, row by row."""
    from graphpipe.demo.digits import arrays

    return arrays()["digit"].copy()


def how_to_ask(url: str) -> str:
    """Lines to paste into another terminal, while the model is served at ``url``."""
    call = f"print(remote.execute({url!r}, demo.digit(), output_name='label'))"
    # This very interpreter: whoever pastes the line may have activated no environment.
    lines = [f'{shlex.quote(sys.executable)} -c "from graphpipe import demo, remote; {call}"']
    if url.startswith("http"):
        lines.append(f"curl {url}/")
    return "\n".join(f"  {line}" for line in lines)
