"""Problems: what a model is to take and give, whichever framework it is of, and tests of whether it does."""

from __future__ import annotations

from graphpipe.problem.case import Case, Difference
from graphpipe.problem.problem import Problem

__all__ = ["Case", "Difference", "Problem"]
