"""Which models there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from graphpipe.errors import NotFound
from graphpipe.server.models.service import Service
from graphpipe.words import listed, quoted

__all__ = ["Directory"]


class Directory:
    """Services by the name and version of their models. Belongs to one event loop.

    The first model that was put in is the default one. ``on_change`` functions are called after each change: whoever
    remembers where a name led forgets it.
    """

    def __init__(self, services: Iterable[Service] = (), *, let_go: Callable[[Service], None] = Service.close) -> None:
        self._services: dict[str, dict[str, Service]] = {}
        self._let_go = let_go
        self.on_change: list[Callable[[], None]] = []
        for service in services:
            self.put(service)

    def put(self, service: Service, version: str = "1") -> None:
        """From now on a name and version mean this service. The one that they meant is let go after its last request."""
        versions = self._services.setdefault(service.name, {})
        before = versions.get(version)
        versions[version] = service
        for forget in self.on_change:
            forget()
        if before is not None:
            before.retire(self._let_go)

    def find(self, name: str, version: str = "") -> Service:
        """The service of a name: of a version, or the one put in last. Raises NotFound, which lists what there is."""
        versions = self._services.get(name)
        if versions is None:
            raise NotFound(f"there is no model {quoted(name)}; there are {listed(list(self._services))}")
        if not version:
            return next(reversed(versions.values()))
        service = versions.get(version)
        if service is None:
            raise NotFound(f"model {quoted(name)} has no version {quoted(version)}; it has {', '.join(versions)}")
        return service

    def versions(self, name: str) -> list[str]:
        """The versions of a name, the one put in last at the end; none of a name that there is not."""
        return list(self._services.get(name, ()))

    @property
    def first(self) -> Service:
        """The default model's service."""
        return self.find(next(iter(self._services)))

    @property
    def names(self) -> list[str]:
        """The models' names, the default one first."""
        return list(self._services)

    def __iter__(self) -> Iterator[Service]:
        return (service for versions in self._services.values() for service in versions.values())
