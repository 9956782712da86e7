"""How long a stranger waits: from a clone, a wheel, a function and a notebook to the first answer.

    python scripts/stranger.py [STEP...]        # clone, wheel, function, notebook; all unless named

`clone` and `wheel` need the package index, and are done once, with nothing in pip's cache, for that is how a stranger does
them; `function` and `notebook` are done 5 times, each in a new interpreter, and the median counts. What is waited for is
checked: every step ends with the right answer.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

FUNCTION = """
import graphpipe
def double(x):
    return 2 * x
with graphpipe.serving(double) as server:
    print(graphpipe.remote.execute(server.url, [1, 2]).tolist())
"""

# The model is there already when a notebook's user comes to serve it; what counts are the cells after that.
NOTEBOOK = """
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
flowers = load_iris()
model = LogisticRegression(max_iter=1000).fit(flowers.data, flowers.target)
import time
began = time.perf_counter()
import graphpipe
server = graphpipe.serving(model.predict)
print(graphpipe.remote.execute(server.url, flowers.data[::50]).tolist())
print(time.perf_counter() - began)
server.stop()
"""

ASK = """
import sys
from graphpipe import demo, remote
print(remote.execute(sys.argv[1], demo.digit(), output_name="label").tolist())
"""


def clone(folder: Path, times: int) -> float:
    """`git clone`, `make demo`: the set-up of .venv, the server, a digit, its answer."""
    began = time.perf_counter()
    run("git", "clone", "--quiet", str(ROOT), str(folder / "clone"))
    assert "says: 7   " in run("make", "demo", "PORT=0", folder=folder / "clone")
    return time.perf_counter() - began


def wheel(folder: Path, times: int) -> float:
    """A new environment, the wheel with the server extra, `graphpipe-serve --demo`, a call. The wheel is there before."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), folder=ROOT)
    (built,) = folder.glob("*.whl")
    began = time.perf_counter()
    run(sys.executable, "-m", "venv", str(folder / "venv"))
    programs = folder / "venv" / "bin"
    constraints = str(ROOT / "constraints.txt")
    install = (str(programs / "pip"), "install", "--quiet", "--no-cache-dir", "-c", constraints, f"{built}[server]")
    run(*install)
    command = [str(programs / "graphpipe-serve"), "--demo", "--listen", "127.0.0.1:0", "--drain-grace-s", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        assert run(str(programs / "python"), "-c", ASK, url) == "[7]\n"
        seconds = time.perf_counter() - began
        server.terminate()
    return seconds


def function(folder: Path, times: int) -> float:
    """A new interpreter, a function, `graphpipe.serving`, a call, the end."""

    def once() -> float:
        began = time.perf_counter()
        assert run(sys.executable, "-c", FUNCTION, folder=folder) == "[2, 4]\n"
        return time.perf_counter() - began

    return statistics.median(once() for _ in range(times))


def notebook(folder: Path, times: int) -> float:
    """From `import graphpipe` to the answer, where numpy, scikit-learn and the model are there already."""

    def once() -> float:
        answer, seconds = run(sys.executable, "-c", NOTEBOOK, folder=folder).splitlines()
        assert answer == "[0, 1, 2]"
        return float(seconds)

    return statistics.median(once() for _ in range(times))


STEPS: dict[str, tuple[str, Callable[[Path, int], float]]] = {
    "clone": ("clone to first answer: git clone, make demo", clone),
    "wheel": ("wheel to first answer: venv, pip install, graphpipe-serve --demo, a call", wheel),
    "function": ("function to answer: a new interpreter, graphpipe.serving, a call, the end", function),
    "notebook": ("notebook to answer: import graphpipe, graphpipe.serving, a call", notebook),
}


def run(*command: str, folder: Path | None = None) -> str:
    """What a command prints. Raises RuntimeError, with its words, where it fails."""
    not_a_strangers = ("PIP_CACHE_DIR", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PORT")
    environment = {name: value for name, value in os.environ.items() if name not in not_a_strangers}
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Do the steps, and print a row of a table for each."""
    parser = argparse.ArgumentParser(description="Time a stranger's first answer.")
    parser.add_argument("step", nargs="*", help=f"of {', '.join(STEPS)}; default: all")
    parser.add_argument("--times", type=int, default=5, help="runs of each quick step")
    options = parser.parse_args()
    steps = options.step or list(STEPS)
    if unknown := set(steps) - STEPS.keys():
        parser.error(f"there is no step {min(unknown)!r}; there are {', '.join(STEPS)}")
    print(f"load before: {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores\n\n| path | seconds |\n|---|---|")
    for step in steps:
        words, measure = STEPS[step]
        with tempfile.TemporaryDirectory() as folder:
            print(f"| {words} | {measure(Path(folder), options.times):.1f} |", flush=True)


if __name__ == "__main__":
    main()
