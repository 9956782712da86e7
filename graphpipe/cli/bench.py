"""``graphpipe bench``: how fast a server answers, or a model in this process, or both beside one another."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphpipe.cli.tls import tls_options
from graphpipe.commandline import Argument, Command, option
from graphpipe.completion import Offered, source

if TYPE_CHECKING:
    import asyncio

    from graphpipe.bench.load import Load
    from graphpipe.bench.measure import Measured, Times, Watch

__all__ = ["command"]

_ABOUT = """\
Measure how fast a model answers.

TARGET is a server's URL, or what graphpipe-serve --model takes: that is run in this process, by as many threads as a server
would have, and shows what the machine could do without one. Two targets are measured in turn, round by round, and
compared. What is sent is made up from what the model says it takes, unless --input says it.
"""

_EXAMPLES = """\
examples:
  graphpipe bench http://127.0.0.1:9000
  graphpipe bench http://127.0.0.1:9000 --concurrency 1,4,16 --batch 8
  graphpipe bench http://127.0.0.1:9000 --rate 200 --seconds 5
  graphpipe bench http://127.0.0.1:9000 --input digit.npy --picture latency.svg
  graphpipe bench http://127.0.0.1:9000 digits.onnx --concurrency 8
  graphpipe bench http://127.0.0.1:9000 unix:/tmp/graphpipe.sock
  graphpipe bench http://127.0.0.1:9000 --json > before.json
  graphpipe bench http://127.0.0.1:9000 --against before.json

