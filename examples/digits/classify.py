"""Ask a running digit server which digit the bundled image shows.

Usage: python examples/digits/classify.py [URL]
"""

import sys
from pathlib import Path

import numpy as np

from graphpipe import remote

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9000"
pixels = np.load(Path(__file__).with_name("digit.npy"))
print(remote.execute(url, pixels, output_name="label"))
