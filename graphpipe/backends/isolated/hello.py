"""How the two sides make themselves known: what to load, and what it is that was loaded, as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from graphpipe.backends.construction import Arguments
from graphpipe.backends.options import LoadOptions
from graphpipe.signature import Signature, TensorSpec

__all__ = ["Loaded", "Order", "signature_from_json", "signature_to_json"]


@dataclass(frozen=True)
class Order:
    """What a process is to load, and how it is to live.

    ``path`` is where it looks for modules: all of it where ``whole_path`` says so, else behind what its own interpreter
    has. ``memory_bytes`` and ``cpus`` are its limits, 0 and () for none.
    """

    source: str
    backend: str
    options: LoadOptions
    path: Sequence[str] = ()
    whole_path: bool = False
    folder: str = ""
    memory_bytes: int = 0
    cpus: Sequence[int] = ()

    def to_bytes(self) -> bytes:
        """As it travels."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> Order:
        """As it was told."""
        said = json.loads(text)
        # The other side may be older or newer by an option.
        known = {each.name: each for each in fields(LoadOptions)}
        options: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in said.pop("options").items()
            if name in known
        }
        if options.get("arguments"):
            options["arguments"] = Arguments(**options["arguments"])
        return cls(options=LoadOptions(**options), **said)


@dataclass(frozen=True)
class Loaded:
    """What a model says of itself when it is there. ``backend`` and ``uses`` say what loads it, and which options matter;
    ``tests`` whether it can test itself.
    """

    signature: Signature
    backend: str
    uses: Sequence[str]
    version: str = ""
    runtime: str = ""
    kind: str = ""
    description: str = ""
    signature_name: str = ""
    method_name: str = ""
    threads: int = 0
    tests: bool = False

    def to_bytes(self) -> bytes:
        """As it travels."""
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        said["uses"] = sorted(self.uses)
        return json.dumps({**said, "signature": signature_to_json(self.signature)}).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> Loaded:
        """As it was told. Raises ValueError, KeyError or TypeError for what is none."""
        said = json.loads(text)
        signature = signature_from_json(said.pop("signature"))
        for name in ("backend", "version", "runtime", "kind", "description", "signature_name", "method_name"):
            if type(said[name]) is not str:
                raise TypeError(f"{name} is no text")
        if not all(type(each) is str for each in said["uses"]):
            raise TypeError("an option's name is no text")
        if type(said["threads"]) is not int or said["threads"] < 0 or type(said["tests"]) is not bool:
            raise TypeError("the number of threads is none, or nobody says whether there is a test")
        return cls(signature=signature, **said)


_SWITCHES = ("variadic", "open_outputs", "loose_symbols", "any_inputs")


def signature_to_json(signature: Signature) -> dict[str, Any]:
    """All of a signature."""
    return {
        "inputs": [[spec.name, spec.text, spec.description] for spec in signature.inputs],
        "outputs": [[spec.name, spec.text, spec.description] for spec in signature.outputs],
        "default_inputs": signature.default_inputs,
        "default_outputs": signature.default_outputs,
        **{name: getattr(signature, name) for name in _SWITCHES},
    }


def signature_from_json(said: dict[str, Any]) -> Signature:
    """The reverse."""
    return Signature(
        _specs(said["inputs"]),
        _specs(said["outputs"]),
        _names(said["default_inputs"]),
        _names(said["default_outputs"]),
        **{name: bool(said[name]) for name in _SWITCHES},
    )


def _specs(said: Sequence[Sequence[str]]) -> tuple[TensorSpec, ...]:
    specs = []
    for name, text, description in said:
        spec = TensorSpec.of(name, text)
        specs.append(TensorSpec(spec.name, spec.dtype, spec.shape, description, spec.repeated))
    return tuple(specs)


def _names(said: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if said is None else tuple(said)
