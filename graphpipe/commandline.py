"""What all commands have in common: help by section with examples that are shown as they are, words that are nearly right,
and how a command ends.

Status 0 is success, 1 a failure in one line on standard error, 2 a command line that makes no sense, 130 Ctrl-C.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TextIO

import click
from click.shell_completion import CompletionItem

from graphpipe.errors import GraphPipeError
from graphpipe.version import __version__
from graphpipe.words import visible

__all__ = ["Argument", "Command", "Group", "Option", "nearest", "option", "run", "version"]

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_REST = "Help"


class Option(click.Option):
    """An option with the section of help that it is shown in."""

    def __init__(self, *names: Any, section: str = _REST, **more: Any) -> None:
        super().__init__(*names, **more)
        self.section = section


def option(*names: str, section: str = "Options", **more: Any) -> click.Option:
    """An option of a command, as click takes it, and the section of help that it is shown in."""
    return Option(names, section=section, **more)


class _Formatter(click.HelpFormatter):
    """Help with bold headings, where they can be seen."""

    def write_heading(self, heading: str) -> None:
        self.write(f"{'':>{self.current_indent}}{_painted(f'{heading}:', sys.stdout, bold=True)}\n")

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, f"{_painted('Usage:', sys.stdout, bold=True)} " if prefix is None else prefix)


class _Context(click.Context):
    formatter_class = _Formatter


class Command(click.Command):
    """A command whose help is in sections, with the examples last, as they are.

    Examples that bear its own name bear the one that it was called by.
    """

    context_class = _Context

    def __init__(self, name: str, *, examples: str = "", **more: Any) -> None:
        super().__init__(name, context_settings={**_CONTEXT, **more.pop("context_settings", {})}, **more)
        self._examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                section = "Arguments" if isinstance(parameter, click.Argument) else getattr(parameter, "section", _REST)
                sections.setdefault(section, []).append(record)
        sections[_REST] = sections.pop(_REST, [])  # the last
        for section, records in sections.items():
            if records:
                with formatter.section(section):
                    formatter.write_dl(records, col_max=34)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self._examples:
            # `graphpipe serve` is graphpipe-serve.
            renamed = ctx.parent is not None and ctx.info_name != self.name
            examples = self._examples.replace(self.name or "", ctx.command_path) if renamed else self._examples
            heading = re.compile(r"^\w[^\n]*:$", re.MULTILINE)
            formatter.write("\n" + heading.sub(lambda line: _painted(line[0], sys.stdout, bold=True), examples))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As click has it; only that what is wrong is said in colour, and shells are asked in our way."""
        if any(name.startswith("_GRAPHPIPE") and name.endswith("_COMPLETE") for name in os.environ):
            import graphpipe.shells  # noqa: F401 - click knows them from then on
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        try:
            status = super().main(args, prog_name, complete_var, False, **extra)
        except click.ClickException as error:
            _show(error)
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo("Aborted!", err=True)
            sys.exit(1)
        sys.exit(status if isinstance(status, int) else 0)


class Argument(click.Argument):
    """An argument that help explains."""

    def __init__(self, name: str, *, help: str, **more: Any) -> None:
        super().__init__([name], **more)
        self._help = help

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        return self.make_metavar(ctx), self._help


class Group(Command, click.Group):
    """A command of commands. Each is made when it is asked for, so that the others' libraries are not waited for.

    ``makers`` has for each its line in help, and what makes it.
    """

    def __init__(self, name: str, makers: dict[str, tuple[str, Callable[[], click.Command]]], **more: Any) -> None:
        super().__init__(name, **more)
        self._makers = makers

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._makers)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self._makers[cmd_name][1]() if cmd_name in self._makers else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[0] not in self._makers and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"there is no command {args[0]!r}{nearest(args[0], self._makers)}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        commands = [
            CompletionItem(name, help=about) for name, (about, _) in self._makers.items() if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (about, _) in self._makers.items()])
        super().format_options(ctx, formatter)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at what was probably meant, to be put behind a message."""
    near = difflib.get_close_matches(name[:100], list(known), 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def version(command: str) -> click.Option:
    """The flag that shows which version this is."""

    def show(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
        if wanted:
            click.echo(f"{command} {__version__}")
            context.exit()

    return option(
        *("-V", "--version"), section=_REST, is_flag=True, is_eager=True, expose_value=False, callback=show,
        help="Show the version, and end.",
    )  # fmt: skip


def run(command: click.Command, name: str, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command with the arguments of this process (or others), and exit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Where an old locale has no letters for an answer, it is shown in others.
        with contextlib.suppress(OSError):  # it stays as it is
            sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = command.main(arguments, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        _show(error)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` does. Python would complain again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (GraphPipeError, ValueError, OSError) as error:
        # A server's words may be among them.
        _fail(name, visible(_in_words(error), os.linesep))
    except MemoryError:
        _fail(name, "there is not enough memory for this")
    sys.exit(status if isinstance(status, int) else 0)


def _fail(name: str, words: str) -> NoReturn:
    sys.exit(f"{_painted(f'{name}:', sys.stderr, fg='red')} {words}")


def _in_words(error: Exception) -> str:
    """What an exception says; of the system's own, which file it is about and why."""
    if isinstance(error, OSError) and isinstance(error.filename, str) and error.strerror and not error.filename2:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _show(error: click.ClickException) -> None:
    """Say what is wrong with a command line, as click does."""
    said = io.StringIO()
    error.show(said)
    red = _painted("Error:", sys.stderr, fg="red")
    click.echo(re.sub(r"^Error:", lambda _: red, said.getvalue(), flags=re.MULTILINE), err=True, nl=False)


def _painted(text: str, stream: TextIO | None, **style: Any) -> str:
    """The text in a style, if the stream is a terminal that has some and whose owner has not said NO_COLOR."""
    plain = stream is None or not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else click.style(text, **style)
