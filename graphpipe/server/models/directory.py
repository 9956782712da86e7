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
    remembers where a name led forgets it. The stages of pipelines are found by their names, PIPELINE.STAGE, but are not
    among those that are listed.
    """

    def __init__(self, services: Iterable[Service] = (), *, let_go: Callable[[Service], None] = Service.close) -> None:
        self._services: dict[str, dict[str, Service]] = {}
        self._let_go = let_go
        self._parts: set[str] = set()
        self.on_change: list[Callable[[], None]] = []
        for service in services:
            self.put(service)

    def put(self, service: Service, version: str = "1") -> None:
        """From now on a name and version mean this service. What they meant is let go after its last request.

        A pipeline's stages come along, in its version; and a pipeline that has a stage of this name and version has this
        one from now on. Raises LoadError where it does not fit there; nothing has changed then.
        """
        new = {service.name: service}
        _add_parts(service, new)
        made: list[Service] = []
        try:
            self._put_into_pipelines(service, version, made)
        except BaseException:
            for each in made:
                each.retire(self._let_go)
            raise
        new.update({each.name: each for each in made})
        over = []
        for name, each in new.items():
            versions = self._services.setdefault(name, {})
            if (before := versions.get(version, each)) is not each:
                over.append(before)
            versions[version] = each
        self._parts = {part.name for each in self for part in each.parts}
        over += [gone for before in over for gone in self._forgotten_parts(before, version)]
        for forget in self.on_change:
            forget()
        for before in over:
            before.retire(self._let_go)

    def _put_into_pipelines(self, part: Service, version: str, made: list[Service]) -> None:
        """Make the pipeline anew that has a stage of this name, and the one that has that pipeline for a stage."""
        for versions in self._services.values():
            service = versions.get(version)
            if service is None or service.with_parts is None or part in service.parts:
                continue
            if any(part.name == each.name for each in service.parts):
                with_it = service.with_parts([part if part.name == each.name else each for each in service.parts])
                made.append(with_it)
                self._put_into_pipelines(with_it, version, made)

    def _forgotten_parts(self, before: Service, version: str) -> Iterator[Service]:
        """Stages that the pipeline which was there had, and no pipeline has any more."""
        kept = {
            part.name for versions in self._services.values() if version in versions for part in versions[version].parts
        }
        for part in before.parts:
            if part.name not in kept and (known := self._services.get(part.name, {}).pop(version, None)) is not None:
                if not self._services[part.name]:
                    del self._services[part.name]
                yield known
                yield from self._forgotten_parts(known, version)

    def find(self, name: str, version: str = "") -> Service:
        """The service of a name: of a version, or the one put in last. Raises NotFound, which lists what there is."""
        versions = self._services.get(name)
        if versions is None:
            raise NotFound(f"there is no model {quoted(name)}; there are {listed(self.names)}")
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
        return self.find(self.names[0])

    @property
    def names(self) -> list[str]:
        """The models' names, the default one first, without the stages of pipelines."""
        return [name for name in self._services if name not in self._parts]

    @property
    def models(self) -> list[Service]:
        """The services of these names, in all their versions."""
        return [service for name in self.names for service in self._services[name].values()]

    def __iter__(self) -> Iterator[Service]:
        return (service for versions in self._services.values() for service in versions.values())


def _add_parts(service: Service, found: dict[str, Service]) -> None:
    for part in service.parts:
        found[part.name] = part
        _add_parts(part, found)
