"""Scripts that have a shell complete both commands: the shell asks the command itself, by click's mechanism.

The scripts are click's but for what values with a colon or a sign of equality need: `x.npz:key`, `module:function`,
`http://127.0.0.1:9000`, `NAME=photo.jpg`. bash takes such a word for several, and zsh and fish know no file behind a name.
"""

from __future__ import annotations

import os
from typing import Any

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

__all__ = ["SHELLS", "script"]

_COMMANDS = ("graphpipe", "graphpipe-serve")

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' response completion type value
    response=$(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_CUR="$2" %(complete_var)s=bash_complete $1)
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        if [[ $type == 'dir' ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("$value")
        fi
    done
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a completions completions_with_descriptions response
    local type key descr
    (( ! $+commands[%(prog_name)s] )) && return 1

    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) %(complete_var)s=zsh_complete %(prog_name)s)}")

    for type key descr in "${response[@]}"; do
        if [[ "$type" == "plain" ]]; then
            if [[ "$descr" == "_" ]]; then
                completions+=("$key")
            else
                completions_with_descriptions+=("$key":"$descr")
            fi
        elif [[ "$type" == "dir" ]]; then
            _path_files -/
        elif [[ "$type" == "file" ]]; then
            # Behind NAME= a file begins.
            [[ "${words[CURRENT]}" == *"=$key" ]] && compset -p $(( ${#words[CURRENT]} - ${#key} ))
            _path_files -f
        fi
    done

    if [ -n "$completions_with_descriptions" ]; then
        _describe -V unsorted completions_with_descriptions -U
    fi

    if [ -n "$completions" ]; then
        compadd -U -V unsorted -a completions
    fi
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH = """\
function %(complete_func)s
    set -l token (commandline -ct)
    set -l response (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD="$token" %(prog_name)s)
    for completion in $response
        set -l metadata (string split -m 1 "," -- $completion)
        if test $metadata[1] = "dir"
            __fish_complete_directories $metadata[2]
        else if test $metadata[1] = "file"
            # Behind NAME= a file begins.
            set -l cut (math (string length -- "$token") - (string length -- "$metadata[2]"))
            set -l head (string sub -l $cut -- "$token")
            for path in (__fish_complete_path $metadata[2])
                echo "$head$path"
            end
        else if test $metadata[1] = "plain"
            echo $metadata[2]
        end
    end
end

complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class _Bash(BashComplete):
    """bash says the line up to the cursor, and the part of its last word that it will put something in the place of."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        line, current = os.environ.get("COMP_LINE", ""), os.environ.get("COMP_CUR", "")
        words = split_arg_string(line)
        incomplete = words.pop() if words and not line[-1].isspace() else ""
        self._kept = incomplete[: len(incomplete) - len(current)] if incomplete.endswith(current) else ""
        return words[1:], incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        if item.type == "plain":
            # A description would be lost here anyhow.
            return f"plain,{item.value.removeprefix(self._kept)}"
        return super().format_completion(item)


class _Zsh(ZshComplete):
    source_template = _ZSH


class _Fish(FishComplete):
    source_template = _FISH


SHELLS = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}


def script(shell: str) -> str:
    """What a shell (bash, zsh or fish) has to read for it.

    It is what ``_GRAPHPIPE_COMPLETE=bash_source graphpipe`` gives too, for both commands.
    """
    import click

    names = [(command, f"_{command.replace('-', '_').upper()}_COMPLETE") for command in _COMMANDS]
    kind = SHELLS[shell]
    return "\n".join(kind(click.Command(command), {}, command, variable).source() for command, variable in names)


for _name, _kind in SHELLS.items():
    add_completion_class(_kind, _name)
