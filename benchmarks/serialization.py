"""What does it cost to bring a tensor to bytes and back? The question of the first chart of 2018, asked again.

    python benchmarks/serialization.py [--full] [--save] [--rows N] [--rounds N] [--only NAME...] [--here]

A request of 128x224x224x3 float32 (77 MB) and a response of 128x7x7x512 (12.8 MB), serialised and deserialised in each
way that people use for it. Serialised means ready to be handed to the socket: one buffer, or parts that the kernel
gathers (sendmsg), which is said of each. Deserialised means an array, made of the bytes as they lie in memory when they
have come. Every answer is checked: the array that comes out is the one that went in.

`serialise` and `deserialise` are median milliseconds, `of memcpy x` the median of the ratios to a copy of the array into
warm memory in the same round, which nothing that copies can be faster than. `MB sent` counts the message without the
heads of HTTP or the frames of gRPC. Ways whose libraries cannot be in one environment run in processes of their own,
and all are asked in turn.

Text takes 10 to 20 s for one request. The short form measures a sixteenth of the rows and multiplies; how much a row of
that costs beside a row of half as many is said below the table. --full measures text whole. --here takes this
interpreter for all, with whatever libraries it has.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.harness.about import about  # noqa: E402
from benchmarks.harness.environment import Unavailable  # noqa: E402
from benchmarks.harness.environments import ENVIRONMENTS  # noqa: E402
from benchmarks.harness.question import answer  # noqa: E402
from benchmarks.harness.result import Result, Table  # noqa: E402
from benchmarks.harness.rounds import Measured, Ratio, interleaved, middle, ratio  # noqa: E402
from benchmarks.serializing.catalogue import FORMATS, LIKE, LIMIT, OURS, TEXT, Format  # noqa: E402
from benchmarks.serializing.workers import Workers  # noqa: E402

SIDES = ("request", "response")
DIRECTIONS = ("serialise", "deserialise")
ROWS = 128
BESIDE_TEXT = ("memcpy", OURS, *LIKE[TEXT])
SHARE = 16  # of the rows, text is measured on one in so many
COLUMNS = {
    "way": "way",
    "sent": "what is sent",
    "serialise_ms": "serialise, ms",
    "serialise_x": "of memcpy x",
    "deserialise_ms": "deserialise, ms",
    "deserialise_x": "of memcpy x",
    "megabytes": "MB sent",
    "remark": "",
}
PACKAGES = ("numpy", "orjson", "ujson", "tritonclient", "safetensors", "msgpack", "pyarrow", "flatbuffers")
# Seconds by the first chart of the project, of 2018, on a machine of then; 0 is what could not be seen in it.
THEN = {
    "ujson": ("JSON (ujson)", 1.73, 1.46, 0.45, 0.45),
    "tensorflow-serving": ("protobuf (TF-Serving)", 0.09, 0.15, 0.01, 0.01),
    OURS: ("GraphPipe", 0.05, 0, 0, 0),
}


def measure(options: argparse.Namespace) -> Result:
    """Ask all in turn; what will not install is left out and named in the notes."""
    wanted = [FORMATS[name] for name in options.only or FORMATS]
    text_rows = options.rows if options.full else max(1, options.rows // SHARE)
    fewer_rows = max(1, options.rows // SHARE if options.full else text_rows // 2)
    rounds = options.rounds or (30 if options.full else 8)
    with Workers(sys.executable if options.here else "") as workers:
        formats, left_out = _those_that_work(workers, wanted, fewer_rows)

        def ask(format: Format, side: str, rows: int) -> Callable[[], dict[str, float]]:
            return lambda: workers.ask(format, side, rows)

        ways, long = {}, {}
        for each in formats.values():
            for side in SIDES:
                if each.sent is not TEXT:
                    ways[f"{each.name} {side}"] = ask(each, side, options.rows)
                    continue
                # Text whole takes minutes a round, so it has fewer rounds, and the others are asked beside it.
                some = long if options.full else ways
                some[f"{each.name} {side}"] = ask(each, side, text_rows)
                some[f"{each.name} {side} fewer"] = ask(each, side, fewer_rows)
        found = interleaved(ways, rounds, "binary, whole" if options.full else "all")
        slow: Measured = {}
        if long:
            beside = {key: run for key, run in ways.items() if key.partition(" ")[0] in BESIDE_TEXT}
            slow = interleaved({**long, **beside}, min(rounds, 3), "text, whole")
    result = Result(
        "serialization",
        f"A tensor to bytes and back: a request of {options.rows}x224x224x3 float32, a response of {options.rows}x7x7x512",
        "python benchmarks/serialization.py" + (" --full" if options.full else ""),
        {**(about() if options.here else _about(formats)), "rounds": str(rounds)},
    )
    scale = options.rows / text_rows
    for side in SIDES:
        result.tables[side] = table(side, formats, found, slow, scale)
    notes = text_notes(formats, {**found, **slow}, options.rows, text_rows, fewer_rows)
    for side in SIDES:
        result.tables[side].notes += [*notes, *left_out]
    result.tables["then"] = then_and_now(result.tables)
    return result


def table(side: str, formats: Mapping[str, Format], found: Measured, slow: Measured, scale: float) -> Table:
    """One side's rows, in the order of the catalogue. ``slow`` are the rounds of whole text, with their own neighbours."""
    rows: list[dict[str, Any]] = []
    for each in formats.values():
        rounds = slow if f"{each.name} {side}" in slow and each.sent is TEXT else found
        way = f"{each.name} {side}"
        factor = scale if each.sent is TEXT else 1
        row: dict[str, Any] = {"way": each.label, "format": each.name, "sent": each.sent}
        if factor != 1:
            row["way"] += " *"
        for direction in DIRECTIONS:
            row[f"{direction}_ms"] = 1e3 * factor * middle(rounds[way], direction)
            if f"memcpy {side}" in rounds and each.name != "memcpy":
                row[f"{direction}_x"] = factor * ratio(rounds, way, f"memcpy {side}", direction).value
        row["megabytes"] = factor * middle(rounds[way], "bytes") / 1e6
        row["remark"] = remark(each, side, rounds, factor)
        rows.append(row)
    return Table(f"A {side}, bold is ours", dict(COLUMNS), rows)


