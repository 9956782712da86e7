"""Whose quota is whose: a table that no crowd of callers can make larger than it may be."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from ipaddress import IPv6Address

from graphpipe.server.quotas.quota import Limits, Quota

__all__ = ["CALLERS_MAX", "Quotas", "who_of"]

# So many callers are known at once.
CALLERS_MAX = 16_384
# For whoever comes when there are so many, this many are looked at, in turn.
_LOOKED_AT = 8
# What one subscriber has of IPv6: everything that begins so is one caller.
_PREFIX_BITS = 64


class Quotas:
    """The quota of each caller, made when it is first asked for. Belongs to one event loop.

    When there are ``most``, one that is idle makes room: its caller finds another one later, and that is like it. Where
    none is found to be idle, a newcomer has his together with all others who come then.
    """

    def __init__(self, limits: Limits, most: int = CALLERS_MAX) -> None:
        self._limits = limits
        self._most = most
        self._quotas: OrderedDict[Hashable, Quota] = OrderedDict()
        self._crowd: Quota | None = None

    def __len__(self) -> int:
        return len(self._quotas)

    def of(self, who: Hashable, now: float) -> Quota:
        """The quota of this caller, at this moment."""
        quota = self._quotas.get(who)
        if quota is None:
            if len(self._quotas) >= self._most and not self._make_room(now):
                if self._crowd is None:
                    self._crowd = Quota(self._limits)
                return self._crowd
            quota = self._quotas[who] = Quota(self._limits)
        return quota

    def _make_room(self, now: float) -> bool:
        for _ in range(_LOOKED_AT):
            who, quota = self._quotas.popitem(last=False)
            if quota.is_idle(now):
                return True
            self._quotas[who] = quota  # looked at again after all others
        return False


def who_of(name: str, peer: Hashable) -> Hashable:
    """Who it is that has this name, by his certificate, or none and is at this address."""
    if name:
        return "certificate", name
    if isinstance(peer, str) and ":" in peer:
        address = IPv6Address(peer.partition("%")[0])
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return int(address) >> (128 - _PREFIX_BITS)
    return peer
