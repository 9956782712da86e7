"""The console scripts, importable without any extra.

Both commands are part of every install, but what they run needs the server extra. Asked for without it, they say so in
one line instead of failing on an import that means nothing to the caller.
"""

import importlib
import sys
from importlib.util import find_spec

# What graphpipe.server.cli imports, and what `pip install 'graphpipe-rpc[server]'` brings.
SERVER_MODULES = ("aiohttp", "click", "httptools", "prometheus_client", "uvloop", "lmdb")


def serve_main() -> None:
    """Run ``graphpipe-serve``: put models behind HTTP."""
    _run("graphpipe-serve", "graphpipe.server.cli")


def main() -> None:
    """Run ``graphpipe``: everything else one does with a model, from the shell."""
    _run("graphpipe", "graphpipe.cli")


def _run(command: str, module: str) -> None:
    if any(find_spec(name) is None for name in SERVER_MODULES):
        sys.exit(f"{command} needs the server extra: pip install 'graphpipe-rpc[server]'")
    importlib.import_module(module).main()
