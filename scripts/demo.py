"""Serve the digit model, ask it about one digit over the socket, and say what to try next.

    python scripts/demo.py [--port N] [--keep-serving]

The server is the real one, ``graphpipe-serve``, in a process of its own, and the call is one that a user would write.
With ``--keep-serving`` it serves until Ctrl-C or SIGTERM; either way, what went well ends with status 0.
"""

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import graphpipe.remote

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits"
START_S_MAX = 60
STOP_S_MAX = 15
SHADES = " .:-=+*#%@"


class DemoFailed(Exception):
    """The one line that the caller gets to read."""


class Stopped(Exception):
    """Somebody asked us to stop: Ctrl-C, SIGTERM, or a make that is gone."""


def main() -> None:
    """Parse the command line and run the demo."""
    parser = argparse.ArgumentParser(description="Serve the digit model and classify one digit.")
    parser.add_argument("--port", default="9000", help="0 takes a free one")
    parser.add_argument("--keep-serving", action="store_true")
    options = parser.parse_args()
    if not options.port.isdecimal() or int(options.port) > 65535:
        raise DemoFailed(f"PORT is a number from 0 to 65535, not {options.port!r}")
    make = Parent()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    with terminal_of_our_own(), contextlib.suppress(Stopped), server(f"127.0.0.1:{options.port}") as (process, url):
        classify_one(url)
        say_what_to_try(url, options.keep_serving)
        if options.keep_serving:
            print(f"Serving on {url} until Ctrl-C.", flush=True)
            wait_for(process, make)


def stop(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: the rest of the way out is not to be interrupted
    raise Stopped


@contextlib.contextmanager
def server(listen: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A running ``graphpipe-serve`` and its URL; stopped, and waited for, at the end of the block."""
    program = Path(sys.executable).with_name("graphpipe-serve")
    command = [str(program), "--model", str(DIGITS / "digits.onnx"), "--listen", listen]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    url = ""
    try:
        url = url_of(process)
        yield process, url
    finally:
        process.terminate()
        try:
            status = process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            raise DemoFailed(f"the server did not end within {STOP_S_MAX} s of SIGTERM, and was killed") from None
        if url and status != 0:
            raise DemoFailed(f"the server ended with status {status} instead of 0")


def url_of(process: "subprocess.Popen[str]") -> str:
    """Wait for the server's word that it listens; what it says before and after goes to stderr."""
    urls: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=pass_on, args=(process, urls), daemon=True).start()
    try:
        url = urls.get(timeout=START_S_MAX)
    except queue.Empty:
        raise DemoFailed(f"the server did not listen within {START_S_MAX} s") from None
    if url is None:
        process.wait()
        raise SystemExit(process.returncode or 1)  # it has said why
    return url


def pass_on(process: "subprocess.Popen[str]", urls: "queue.Queue[str | None]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if "listening on " in line:
            urls.put(line.split("listening on ", 1)[1].split()[0])
        else:
            print(line, end="", file=sys.stderr, flush=True)
    urls.put(None)


def classify_one(url: str) -> None:
    """Send the bundled digit through the socket, and print it and the answer."""
    pixels = np.load(DIGITS / "digit.npy")
    expected = json.loads((DIGITS / "digit.json").read_text())["label"]
    answer = int(graphpipe.remote.execute(url, pixels, output_name="label")[0])
    print(f"{drawn(pixels)}\n\nThe model at {url} says: {answer}   (whoever wrote it says: {expected})\n", flush=True)
    if answer != expected:
        raise DemoFailed(f"the model took a {expected} for a {answer}")


def say_what_to_try(url: str, keep_serving: bool) -> None:
    """Commands to paste."""
    where = "from another terminal in this folder"
    print(f"Ask it yourself, {where}:" if keep_serving else f"`make serve` keeps it serving; then ask it {where}:")
    call = f'graphpipe.remote.execute("{url}", numpy.load("examples/digits/digit.npy"), output_name="label")'
    print(f"  .venv/bin/python -c 'import graphpipe, numpy; print({call})'")
    print(f"  curl {url}/\n", flush=True)


def drawn(pixels: "np.ndarray") -> str:
    """An 8 x 8 image with values from 0 to 16 as text, two characters a pixel."""
    rows = (pixels.reshape(8, 8) / 16 * (len(SHADES) - 1)).astype(int)
    return "\n".join(("    " + "".join(SHADES[value] * 2 for value in row)).rstrip() for row in rows)


class Parent:
    """The make that runs us, as it was at first."""

    def __init__(self) -> None:
        self._pid = os.getppid()
        self._minds_sigint = catches_sigint(self._pid)

    def wants_us_to_stop(self) -> bool:
        """Whether it is gone, or had a SIGINT of its own.

        Such a make passes the signal on to nobody and waits for us, for ever; what shows is that it no longer catches the
        next one.
        """
        return os.getppid() != self._pid or catches_sigint(self._pid) != self._minds_sigint


def wait_for(process: "subprocess.Popen[str]", make: Parent) -> None:
    """Sleep until a signal says stop, make does, or the server ends by itself, which it should not."""
    while True:
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            if make.wants_us_to_stop():
                raise Stopped from None
        else:
            raise DemoFailed(f"the server ended by itself with status {process.returncode}")


def catches_sigint(pid: int) -> bool:
    """Whether a process has a handler for SIGINT."""
    with contextlib.suppress(OSError):  # it is gone, or this is no Linux
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGINT - 1) & 1)
    return False


@contextlib.contextmanager
def terminal_of_our_own() -> Iterator[None]:
    """Take the terminal's keys from make for a while.

    Ctrl-C goes to all processes in the foreground of a terminal. A make that gets it ends with an error, however well
    its recipe ends; one that does not get it ends as the recipe does. So this process and the server go to the
    foreground alone, as a shell's jobs do, and Ctrl-C is ours to handle.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
        before = os.tcgetpgrp(terminal)
    except OSError:  # no terminal: nothing to take
        yield
        return
    if before != os.getpgrp():  # in the background already: Ctrl-C reaches neither make nor us
        os.close(terminal)
        yield
        return
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # else giving the terminal back would stop us
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # Ctrl-Z: make would wait for a stopped child, unable to be woken
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.tcsetpgrp(terminal, before)
        os.close(terminal)


if __name__ == "__main__":
    try:
        main()
    except DemoFailed as problem:
        sys.exit(str(problem))
