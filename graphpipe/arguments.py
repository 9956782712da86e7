"""What callers hand over beside their arrays, checked in one place: names, mappings, texts, seconds.

Whatever is not what was meant is refused in a sentence that says what came, what was expected and how to mend it. A
guess would send a wrong request: a string is also a list of letters, a dict one of its keys, an array one of its rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from graphpipe.errors import InvalidRequest

__all__ = [
    "a_kind",
    "came",
    "flag",
    "named_tensors",
    "names",
    "one_input",
    "one_tensor",
    "seconds",
    "some_outputs",
    "tensors",
    "text",
    "whole",
]

# Whoever says infinity means days; poll and the wire's header count milliseconds in few digits.
_TIMEOUT_S_MAX = 1e6
_NAME_SHOWN_MAX = 100
_NAMES_SHOWN_MAX = 5


def tensors(value: object, what: str = "inputs") -> Sequence[Any]:
    """Several tensors in order. Raises InvalidRequest."""
    if type(value) is list or type(value) is tuple:
        return value
    expected = f"{what} is a list of tensors, one for each input"
    if isinstance(value, Mapping):
        raise InvalidRequest(f"{expected}; {came(value)}, and names go with infer(), or beside the list as input_names")
    if _is_text(value) or hasattr(value, "__array__") or hasattr(value, "__dlpack__"):
        raise InvalidRequest(f"{expected}; a single one came ({type(value).__name__}): put it into a list")
    if isinstance(value, set | frozenset) or not isinstance(value, Iterable):
        raise InvalidRequest(f"{expected}; {came(value)}")
    return list(value)


def named_tensors(value: object, what: str = "inputs", known: Sequence[str] = ()) -> Mapping[str, Any]:
    """Tensors by name; ``known`` are the names that there are, as far as anybody knows. Raises InvalidRequest."""
    if type(value) is not dict and not isinstance(value, Mapping):  # the second costs as much as all else here
        raise InvalidRequest(
            f"{what} is a dict of tensors by the names of the inputs; {came(value)}{_ways(value, known)}"
        )
    for name in value:
        if type(name) is not str and not isinstance(name, str):
            raise InvalidRequest(f"{what} is a dict of tensors by name, and names are text; {came(name)} as one")
    return value


def _ways(value: object, known: Sequence[str]) -> str:
    """How tensors without names are sent: with their names, or by the call that needs none."""
    if value is None:
        return ""
    if hasattr(type(value), "collect_schema"):
        return ", which is yet to be computed: infer(frame.collect())"
    several = len(known) > 1 or (not known and isinstance(value, list | tuple) and len(value) > 1)
    named = [f"{name!r}: array" for name in known[:_NAMES_SHOWN_MAX] or ["name"]]
    more = ", ..." if len(known) > _NAMES_SHOWN_MAX or (several and not known) else ""
    call = "execute_multi([array, ...])" if several else "execute(array)"
    return f": infer({{{', '.join(named)}{more}}}) says their names, and {call} needs none"


def names(value: object, what: str, *, gaps: bool = True) -> tuple[str, ...]:
    """A list of names; None is an empty one. With ``gaps``, None among them stands for a default, and becomes "".

    Raises InvalidRequest.
    """
    if value is None:
        return ()
    found = tuple(value) if type(value) is list or type(value) is tuple else _in_order(value, what)
    for place, name in enumerate(found):
        if not isinstance(name, str) and not (gaps and name is None):
            raise InvalidRequest(f"{what} is a list of names, which are text; {came(name)} at place {place}")
    return found if None not in found else tuple([name or "" for name in found])


def _in_order(value: object, what: str) -> tuple[Any, ...]:
    expected = f"{what} is a list of names"
    if isinstance(value, str):
        raise InvalidRequest(f"{expected}; a single string came: [{_shown(value)}]")
    if isinstance(value, bytes | bytearray | Mapping | set | frozenset) or not isinstance(value, Iterable):
        unordered = ", which has no order" if isinstance(value, set | frozenset) else ""
        raise InvalidRequest(f"{expected}; {came(value)}{unordered}")
    return tuple(value)


def one_input(value: object) -> tuple[str, ...]:
    """The name of the one input of ``execute``, as a list of one; None is none. Raises InvalidRequest."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    hint = ""
    if isinstance(value, list | tuple):
        hint = ": several inputs go with execute_multi(inputs, input_names), names of outputs with output_name=[...]"
    raise InvalidRequest(f"input_name is one name; {came(value)}{hint}")


def one_tensor(value: object) -> object:
    """What ``execute`` is given for its one input. Raises InvalidRequest."""
    if type(value) is dict or isinstance(value, Mapping):
        raise InvalidRequest("execute takes one array; inputs by name go with infer({...})")
    return value


def some_outputs(value: object) -> tuple[str, ...]:
    """The outputs that ``execute`` is asked for: one name, or several in order; None is none. Raises InvalidRequest."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple):
        raise InvalidRequest(f"output_name is a name, or a list of names; {came(value)}")
    return names(value, "output_name")


def text(value: object, what: str) -> str:
    """A text; None is an empty one. Raises InvalidRequest."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    hint = ": json.dumps() makes one of it" if isinstance(value, dict | list | tuple) else ""
    raise InvalidRequest(f"{what} is a text, which the model gets as it is; {came(value)}{hint}")


def flag(value: object, what: str) -> bool:
    """True or False. Raises InvalidRequest."""
    if value is True or value is False:
        return value
    if type(value).__name__ in ("bool", "bool_"):  # numpy's
        return bool(value)
    raise InvalidRequest(f"{what} is True or False; {came(value)}")


def seconds(value: Any, what: str = "timeout") -> float:
    """A timeout fit to reckon with. Raises ValueError if it is none."""
    if _is_number(value, Real):
        if value > 0:
            return float(min(value, _TIMEOUT_S_MAX))
        raise ValueError(f"{what} is a positive number of seconds; {value!r} came")
    hint = ""
    if isinstance(value, list | tuple):
        hint = ": it is one number, for the call as a whole"
    elif hasattr(value, "total_seconds"):
        hint = ": take its total_seconds()"
    raise ValueError(f"{what} is a positive number of seconds; {came(value)}{hint}")


def whole(value: Any, what: str, least: int = 1) -> int:
    """A whole number. Raises ValueError."""
    if _is_number(value, Integral) and value >= least:
        return int(value)
    raise ValueError(f"{what} is a whole number of at least {least}; {came(value)}")


def came(value: object) -> str:
    """That a value came, in words that hold nothing of what is in a tensor."""
    if value is None or isinstance(value, bool | int | float):
        return f"{value!r} came"
    if _is_text(value):
        return f"{_shown(value)} came"
    return f"{a_kind(value)} came"


def a_kind(value: object) -> str:
    """What a value is one of, with its article: ``an int``, ``a dict``."""
    kind = type(value).__name__
    return f"{'an' if re.match('[AEIOUaeiou]', kind) else 'a'} {kind}"


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str | bytes | bytearray)


def _shown(value: Any) -> str:
    return repr(value) if len(value) <= _NAME_SHOWN_MAX else f"{value[:_NAME_SHOWN_MAX]!r}..."
