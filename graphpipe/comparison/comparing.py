"""``graphpipe.compare``: models of one problem beside one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

from graphpipe.backends.find import load
from graphpipe.backends.keywords import LoadKeywords
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.python.finding import found as found_function
from graphpipe.backends.unused import Said
from graphpipe.comparison.contest import Contender, Contest
from graphpipe.comparison.difference import Tolerance
from graphpipe.comparison.metric import judge_of
from graphpipe.comparison.opening import named, opened, problem_of
from graphpipe.comparison.result import Comparison, comparison_of
from graphpipe.comparison.sources import source_of
from graphpipe.problem import Problem
from graphpipe.progress import Progress
from graphpipe.setting import declared_in, read_keywords

__all__ = ["Asking", "compare"]
