"""The fields of a log's record: what it says beside its message, for a machine to read by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping

__all__ = ["fields_of", "with_fields"]

# A name of ours: other libraries' records have a ``fields`` of their own, which may be anything.
_ATTRIBUTE = "graphpipe_fields"


def with_fields(**fields: object) -> dict[str, object]:
    """The ``extra`` of a record that has these fields."""
    return {_ATTRIBUTE: fields}


def fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    """What ``with_fields`` gave it."""
    fields: Mapping[str, object] = getattr(record, _ATTRIBUTE, {})
    return fields