Latencies are in milliseconds. With --concurrency each caller asks again when it is answered (a closed loop: how much can
it carry?); with --rate requests come by the clock, and latencies count from when each was due (an open loop: how long do
callers wait?). The status is 0 if every answer was good, 1 if any was not, 130 after Ctrl-C, which prints what there is.
"""


def command(about_inputs: Sequence[click.Parameter], forms: str) -> Command:
    """The command; ``about_inputs`` are the options of others that say what a model is asked, ``forms`` is their help."""
    from graphpipe.server.settings.options import loading

    load, time, sent, out = "Load", "Time", "What is sent", "What comes of it"
    return Command(
        "bench", help=_ABOUT, callback=_bench, examples=forms + _EXAMPLES,
        params=[
            Argument("targets", metavar="TARGET [TARGET]", nargs=-1, required=True, type=Offered(source),
                     help="One, or two to compare: http://HOST:PORT[/models/NAME], https://..., unix:/path.sock, a model."),
            option("--concurrency", section=load, metavar="N[,N...]", type=_Several(int, 1, 10000), multiple=True,
                   help="Callers, each of whom asks again when it is answered; a line for each number.  [default: 1]"),
            option("--rate", section=load, metavar="R[,R...]", type=_Several(float, 0.001, 1e6), multiple=True,
                   help="Requests a second, by the clock, whether the earlier ones were answered or not."),
            option("--poisson", section=load, is_flag=True, help="With --rate: at random moments, as many callers come."),
            option("--connections", section=load, metavar="N", type=click.IntRange(1, 10000), default=256, show_default=True,
                   help="With --rate: how many there may be; requests that find none free wait."),
            option("--threads", section=load, metavar="N", type=click.IntRange(1, 1024),
                   help="Of a model in this process.  [default: as a server, one for each CPU]"),
            option("--seconds", section=time, metavar="SECONDS", type=_SECONDS, default=30, show_default=True,
                   help="How long each load is measured, at most."),
            option("--until-stable/--whole-time", section=time, default=True, show_default=False,
                   help="End early when three windows in a row agree within 5 %, as is the default, or not."),
            option("--window", section=time, metavar="SECONDS", type=_SECONDS, default=1, show_default=True,
                   help="The length of a window; slow models get longer ones."),
            option("--warm-up", section=time, metavar="SECONDS", type=click.FloatRange(0), default=1, show_default=True,
                   help="What is asked before anything is measured."),
            option("timeout_s", "--timeout-s", "--timeout", section=time, metavar="SECONDS", type=_SECONDS, default=60,
                   show_default=True, help="For a request; one that takes longer is an error."),
            option("--batch", section=sent, metavar="N", type=click.IntRange(1), default=1, show_default=True,
                   help="Rows of a request that is made up."),
            option("--shape", section=sent, metavar="NAME=N[,N...]", multiple=True,
                   help="The shape of an input, where the model leaves more than its rows open."),
            option("--seed", section=sent, metavar="N", type=click.IntRange(0), default=0, show_default=True,
                   help="Of the values that are made up."),
            option("--variants", section=sent, metavar="N", type=click.IntRange(1, 10000), default=1, show_default=True,
                   help="Different requests, in turn: for servers that remember answers (--cache)."),
            option("--api-key", section=sent, metavar="KEY", envvar="GRAPHPIPE_API_KEY",
                   help="Sent as Authorization: Bearer KEY.  [env: GRAPHPIPE_API_KEY]"),
            option("--header", section=sent, metavar="NAME:VALUE", multiple=True, help="Sent with each request."),
            *tls_options(sent),
            *about_inputs,
            option("as_json", "--json", section=out, is_flag=True, help="Print one object of JSON, and nothing else."),
            option("--csv", section=out, metavar="FILE", type=click.Path(),
                   help="Write a line for each run; to standard output, in place of words, if it is -."),
            option("--picture", section=out, metavar="FILE.svg", type=click.Path(),
                   help="Draw how many answers took how long."),
            option("--against", section=out, metavar="FILE.json", type=click.Path(),
                   help="Compare with what --json printed earlier."),
            *loading(),
        ],
    )  # fmt: skip


if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # older releases of click cannot be subscripted


class _Several(_ParamType):
    """Numbers, separated by commas."""

    name = "numbers"

    def __init__(self, kind: type, least: float, most: float) -> None:
        self._kind, self._least, self._most = kind, least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        numbers = []
        with contextlib.suppress(ValueError):
            numbers = [self._kind(word) for word in str(value).split(",")]
        if numbers and all(self._least <= number <= self._most for number in numbers):
            return numbers
        what = "whole numbers" if self._kind is int else "numbers"
        return self.fail(
            f"expected {what} of {self._least:g} to {self._most:,g}, separated by commas; {value!r} came", param, ctx
        )


_SECONDS = click.FloatRange(0, 86400, min_open=True)


def _bench(
    targets: tuple[str, ...],
    concurrency: tuple[list[int], ...],
    rate: tuple[list[float], ...],
    poisson: bool,
    seconds: float,
    until_stable: bool,
    window: float,
    warm_up: float,
    seed: int,
    as_json: bool,
    csv: str | None,
    picture: str | None,
    against: str | None,
    **more: Any,
) -> int:
    from graphpipe.bench.load import Load
    from graphpipe.bench.measure import Times
    from graphpipe.bench.results import read_earlier

    if len(targets) > 2:
        raise click.UsageError(f"one target is measured, or two are compared; {len(targets)} came")
    if concurrency and rate:
        raise click.UsageError("--concurrency is a closed loop and --rate an open one; give one of them")
    if poisson and not rate:
        raise click.UsageError("--poisson says when requests come; give --rate, how many do")
    if as_json and csv == "-":
        raise click.UsageError("--json and --csv - both want standard output; give --csv a file")
    if picture and Path(picture).suffix.lower() != ".svg":
        raise click.UsageError(f"--picture: expected a file .svg; {picture!r} came")
    for file in (csv, picture):
        if file and file != "-" and not Path(file).absolute().parent.is_dir():
            raise click.UsageError(f"{file!r} cannot be written: there is no such folder")
    earlier = read_earlier(against) if against else []
    loads = [Load(callers=n) for several in concurrency for n in several]
    loads += [Load(rate=r, poisson=poisson, seed=seed) for several in rate for r in several]
    times = Times(seconds, warm_up, min(window, seconds), until_stable)
    found = _run(lambda watch: _measured(targets, loads or [Load(callers=1)], times, watch, {"seed": seed, **more}))
    return _tell(found, earlier, as_json=as_json, csv=csv, picture=picture, against=against or "")


def _run(work: Callable[[Watch], Coroutine[Any, Any, list[list[Measured]]]]) -> list[list[Measured]]:
    """Run a measurement on the quickest event loop that is here; Ctrl-C asks for its end."""
    import asyncio

    from graphpipe.bench.measure import Watch
    from graphpipe.progress import Progress

    async def main() -> list[list[Measured]]:
        with Progress("", delay_s=0) as progress:
            watch = Watch(progress.show)
            loop = asyncio.get_running_loop()

            def stop() -> None:
                loop.remove_signal_handler(signal.SIGINT)  # another one ends us
                watch.stopped.set()

            # Not on Windows, and not in a thread of somebody's.
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                loop.add_signal_handler(signal.SIGINT, stop)
            try:
                return await work(watch)
            finally:
                with contextlib.suppress(NotImplementedError):
                    loop.remove_signal_handler(signal.SIGINT)

    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:
        pass
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


async def _measured(
    targets: Sequence[str], loads: Sequence[Load], times: Times, watch: Watch, asked: Mapping[str, Any]
) -> list[list[Measured]]:
    from graphpipe.bench.measure import measure
    from graphpipe.cli.targets import refuse_unused, target

    refuse_unused(targets, asked)
    found: list[list[Measured]] = []
    async with contextlib.AsyncExitStack() as stack:
        callees = [await stack.enter_async_context(target(each, asked)) for each in targets]
        for load in loads:
            found.append(await measure(callees, load, times, watch))
            if watch.stopped.is_set():
                break
    return found


def _tell(
    found: list[list[Measured]],
    earlier: list[dict[str, Any]],
    *,
    as_json: bool,
    csv: str | None,
    picture: str | None,
    against: str,
) -> int:
    """Print and write what came of it, and give the exit status."""
    from graphpipe.bench import report, results
    from graphpipe.bench.picture import svg

    measured = [each for of_one_load in found for each in of_one_load]
    runs = [results.numbers(each) for each in measured]
    latencies = [results.latencies_of(each) for each in measured]
    comparisons = [results.compared(*pair) for pair in found if len(pair) == 2]
    since = results.against(runs, earlier)
    if earlier and not since:
        print(f"graphpipe bench: {against} has no run with a load of these", file=sys.stderr)
    if csv and csv != "-":
        Path(csv).write_text(report.as_csv(runs), "utf-8")
    sent = "; ".join(dict.fromkeys(str(each.callee.request) for each in measured))
    if picture:
        titles = " and ".join(dict.fromkeys(each.callee.title for each in measured))
        Path(picture).write_text(svg(f"Latency of {titles}", f"sent: {sent}", runs, latencies), "utf-8")
    if as_json:
        single = (
            runs[0] if len(runs) == 1 and not since else {"runs": runs, "comparisons": comparisons, "against": since}
        )
        print(json.dumps(single))
    elif csv == "-":
        print(report.as_csv(runs), end="")
    else:
        print(report.as_text(runs, latencies, sent, comparisons, since, against))
    if any(each.interrupted for each in measured):
        if as_json or csv == "-":
            print("graphpipe bench: interrupted; this is what was measured until then", file=sys.stderr)
        return 130
    return 1 if any(each.failures for each in measured) else 0
