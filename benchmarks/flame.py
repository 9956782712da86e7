"""Draws where time goes: a flame graph of the server while small requests are hammered at it.

    python benchmarks/flame.py [--seconds N] [--output docs/images/small-request.svg]

Needs py-spy (pip install py-spy), which looks at the server's stack some hundred times a second from outside. Each box is a
function; its width is the share of samples in which it was on the stack, what it called stands above it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.harness.load import run_load  # noqa: E402
from benchmarks.harness.servers import running  # noqa: E402

WIDTH, ROW = 1200, 18
Tree = dict[str, "Box"]


class Box:
    """A function on the stack, called from one place: its samples, and what it called."""

    def __init__(self) -> None:
        self.samples = 0
        self.calls: Tree = {}


def stacks(seconds: int) -> list[tuple[list[str], int]]:
    """Sampled stacks of the server, outermost function first, each with how often it was seen."""
    with running("front", cpu=0) as server, tempfile.NamedTemporaryFile() as raw:
        load = threading.Thread(target=run_load, args=(server.port, 64, seconds + 2, 1))
        load.start()
        command = ["py-spy", "record", "-p", str(server.process.pid), "-d", str(seconds), "-r", "400", "-f", "raw"]
        subprocess.run([*command, "-o", raw.name], check=True, capture_output=True)
        load.join()
        lines = Path(raw.name).read_text().splitlines()
    found = []
    for line in lines:
        stack, _, count = line.rpartition(" ")
        names = [frame.partition(" (")[0] for frame in stack.split(";")]
        if "buffer_updated" in stack or "_write_now" in stack or "Runner.run" in stack:
            found.append((names, int(count)))
    return found


def tree(found: list[tuple[list[str], int]]) -> Box:
    """The stacks as one tree."""
    root = Box()
    for names, count in found:
        root.samples += count
        at = root
        for name in names:
            at = at.calls.setdefault(name, Box())
            at.samples += count
    return root


def boxes(box: Box, total: int, left: float, depth: int) -> Iterator[tuple[str, float, float, int]]:
    """Name, left edge, width and depth of each box that is wide enough to see."""
    for name, call in sorted(box.calls.items(), key=lambda item: -item[1].samples):
        width = WIDTH * call.samples / total
        if width >= 2:
            yield name, left, width, depth
            yield from boxes(call, total, left, depth + 1)
        left += width


def drawing(root: Box) -> str:
    """The tree as SVG."""
    placed = list(boxes(root, root.samples, 0.0, 0))
    deepest = max(depth for *_, depth in placed)
    height = (deepest + 1) * ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="11">'
    ]
    for name, left, width, depth in placed:
        top, share = height - (depth + 1) * ROW, 100 * width / WIDTH
        colour = f"hsl({20 + sum(map(ord, name)) % 35}, 80%, 65%)"
        shown = escape(name[: max(0, int(width / 7))])
        parts.append(
            f'<g><title>{escape(name)}: {share:.1f} %</title><rect x="{left:.1f}" y="{top}" width="{width - 0.5:.1f}" '
            f'height="{ROW - 1}" fill="{colour}"/><text x="{left + 3:.1f}" y="{top + 13}">{shown}</text></g>'
        )
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Sample, draw, and print the functions with the most time of their own."""
    parser = argparse.ArgumentParser(description="Draw where a small request's time goes.")
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/images/small-request.svg")
    options = parser.parse_args()
    if shutil.which("py-spy") is None:
        sys.exit("py-spy is not here: pip install py-spy")
    found = stacks(options.seconds)
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(drawing(tree(found)))
    own: dict[str, int] = {}
    for names, count in found:
        own[names[-1]] = own.get(names[-1], 0) + count
    total = sum(own.values())
    for name, count in sorted(own.items(), key=lambda item: -item[1])[:15]:
        print(f"{100 * count / total:5.1f} %  {name}")


if __name__ == "__main__":
    main()