def remark(each: Format, side: str, rounds: Measured, factor: float = 1) -> str:
    """What is to be known of a row; and why, if it is ahead of the row of ours that it is to be compared with."""
    ahead = []
    for direction in DIRECTIONS:
        like = LIKE.get(each.sent, ()) if direction == "serialise" else (OURS,)
        neighbours = [rounds[f"{name} {side}"] for name in like if f"{name} {side}" in rounds]
        if each.name.startswith(OURS) or each.sent == LIMIT or not neighbours:
            continue
        theirs = [factor * one[direction] for one in rounds[f"{each.name} {side}"]]
        beside = [Ratio(theirs, [one[direction] for one in ours]) for ours in neighbours]
        if all(one.high < 1 for one in beside):
            ahead.append(f"{direction} {max(one.value for one in beside):.2f}x of ours")
    if not ahead:
        return each.remark
    return f"{each.remark}. Ahead ({', '.join(ahead)}): {each.ahead or 'it is not known why'}"


def text_notes(formats: Mapping[str, Format], found: Measured, rows: int, measured: int, fewer: int) -> list[str]:
    """Whether text may be scaled: what a row costs beside a row of a smaller message."""
    seen = [
        ratio(found, way, f"{way} fewer", direction).value * fewer / measured
        for way in (f"{each.name} {side}" for each in formats.values() for side in SIDES)
        for direction in DIRECTIONS
        if f"{way} fewer" in found and measured != fewer
    ]
    if not seen:
        return []
    cost = (
        f"a row of it cost {median(seen):.2f} times ({min(seen):.2f} to {max(seen):.2f}, by format and direction) of what"
        f" it costs in a message of {fewer} rows"
    )
    if measured == rows:
        return [f"Text was measured whole; {cost}."]
    return [f"\\* Text was measured on {measured} of the {rows} rows and multiplied by {rows / measured:g}; {cost}."]


def then_and_now(tables: Mapping[str, Table]) -> Table:
    """The ways of the chart of 2018 beside the same of today, in its unit. What was not measured now has no figure."""
    rows = []
    for name, (label, *seconds) in THEN.items():
        cells = [(side, direction) for side in SIDES for direction in DIRECTIONS]
        for (side, direction), then in zip(cells, seconds, strict=True):
            row = {"way": label, "what": f"{side}, {direction}", "format": name, "key": f"{side}_{direction}"}
            now = [one[f"{direction}_ms"] / 1e3 for one in tables[side].rows if one["format"] == name]
            rows.append({**row, "then_s": then, "now_s": now[0] if now else None})
    columns = {"way": "way", "what": "what", "then_s": "2018, s", "now_s": "now, s"}
    notes = [
        "2018 was another machine, and 0 is less than its chart could show.",
        "What numbers were sent then, and with how many digits, is not known: text of few digits is short. Here every float"
        " is written so that it is the same again.",
    ]
    return Table("The chart of 2018, then and now", columns, rows, notes)


def _those_that_work(workers: Workers, wanted: Sequence[Format], rows: int) -> tuple[dict[str, Format], list[str]]:
    """Those whose round trip gives the arrays back, and sentences about the others."""
    work, left_out = {}, []
    for each in wanted:
        try:
            for side in SIDES:
                workers.ask(each, side, rows)
        except Unavailable as problem:
            left_out.append(f"Left out: {each.label}: {problem}.")
        else:
            work[each.name] = each
    return work, left_out


def _about(formats: Mapping[str, Format]) -> dict[str, str]:
    used = {each.environment for each in formats.values()}
    versions = about()
    if "formats" in used:
        versions |= ENVIRONMENTS["formats"].versions(*PACKAGES)
    if "tensorflow-serving" in used:
        versions |= ENVIRONMENTS["tensorflow-serving"].versions("tensorflow-serving-api", "tensorflow-cpu", "protobuf")
    return versions


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows of request and response; default: {ROWS}")
    parser.add_argument("--rounds", type=int, help="default: 8, with --full 30, and 3 of whole text")
    parser.add_argument("--only", nargs="+", choices=FORMATS, metavar="NAME", help=f"of {', '.join(FORMATS)}")
    parser.add_argument("--here", action="store_true", help="in this interpreter, with whatever libraries it has")


if __name__ == "__main__":
    answer(measure, __doc__, flags)
