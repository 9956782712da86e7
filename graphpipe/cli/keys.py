"""``graphpipe keys``: makes keys for the callers of a server, lists them, and takes them back.

A file is only ever replaced as a whole, so a server that watches it sees the old one or the new one. Comments stay.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from graphpipe.commandline import Argument, Command, Group, option
from graphpipe.keyfile import SCOPES, Key, digest_of, expiry_of, key_of, keys_in, moment, new_key, text_of

if sys.platform != "win32":
    import fcntl

__all__ = ["group"]

_ABOUT = "Make keys for the callers of a server, list them, and take them back."

_EXAMPLES = """\
examples:
  graphpipe keys add --file keys.txt ci --scopes infer,metadata
  graphpipe keys add --file keys.txt guest --scopes infer --models digits --expires 30d
  graphpipe keys list --file keys.txt
  graphpipe keys revoke --file keys.txt ci

graphpipe-serve --api-key-file keys.txt asks for these keys, and takes up what changes at once.
"""

_HEADING = "# name  hash of the key  scopes  models=... expires=...   (graphpipe keys --help)\n"


def group() -> Group:
    """The command and its own commands."""
    return Group(
        "keys",
        {
            "add": ("Make a key and print it, which is done this once.", _add_command),
            "list": ("Show whose keys there are, and what they are good for.", _list_command),
            "revoke": ("Take a key back.", _revoke_command),
        },
        help=_ABOUT,
        examples=_EXAMPLES,
    )


def _file() -> click.Option:
    return option(
        "file", "--file", required=True, metavar="FILE", type=click.Path(dir_okay=False), envvar="GRAPHPIPE_API_KEY_FILE",
        help="What the server has for --api-key-file.  [env: GRAPHPIPE_API_KEY_FILE]",
    )  # fmt: skip


def _add_command() -> Command:
    return Command(
        "add", help="Make a key and print it, as the last word: it is kept nowhere. The file has its hash.", callback=_add,
        params=[
            Argument("name", help="Whose it is, for logs and metrics: letters, digits and . _ @ -"),
            _file(),
            option("--scopes", required=True, metavar="SCOPES", help=f"What it is good for: some of {', '.join(SCOPES)}."),
            option("--models", default="", metavar="NAMES", help="The only models that it may use.  [default: all]"),
            option("--expires", default="", metavar="TIME",
                   help="When it ends: 2027-01-01, 2027-01-01T12:00:00Z, or 90m, 12h, 30d from now.  [default: never]"),
        ],
    )  # fmt: skip


def _list_command() -> Command:
    return Command(
        "list", help="Show whose keys there are, and what they are good for.", callback=_list, params=[_file()]
    )


def _revoke_command() -> Command:
    name = Argument("name", help="Whose it is.")
    return Command("revoke", help="Take a key back.", callback=_revoke, params=[name, _file()])


# --- what they do -----------------------------------------------------------------------------------------------------


def _add(name: str, file: str, scopes: str, models: str, expires: str) -> None:
    now, secret = time.time(), new_key()
    until = expiry_of(expires, now) if expires else None
    if until is not None and until <= now:
        raise ValueError(f"--expires {expires} is over already")
    key = key_of(name, digest_of(secret.encode()), _names(scopes), _names(models), until)

    def with_it(text: str) -> str:
        if any(other.name == name for other in keys_in(text, file)):
            raise ValueError(f"{file} has a key of {name} already; revoke it first, or give this one another name")
        return f"{text or _HEADING}{'' if not text or text.endswith(chr(10)) else chr(10)}{text_of(key)}\n"

    _change(file, with_it)
    print(f"The key of {name}, which is shown this once: {secret}")


def _list(file: str) -> None:
    keys = keys_in(_text(file), file)
    rows = [("name", "scopes", "models", "expires"), *map(_row, keys)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _revoke(name: str, file: str) -> None:
    if not Path(file).exists():
        raise ValueError(f"there is no file {file}")

    def without_it(text: str) -> str:
        if all(key.name != name for key in keys_in(text, file)):
            raise ValueError(f"{file} has no key of {name}")
        return "".join(line for line in text.splitlines(keepends=True) if line.split()[:1] != [name])

    _change(file, without_it)
    print(f"The key of {name} is revoked.")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _row(key: Key) -> tuple[str, str, str, str]:
    scopes = ",".join(scope for scope in SCOPES if scope in key.scopes)
    models = "all" if key.models is None else ",".join(sorted(key.models))
    expires = "never" if key.expires is None else moment(key.expires)
    over = " (over)" if key.expires is not None and key.expires <= time.time() else ""
    return key.name, scopes, models, expires + over


# --- the file ---------------------------------------------------------------------------------------------------------


def _text(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not text in UTF-8") from None


def _change(file: str, change: Callable[[str], str]) -> None:
    """Put a file in the place of another, or of none, while nobody else does."""
    path = Path(os.path.realpath(file))  # a link goes on leading to it
    with _locked(path):
        text = change(_text(str(path)))
        before = path.stat()
        number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # for its owner alone: mode 0600
        try:
            with open(number, "w", encoding="utf-8", newline="\n") as new:
                # Whoever may read the file now, a server that runs as another user say, has to read the new one.
                if sys.platform != "win32":
                    if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                        os.fchown(number, before.st_uid, before.st_gid)
                    os.fchmod(number, before.st_mode & 0o777)
                new.write(text)
                new.flush()
                os.fsync(number)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file of this name, which is made if there is none."""
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if sys.platform != "win32":
                fcntl.flock(number, fcntl.LOCK_EX)
            # Whoever had it before may have put another in its place.
            if os.path.exists(path) and os.path.samestat(os.fstat(number), os.stat(path)):
                yield
                return
        finally:
            os.close(number)
