"""Ask a server of this example whether a text is true of pictures:

python examples/text-and-image/ask.py http://127.0.0.1:9000 "a red circle" one.jpg other.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import graphpipe


def main(url: str, text: str, *files: str) -> None:
    """One line for each file: the probability that the text is true of it."""
    images = [Path(file).read_bytes() for file in files]
    with graphpipe.Client(url) as client:
        answer = client.infer({"text": [text] * len(files), "image": images}, outputs=["probability"])
    for file, probability in zip(files, answer["probability"], strict=True):
        print(f"{probability:.7f} {file}")


if __name__ == "__main__":
    main(*sys.argv[1:])
