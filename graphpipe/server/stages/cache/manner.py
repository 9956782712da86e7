"""In what manner a model is loaded and called: all that can change its answers, besides what it was made from.

The row cache's key has it, so rows of one setting never answer for another, in one folder or the next. A setting counts
unless it is listed here as one that cannot matter: a new one that is forgotten costs rows, never a wrong answer. The
framework's version counts too. An upgrade may fuse other operations or mend a wrong one, and what costs nothing but
time to compute again should not keep an old fault alive.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from graphpipe.backends import LoadOptions, Model
from graphpipe.backends.construction import Arguments
from graphpipe.problem import Problem
from graphpipe.server.settings.values import ModelSettings
from graphpipe.server.stages.cache.origin import origin
from graphpipe.sources.digest import digest_of
from graphpipe.version import __version__

__all__ = ["manner"]

# Whether a file is the one that was meant, and how much of it may come, changes nothing in its answers.
# Who asks an upstream is part of its version.
_LOADING_ONLY = {
    "model_sha256",
    "download_bytes_max",
    "download_timeout_s",
    "download_private",
    "trust_model",
    # Under which interpreter it runs does matter.
    "isolate",
    "isolate_timeout_s",
    "isolate_memory_bytes",
    "isolate_cpus",
    "upstream_api_key_file",
    "upstream_tls_ca",
    "upstream_tls_cert",
    "upstream_tls_key",
}
# Files, which count by what they hold.
_FILES = {"custom_ops", "problem", "value_inputs"}
# How many calls run, wait and are remembered. The name is the store's folder; ``source`` and ``options`` have their own
# place below, and so does the declared version.
_SERVING_ONLY = {
    "name",
    "source",
    "options",
    "said",
    "threads",
    "queue_requests_max",
    "queue_rows_max",
    "warmup",
    "batch_wait_ms",
    "cache",
    "cache_dir",
    "cache_bytes_max",
    "cache_ttl_s",
    "cache_version",
    "cache_fresh_ms",
}


def manner(settings: ModelSettings, model: Model) -> str:
    """A digest of how this model is loaded and called; of where it comes from, too, where it has no digest itself."""
    described = {
        "graphpipe": __version__,
        "runtime": str(getattr(model, "runtime", "")),
        "options": _told(settings.options, _LOADING_ONLY),
        "called": _told(settings, _SERVING_ONLY),
    }
    if hasattr(model, "current_version"):
        # The same file may be served in two manners, of which an upstream says nothing.
        described["source"] = settings.source
    if not getattr(model, "version", ""):
        described["source"] = settings.source
        described["origin"] = origin(getattr(model, "function", None) or model)
        described["declares"] = repr(model.signature)
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _told(settings: LoadOptions | ModelSettings, left_out: Iterable[str]) -> dict[str, Any]:
    told = {}
    for field in fields(settings):
        if field.name not in left_out:
            value = getattr(settings, field.name)
            if isinstance(value, Problem):
                value = json.dumps(value.to_dict())
            elif isinstance(value, Arguments):
                value = value.digest
            elif field.name in _FILES:
                value = [_content(path) for path in ([value] if isinstance(value, str) else value)]
            told[field.name] = value if isinstance(value, str | int | float | list | tuple | None) else repr(value)
    return told


def _content(path: str) -> str:
    return digest_of(Path(path)) if path and Path(path).is_file() else path  # the loader alone may find a library
