"""``graphpipe.compare``: models of one problem beside one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphpipe.backends.options import LoadOptions
from graphpipe.backends.python.finding import found as found_function
from graphpipe.backends.unused import Said
from graphpipe.comparison.contest import Contender, Contest
from graphpipe.comparison.difference import Tolerance
from graphpipe.comparison.metric import judge_of
from graphpipe.comparison.opening import named, opened
from graphpipe.comparison.result import Comparison, comparison_of
from graphpipe.comparison.sources import source_of
from graphpipe.problem import Problem
from graphpipe.problem.given import problem_given
from graphpipe.progress import Progress
from graphpipe.setting import declared_in, read_keywords

__all__ = ["Wanted", "compare", "run"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be compared, and how; ``compare`` explains each."""

    data: object = None
    problem: Problem | str | Path | None = None
    metric: object = None
    batch: int = 1
    repeat: int = 1
    warm_up: int = 1
    tolerance: Tolerance = field(default_factory=Tolerance)
    scores: Sequence[str] = ()
    truth: Sequence[str] = ()
    timeout_s: float | None = None
    cast: bool = False


def compare(
    models: Mapping[str, Any] | Sequence[Any],
    data: object = None,
    *,
    problem: Problem | str | Path | None = None,
    metric: object = None,
    batch: int = 1,
    repeat: int = 1,
    warm_up: int = 1,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    scores: Sequence[str] = (),
    truth: Sequence[str] = (),
    timeout: float | None = None,
    cast: bool = False,
    backend: str = "",
    **options: Any,
) -> Comparison:
    """Ask several models the same, in turn, and hold their answers against those of the first.

    ``models`` are a list, or a mapping from names: sources as ``graphpipe.load`` takes them (a file, a server's URL,
    ``module:function``), functions, loaded models and clients. ``problem`` is a graphpipe.Problem or a file with one: all of
    them are asked by its names, and hold its promises. Without it that of the first model is meant, if that is a package;
    else the models' own names say what is what.

    ``data`` is an ``.npz`` or a Parquet file, a folder of ``.npz`` files (a call each) or of ``.npy`` files (an input each),
    a mapping of arrays, a frame, or a sequence of mappings; without it the problem's tests. What it holds beside the inputs
    is what is expected (``truth`` names that, where it is some of it). ``batch`` is how many rows one call has. All of it is
    asked ``repeat`` times over; differences and the metric are of the first pass, times of all.

    ``metric`` is a function of inputs, outputs and truth (each a mapping of arrays), asked for every call, whose numbers are
    averaged over rows; or a class with ``update(inputs, outputs, truth)`` and ``result()``; or ``"module:function"``.
    ``scores`` names the outputs whose highest element is looked at; without it those that are probabilities.
    ``timeout`` is in seconds, for each call. ``cast`` converts numbers to the types that are taken. ``options`` are those
    of ``graphpipe.load``, for all models that are loaded.

    Raises GraphPipeError for a model that cannot be loaded or asked, ValueError for data that do not fit, OSError.
    """
    declared = declared_in(LoadOptions)
    values = read_keywords("compare", declared, options)
    said = {each: Said(f"argument {each}") for each, value in values.items() if value != declared[each][1]}
    wanted = Wanted(
        data, problem, metric, batch, repeat, warm_up, Tolerance(rtol, atol), tuple(scores), tuple(truth), timeout, cast
    )
    return run(models, wanted, LoadOptions(**values), said, backend)


def run(
    models: Mapping[str, Any] | Sequence[Any],
    wanted: Wanted,
    options: LoadOptions,
    said: Mapping[str, Said],
    backend: str = "",
    *,
    keep: bool = False,
) -> Comparison:
    """The same, of what is wanted. ``keep``: Ctrl-C ends it with what there is until then.

    Raises what ``compare`` does.
    """
    with Progress("", delay_s=0.3) as progress, _contest(models, wanted, options, said, backend) as (contest, problem):
        interrupted = False
        try:
            contest.warm_up(wanted.warm_up)
            contest.run(wanted.repeat, progress.show)
        except KeyboardInterrupt:
            if not keep:
                raise
            interrupted = True
        return comparison_of(contest, problem, interrupted)


@contextmanager
def _contest(
    models: Mapping[str, Any] | Sequence[Any],
    wanted: Wanted,
    options: LoadOptions,
    said: Mapping[str, Said],
    backend: str,
) -> Iterator[tuple[Contest, str]]:
    """Everybody at the start, and the problem's name."""
    for what, number, least in (
        ("batch", wanted.batch, 1),
        ("repeat", wanted.repeat, 1),
        ("warm_up", wanted.warm_up, 0),
    ):
        if number < least:
            raise ValueError(f"{what} is {least} or more; {number} came")
    metric: Any = wanted.metric
    if isinstance(metric, str):
        metric, called = found_function(metric), metric.rpartition(":")[2]
    else:
        called = getattr(metric, "__name__", "metric")
    posed = None if wanted.problem is None else problem_given(wanted.problem)
    with opened(named(models), posed, options, said, backend) as (found, problem):
        signature = found[0].signature
        data = wanted.data
        if data is None:
            data = () if problem is None else problem.tests
            if not data:
                lacks = "" if problem is None else ": the problem has no tests"
                raise ValueError(f"there is nothing to ask{lacks}; give data")
        source = source_of(data, signature, wanted.batch, wanted.truth)
        outputs = [spec.name for spec in signature.outputs]
        if outputs and (unknown := [name for name in wanted.scores if name not in outputs]):
            raise ValueError(f"scores: there is no output {unknown[0]!r}; there are {', '.join(map(repr, outputs))}")
        judges = [None if metric is None else judge_of(metric, called) for _ in found]
        contenders = [
            Contender(each.name, each.source, each.model, each.names, each.signature, judge)
            for each, judge in zip(found, judges, strict=True)
        ]
        contest = Contest(
            contenders, source, tolerance=wanted.tolerance, scores=wanted.scores, timeout_s=wanted.timeout_s,
            cast=wanted.cast,
        )  # fmt: skip
        yield contest, "" if problem is None else problem.name or _file_of(wanted.problem)


def _file_of(problem: object) -> str:
    return Path(problem).stem if isinstance(problem, str | Path) else "the problem"
