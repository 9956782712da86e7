"""Scripts that have a shell complete both commands, by click's own mechanism: the shell asks the command itself."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["script"]

_COMMANDS = ("graphpipe", "graphpipe-serve")


def script(shell: str) -> str:
    """What a shell (bash, zsh or fish) has to read for it.

    It is the same text that click gives for ``_GRAPHPIPE_COMPLETE=bash_source graphpipe``, for both commands.
    """
    kind = get_completion_class(shell)
    assert kind is not None, shell
    names = [(command, f"_{command.replace('-', '_').upper()}_COMPLETE") for command in _COMMANDS]
    return "\n".join(kind(click.Command(command), {}, command, variable).source() for command, variable in names)
