"""Scripts that complete the command line in a shell, made from the parser itself."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

__all__ = ["script"]


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """A script for bash, zsh or fish that completes the parser's commands and their flags; elsewhere, files."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](parser)


def _bash(parser: argparse.ArgumentParser) -> str:
    cases = "\n".join(f"        {name}) words={_quoted(_words(command))} ;;" for name, _, command in _commands(parser))
    first = _quoted(" ".join([*(name for name, _, _ in _commands(parser)), _words(parser)]))
    return f"""\
_graphpipe() {{
    local words={first}
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
    ((COMP_CWORD > 1)) || words={first}
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _graphpipe graphpipe
"""


def _zsh(parser: argparse.ArgumentParser) -> str:
    commands = "\n".join(f"        {_quoted(f'{name}:{about}')}" for name, about, _ in _commands(parser))
    cases = []
    for name, _, command in _commands(parser):
        flags = " ".join(_quoted(f"*{flag}[{_bare(about)}]{':value:_files' if takes else ''}")
                         for flag, about, takes in _flags(command))  # fmt: skip
        choices = " ".join(_choices(command))
        rest = f"':what:({choices})'" if choices else "'*:file:_files'"
        cases.append(f"        {name}) _arguments {flags} {rest} ;;")
    return f"""\
#compdef graphpipe
_graphpipe() {{
    local -a commands=(
{commands}
    )
    if ((CURRENT == 2)); then
        _describe command commands
        return
    fi
    local command=$words[2]
    shift words
    ((CURRENT--))
    case $command in
{chr(10).join(cases)}
    esac
}}
compdef _graphpipe graphpipe
"""


def _fish(parser: argparse.ArgumentParser) -> str:
    lines = ["complete -c graphpipe -n __fish_use_subcommand -f"]
    for name, about, command in _commands(parser):
        lines.append(f"complete -c graphpipe -n __fish_use_subcommand -a {name} -d {_quoted(about)}")
        inside = f"complete -c graphpipe -n '__fish_seen_subcommand_from {name}'"
        lines += [f"{inside} -f -a {choice}" for choice in _choices(command)]
        for flag, about_flag, takes in _flags(command):
            if flag.startswith("--"):
                lines.append(f"{inside} -l {flag[2:]}{' -r' if takes else ''} -d {_quoted(about_flag)}")
    return "\n".join(lines) + "\n"


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            about = {choice.dest: choice.help or "" for choice in action._choices_actions}
            yield from ((name, about[name], command) for name, command in action.choices.items())


def _flags(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, bool]]:
    """Every flag, what it is for, and whether it takes a value."""
    for action in parser._actions:
        for flag in action.option_strings:
            yield flag, action.help or "", action.nargs != 0


def _choices(parser: argparse.ArgumentParser) -> list[str]:
    return [
        str(choice)
        for action in parser._actions
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction)
        for choice in action.choices or ()
    ]


def _words(parser: argparse.ArgumentParser) -> str:
    return " ".join([*_choices(parser), *(flag for flag, _, _ in _flags(parser) if flag.startswith("--"))])


def _bare(text: str) -> str:
    return text.replace("[", "(").replace("]", ")").replace(":", " -")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
