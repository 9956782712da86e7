"""What is offered where a value is half written: the arrays of a file, the functions of a module, files."""

from __future__ import annotations

import ast
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

__all__ = ["Offered", "server", "source", "value"]

Offers = list[CompletionItem]
_URL = "http://127.0.0.1:9000"


class Offered(click.Path):
    """Any text. What is offered for it, ``offers`` knows."""

    def __init__(self, offers: Callable[[str], Offers]) -> None:
        super().__init__()
        self._offers = offers

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> Offers:
        return self._offers(incomplete)


def server(incomplete: str) -> Offers:
    """A server's URL."""
    return _plain("", [_URL] if _URL.startswith(incomplete) else [])


def source(incomplete: str) -> Offers:
    """[NAME=]SOURCE of a model: a file, the functions of a module, a server's URL."""
    head, text = _behind_name(incomplete)
    module, colon, part = text.rpartition(":")
    if text.startswith("ht") and _URL.startswith(text):
        return _plain(head, [_URL])
    if colon and "/" not in part:
        path = Path(module if module.endswith(".py") else f"{module.replace('.', os.sep)}.py")
        return _plain(head, [f"{module}:{name}" for name in _functions(path) if name.startswith(part)])
    return [CompletionItem(text, type="file")]


def value(incomplete: str) -> Offers:
    """[NAME=]VALUE of an input: a file, or one of the arrays of an .npz file."""
    head, text = _behind_name(incomplete)
    file, colon, part = text.rpartition(":")
    if colon and file.lower().endswith(".npz"):
        return _plain(head, [f"{file}:{key}" for key in _arrays(Path(file)) if key.startswith(part)])
    return [CompletionItem(text, type="file")]


def _behind_name(text: str) -> tuple[str, str]:
    """A text at its first sign of equality, unless a file is called so."""
    name, equals, rest = text.partition("=")
    if not equals or any(Path().glob(f"{re.sub(r'[*?[]', '?', name)}=*")):
        return "", text
    return name + equals, rest


def _plain(head: str, texts: list[str]) -> Offers:
    return [CompletionItem(head + text) for text in texts]


def _functions(path: Path) -> list[str]:
    """The functions and classes of a Python file. Nothing is run."""
    try:
        nodes = ast.parse(path.read_text("utf-8")).body
    except (OSError, ValueError, SyntaxError):
        return []
    names = [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    return [name for name in names if not name.startswith("_")]


def _arrays(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as file:
            return [name.removesuffix(".npy") for name in file.namelist()]
    except (OSError, zipfile.BadZipFile):
        return []
