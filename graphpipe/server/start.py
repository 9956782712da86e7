"""The console scripts, importable without anything else.

From their first line on SIGTERM and Ctrl-C end a command that serves at once: importing takes a while too.
"""

import importlib
import sys


def serve_main() -> None:
    """Run ``graphpipe-serve``: put models behind HTTP."""
    from graphpipe.descriptors import fill
    from graphpipe.signals import ends_at_once

    fill()
    with ends_at_once():
        importlib.import_module("graphpipe.server.cli").main()


def main() -> None:
    """Run ``graphpipe``: everything one does with a model, from the shell."""
    from graphpipe.descriptors import fill
    from graphpipe.signals import ENDING, ends_at_once

    fill()
    with ends_at_once(ENDING if sys.argv[1:2] == ["serve"] else ()):
        importlib.import_module("graphpipe.cli").main()
