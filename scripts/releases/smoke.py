"""A release as somebody meets it who has installed it a moment ago: run by the Python of a clean environment.

    python -I smoke.py VERSION base|onnx

``base``: the client and the commands are there, and who wants to serve is told what to install. ``onnx``: a Python
function and an ONNX file are served by one server, called, and ended by SIGTERM. The current folder has digits/.
"""

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

BIN = Path(sys.executable).parent
DOUBLE = '''"""A model of one line."""

import numpy as np


def double(x: np.ndarray) -> np.ndarray:
    return 2 * x
'''


def main() -> None:
    version, what = sys.argv[1:]
    for command in ("graphpipe", "graphpipe-serve"):
        assert said(command, "--version") == f"{command} {version}\n"
    base() if what == "base" else onnx(version)


def base() -> None:
    import graphpipe
    from graphpipe import remote

    assert callable(remote.execute)
    assert graphpipe.Client("http://127.0.0.1:9") is not None
    done = subprocess.run([BIN / "graphpipe-serve", "--model", "echo"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "graphpipe-rpc[server]" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr


def onnx(version: str) -> None:
    import numpy as np

    import graphpipe

    Path("double.py").write_text(DOUBLE)
    told = ["--model", "digits=digits/digits.onnx", "--model", "double=double.py:double", "--listen", "127.0.0.1:0"]
    with Path("log").open("wb") as log:
        server = subprocess.Popen([BIN / "graphpipe-serve", *told], stdout=subprocess.PIPE, stderr=log)
    try:
        url = ""
        for line in server.stdout or ():
            if b"listening on " in line:
                url = line.decode().rpartition(" ")[2].strip()
                break
        assert url, f"it did not start: {Path('log').read_text()}"
        pixels = np.load("digits/digit.npy").reshape(1, 64)
        assert np.array_equal(graphpipe.remote.execute(url, pixels, output_name="label"), [7])
        with graphpipe.Client(f"{url}/models/double") as client:
            x = np.arange(6, dtype=np.float32).reshape(2, 3)
            assert np.array_equal(client.execute(x), 2 * x)
        assert f"graphpipe/{version}" in said("graphpipe", "metadata", url, "--json")
        assert urllib.request.urlopen(f"{url}/readyz", timeout=10).status == 200
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()
    log_text = Path("log").read_text()
    assert "Traceback" not in log_text, log_text


def said(command: str, *arguments: str) -> str:
    return subprocess.run([BIN / command, *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
