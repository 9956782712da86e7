"""The options of a command line, made from the declared settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from graphpipe.backends.options import LoadOptions
from graphpipe.commandline import Option
from graphpipe.completion import source
from graphpipe.kinds import Kind
from graphpipe.server.settings.flags import FLAGS, Flag

__all__ = ["loading", "of_every_flag"]

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # older releases of click cannot be subscripted


def of_every_flag() -> list[click.Option]:
    """What ``graphpipe-serve`` takes. Every text given for an option is kept, in order; configuration.py reads them."""
    return [_of(flag) for flag in FLAGS]


def loading() -> list[click.Option]:
    """What may be said about loading a model into this process, read by each one's kind."""
    # Which inputs and outputs are meant is said in another way where a model is called.
    flags = [flag for flag in FLAGS if flag.home is LoadOptions and flag.name not in ("inputs", "outputs")]
    flags += [flag for flag in FLAGS if flag.name == "backend"]
    options: list[click.Option] = []
    for flag in flags:
        takes: dict[str, Any] = {"type": _OfKind(flag.kind), "metavar": flag.kind.metavar}
        if flag.kind.valueless:
            takes = {"is_flag": True, "default": None}
        options.append(
            Option([flag.field, f"--{flag.name}"], section="How it is loaded", help=flag.declared.help, **takes)
        )
    return options


def _of(flag: Flag) -> click.Option:
    declared = flag.declared
    more: dict[str, Any] = {"type": _Text(flag.kind), "multiple": True}
    if flag.name == "verbose":
        more = {"count": True}
    elif flag.name in ("demo", "print-config"):
        more = {"is_flag": True}
    elif flag.kind.valueless:
        more |= {"is_flag": False, "flag_value": "true"}
    names = [flag.field, f"--{flag.name}", *([f"-{declared.short}"] if declared.short else [])]
    return Option(names, section=flag.section, help=_help(flag), metavar=flag.metavar or None, **more)


def _help(flag: Flag) -> str:
    notes = [f"default: {flag.shown_default}"] if flag.shown_default else []
    notes += [f"env: {flag.declared.original_env}"] if flag.declared.original_env else []
    return flag.declared.help + "".join(f"  [{note}]" for note in notes)


class _Text(_ParamType):
    """Takes any text: flags are read by their kinds, the same for a command line, the environment and a file."""

    def __init__(self, kind: Kind) -> None:
        self.name = kind.metavar or "text"
        self.kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if self.kind.choices:
            return [CompletionItem(word) for word in self.kind.choices if word.startswith(incomplete)]
        if "SOURCE" in self.name:
            return source(incomplete)
        return [CompletionItem(incomplete, type="file")] if self.kind.is_path else []


class _OfKind(_Text):
    """Takes what the kind reads."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.kind.read(value)
        except ValueError as error:
            self.fail(f"{error}; {value!r} came", param, ctx)
