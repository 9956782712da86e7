"""A model explained as JSON."""

from __future__ import annotations

from typing import Any

from graphpipe.explanation.explained import Explained

__all__ = ["as_json"]


def as_json(found: Explained) -> dict[str, Any]:
    """All of it; times are in milliseconds, and null where nothing was measured. docs/explaining.md has the names."""
    return {
        "format": "graphpipe-explanation/1",
        "name": found.name,
        "source": found.source,
        "kind": found.kind,
        "runtime": found.runtime,
        "version": found.version,
        "description": found.description,
        "asked": found.asked,
        "runs": found.runs,
        "ms": _ms(found.seconds),
        "unmeasured": found.unmeasured,
        "inputs": list(found.inputs),
        "outputs": list(found.outputs),
        "values": [
            {"name": value.name, "declared": value.declared or None, "seen": value.seen or None}
            for value in found.values
        ],
        "made_of": found.made_of or None,
        "parts": [
            {
                "name": part.name,
                "kind": part.kind,
                "runtime": part.runtime,
                "takes": [{"name": name, "value": value} for name, value in part.takes],
                "gives": [{"name": name, "value": value} for name, value in part.gives],
                "ms": _ms(part.seconds),
                "share": found.share(part.seconds),
            }
            for part in found.parts
        ],
        "parts_ms": _ms(found.parts_seconds) if found.parts_seconds else None,
        "kinds": [
            {"name": kind.name, "run": kind.run, "in_file": kind.written, "ms": _ms(kind.seconds)}
            for kind in (found.kinds() if found.made_of == "operators" else ())
        ],
        "weights": found.weights,
        "notes": list(found.notes),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 6)
