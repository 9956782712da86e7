"""How the arguments and the outputs of a .pt2 program are nested: JSON in its JSON, which PyTorch makes Python's objects of.

What an object remembers besides its parts (the keys of a dict, say) may name a member of an enumeration, and what a
defaultdict makes, a class: by the module, which is imported, and any object in it, which is indexed or called. The file's
author is not to choose those.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["is_plain_tree"]

_DEFAULTDICT = "collections.defaultdict"
_FACTORIES = frozenset(("bool", "bytes", "dict", "float", "int", "list", "set", "str", "tuple"))


def is_plain_tree(text: str) -> bool:
    """Whether a tree names nothing but types that PyTorch, or the program that reads it, has registered."""
    try:
        _, root = json.loads(text)
        return _is_plain(root)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False  # PyTorch has nothing to make of it either


def _is_plain(node: Any) -> bool:
    context, children = node["context"], node["children_spec"]
    if node["type"] == _DEFAULTDICT:
        if context["default_factory_module"] != "builtins" or context["default_factory_name"] not in _FACTORIES:
            return False
    elif isinstance(context, str) and not _names_nothing(_in_context(context)):
        return False
    return _names_nothing(context) and all(map(_is_plain, children))


def _in_context(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None  # the name of a type


def _names_nothing(value: Any) -> bool:
    if isinstance(value, dict):
        return "__enum__" not in value and all(map(_names_nothing, value.values()))
    return not isinstance(value, list) or all(map(_names_nothing, value))
