"""An input whose copy is under way before the call that needs it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sealed"]


class Sealed:
    """An array that is being copied to where its model takes it from, in a thread: numpy's copies let others run."""

    def __init__(self, array: NDArray[Any], target: NDArray[Any]) -> None:
        self._target = target
        self._thread = threading.Thread(target=np.copyto, args=(target, array), name="sealing", daemon=True)
        self._thread.start()

    def array(self) -> NDArray[Any]:
        """The copy, when it is whole."""
        self._thread.join()
        return self._target
