"""``graphpipe``: what one does with models from the shell. The base install is enough, but for what a model needs."""

from graphpipe.cli.command import main

__all__ = ["main"]
