"""What was said about loading, and none of the models can make use of: refused, not passed over in silence.

Each backend says which options it reads (``Backend.uses``). What was said of all models is of use if it is to one of
them; what was said of one is to be of use to that one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from graphpipe.backends.known import ours
from graphpipe.errors import LoadError

__all__ = ["Kind", "Said", "refuse_unused"]


class Said(NamedTuple):
    """That somebody asked for an option: where, and whether of one model by its name."""

    origin: str
    of_one: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """What a model is: the name of the backend that loads it, and the options that can make a difference to it."""

    backend: str
    uses: Collection[str]


def refuse_unused(models: Sequence[tuple[str, Kind | None, Mapping[str, Said]]]) -> None:
    """Raise LoadError for an option that does nothing.

    ``models`` has of each its name, what it is (None: nobody knows yet, and it may make use of everything) and what was
    said of it, by the names of the fields of LoadOptions.
    """
    for name, kind, all_said in models:
        for option, said in all_said.items():
            if kind is None or option in kind.uses:
                continue
            others = () if said.of_one else [other for other in models if option in other[2]]
            if any(other is None or option in other.uses for _, other, _ in others):
                continue
            who = (
                f"any of the {len(others)} models"
                if len(others) > 1
                else f"model {name!r}, whose backend is {kind.backend}"
            )
            flag = option.replace("_", "-")
            raise LoadError(f"--{flag} does nothing for {who}: it is for {_meant_for(option)} ({said.origin})")


_MEANT_FOR = {
    "signature": "SavedModels",
    "tags": "SavedModels",
    "model_sha256": "models that are files",
    "download_bytes_max": "models at a URL",
    "download_timeout_s": "models at a URL",
    "download_private": "models at a URL",
    "upstream_api_key_file": "models that are other servers",
    "upstream_tls_ca": "models that are servers at https://",
    "upstream_tls_cert": "models that are servers at https://",
    "upstream_tls_key": "models that are servers at https://",
}


def _meant_for(option: str) -> str:
    # Caffe2's refuses every model, in words of its own, and a package takes what its model takes.
    known = [each.name for each in ours() if each.name not in ("caffe2", "package") and option in each.uses("")]
    return _MEANT_FOR.get(option) or f"{', '.join(known)} models"
