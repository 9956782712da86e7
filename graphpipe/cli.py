"""``graphpipe``: what one does with models from the shell."""

import sys

import click

from graphpipe import __version__, remote
from graphpipe.errors import GraphPipeError
from graphpipe.server.cli import main as serve

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="graphpipe", message="%(prog)s %(version)s")
def main() -> None:
    """Put models behind a socket, and look at those that are."""


@main.command()
@click.argument("url")
def metadata(url: str) -> None:
    """Show what the server at URL takes and gives."""
    try:
        found = remote.metadata(url)
    except (GraphPipeError, ValueError) as problem:
        click.echo(f"graphpipe: {problem}", err=True)
        sys.exit(1)
    click.echo(f"{found.name} {found.version}".rstrip())
    for what, tensors in (("input", found.inputs), ("output", found.outputs)):
        for tensor in tensors:
            shape = tensor.description or list(tensor.shape)
            click.echo(f"  {what:<7} {tensor.name:<20} {tensor.type.name.lower():<8} {shape}")


main.add_command(serve, "serve")
