"""The console scripts, importable without any extra.

Both commands are part of every install, but what ``graphpipe-serve`` runs needs the server extra. Asked for without it,
it says so in one line instead of failing on an import that means nothing to the caller.
"""

import importlib
import sys
from importlib.util import find_spec

# What the server extra brings, as it is imported.
SERVER_MODULES = ("aiohttp", "blake3", "click", "lmdb", "uvloop")


def serve_main() -> None:
    """Run ``graphpipe-serve``: put models behind HTTP."""
    from graphpipe.descriptors import fill
    from graphpipe.signals import ends_at_once

    fill()
    if any(find_spec(name) is None for name in SERVER_MODULES):
        sys.exit("graphpipe-serve needs the server extra: pip install 'graphpipe-rpc[server]'")
    # From here on: importing takes a while too.
    with ends_at_once():
        importlib.import_module("graphpipe.server.cli").main()


def main() -> None:
    """Run ``graphpipe``: everything else one does with a model, from the shell."""
    importlib.import_module("graphpipe.cli").main()
