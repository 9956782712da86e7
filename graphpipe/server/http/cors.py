"""Which pages of other sites may read answers (CORS, as the Fetch standard has it): what a browser asks, and is told.

Nothing is refused here: whoever is no browser need not care, and a page that may not read an answer is kept from it by its
browser. Answers to requests without an Origin are as they always are on the hot route, so they lack ``Vary: Origin`` where
origins are listed: they answer a POST, and no cache may give them to another one. What a browser asks before it sends
(OPTIONS) reaches no model; it is a page like others, without an access line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["Cors", "has_origin"]

ANY = "*"

# What may be in an answer's head that a page is to see, beside what it always sees.
_EXPOSED = "Inference-Header-Content-Length, Retry-After, X-Request-Id"
# A browser need not ask again for so long; none believes more than two hours.
_MAX_AGE_S = 7200
_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, \t-]{1,1024}")
_ORIGIN_FIELD = re.compile(rb"\r\norigin:", re.IGNORECASE)


class Cors:
    """The pages that ``origins`` names may read answers; ``*``: all of them."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origins)

    def fields(self, origin: str | None) -> dict[str, str]:
        """What an answer's head says to a page of this origin; ``None``: it came from no page."""
        if not self._origins:
            return {}
        if ANY in self._origins:
            return {"Access-Control-Allow-Origin": ANY, "Access-Control-Expose-Headers": _EXPOSED}
        if origin not in self._origins:
            return {"Vary": "Origin"}
        return {
            "Access-Control-Allow-Origin": origin or "",
            "Access-Control-Expose-Headers": _EXPOSED,
            "Vary": "Origin",
        }

    def preflight(self, asked: Mapping[str, str]) -> dict[str, str] | None:
        """What is told to a browser that asks before it sends; None for an OPTIONS that asks no such thing."""
        origin = asked.get("Origin")
        if not self._origins or origin is None or "Access-Control-Request-Method" not in asked:
            return None
        fields = self.fields(origin)
        fields.pop("Access-Control-Expose-Headers", None)
        if "Access-Control-Allow-Origin" in fields:
            fields |= {"Access-Control-Allow-Methods": "GET, POST", "Access-Control-Max-Age": str(_MAX_AGE_S)}
            names = asked.get("Access-Control-Request-Headers", "")
            if _NAMES.fullmatch(names):
                fields["Access-Control-Allow-Headers"] = names
        return fields


def has_origin(head: bytes) -> bool:
    """Whether a page's browser may have sent this head."""
    return _ORIGIN_FIELD.search(head) is not None
