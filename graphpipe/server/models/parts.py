"""The pipeline that a model is, whatever is around it, and what is served of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from graphpipe.backends.model import Model
from graphpipe.errors import LoadError
from graphpipe.pipeline.flow import Flow
from graphpipe.pipeline.part import OF_SERVING, Part
from graphpipe.problem.posed import Posed
from graphpipe.server.models.lent import Lent
from graphpipe.server.settings.values import ModelSettings
from graphpipe.setting import declared_in, read_keywords

__all__ = ["PipelineIn", "pipeline_in"]

_DECLARED = declared_in(ModelSettings)
# What is said of the whole and holds for each stage that says nothing else: the machine's places and limits.
_OF_THE_WHOLE = ("threads", "queue_requests_max", "cache_dir", "cache_bytes_max", "cache_fresh_ms")


@dataclass(frozen=True, slots=True)
class PipelineIn:
    """A pipeline, and the problems that it is held against, the outermost first. Its owner closes it if it ``is_lent``."""

    flow: Flow
    posed: tuple[Posed, ...]
    is_lent: bool

    def parts(self, whole: ModelSettings) -> list[tuple[ModelSettings, Model]]:
        """What each stage is told, and its model: PIPELINE.STAGE. Raises LoadError for what no server can be told."""
        return [(_told(part, whole), self._owned(part)) for part in self.flow.parts]

    def _owned(self, part: Part) -> Model:
        return part.model if part.is_ours and not self.is_lent else cast(Model, Lent(part.model))

    def with_models(self, models: Mapping[str, Model]) -> PipelineIn:
        """The same with other models for some stages. Raises LoadError where one does not fit."""
        flow = self.flow.with_models(models)
        posed: list[Posed] = []
        for each in reversed(self.posed):
            posed.insert(0, each.again(posed[0] if posed else flow))
        return PipelineIn(flow, tuple(posed), self.is_lent)

    @property
    def model(self) -> Model:
        """The whole."""
        return cast(Model, self.posed[0] if self.posed else self.flow)


def pipeline_in(model: Any) -> PipelineIn | None:
    """The pipeline that a model is; None for any other, and for one that does not run in this process."""
    try:
        if not isinstance(getattr(model, "flow", None), Flow):
            return None
    except Exception:  # a model's attributes may be anything
        return None
    posed: list[Posed] = []
    is_lent = False
    while not isinstance(model, Flow):
        if isinstance(model, Posed):
            posed.append(model)
            model = model.model
        elif isinstance(inner := getattr(model, "posed", None), Posed):  # a package's
            model = inner
        elif isinstance(model, Lent):
            is_lent, model = True, model.lent
        else:
            return None
    return PipelineIn(model, tuple(posed), is_lent)


def _told(part: Part, whole: ModelSettings) -> ModelSettings:
    try:
        said = read_keywords("Stage", {name: _DECLARED[name] for name in OF_SERVING}, part.settings)
    except TypeError as error:
        raise LoadError(f"stage {part.name!r}: {error}") from None
    told = {name: getattr(whole, name) for name in _OF_THE_WHOLE}
    fresh = ModelSettings(f"{whole.name}.{part.name}", part.source, part.options)
    return replace(fresh, **{**told, **said})
