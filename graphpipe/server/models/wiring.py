"""Models are opened here, and each gets its stages: the only file that knows them all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from uuid import uuid4

from graphpipe.backends import LoadOptions, Model
from graphpipe.backends.find import kind_of, loading, opened
from graphpipe.backends.unused import refuse_unused
from graphpipe.errors import LoadError
from graphpipe.machine import usable_cpus
from graphpipe.server.models.parts import PipelineIn, pipeline_in
from graphpipe.server.models.pipeline import PipelineStage
from graphpipe.server.models.service import Service
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.numbers.meter import Meter
from graphpipe.server.settings.values import ModelSettings
from graphpipe.server.stages import Stage
from graphpipe.server.stages.batching.fixed_rows import AnyRows, fixed_rows, takes_fixed_rows
from graphpipe.server.stages.batching.limits import BatchLimits
from graphpipe.server.stages.batching.queue import Batcher
from graphpipe.server.stages.batching.ragged import ragged_axes
from graphpipe.server.stages.cache.file import StoreUnavailable, UntrustedFolder
from graphpipe.server.stages.cache.keys import RowKeys
from graphpipe.server.stages.cache.manner import manner
from graphpipe.server.stages.cache.stage import ModelIdentity, RowCache
from graphpipe.server.stages.cache.store import RowStore, cache_folder, store_folder
from graphpipe.server.stages.cache.upstream import UpstreamVersion
from graphpipe.server.stages.causes import MASKED, Causes
from graphpipe.server.stages.posed import PosedStage
from graphpipe.server.stages.rows import RowEvidence, why_inputs_have_no_rows, why_not_by_rows
from graphpipe.server.stages.runner import ModelRunner
from graphpipe.signature import Signature

__all__ = ["build", "load_models"]

log = logging.getLogger("graphpipe.server")


@dataclass(frozen=True, slots=True)
class _Around:
    """What all services of a server have in common."""

    counters: Counters
    is_full: Callable[[], bool]
    causes: Causes


def load_models(
    models: Sequence[ModelSettings], seconds: dict[str, float] | None = None
) -> list[tuple[ModelSettings, Model]]:
    """Open every model, in order, and note in ``seconds`` how long each took.

    Raises LoadError for the first that cannot be, and for an option that does nothing for any of them: before anything is
    loaded, as far as one can know.
    """
    if any(model.said for model in models):
        refuse_unused([(model.name, kind_of(model.source, model.backend), model.said) for model in models])
    loaded, kinds = [], []
    for model in models:
        began = perf_counter()
        opened_one, kind = opened(model.source, _one_thread(model.options), model.backend, model.name)
        loaded.append((model, opened_one))
        kinds.append((model.name, kind, model.said))
        if seconds is not None:
            seconds[model.name] = perf_counter() - began
    refuse_unused(kinds)
    return loaded


def _one_thread(options: LoadOptions) -> LoadOptions:
    # Several calls run at once here: one thread each, unless told otherwise.
    return replace(options, intra_threads=options.intra_threads or 1)


def build(
    models: Sequence[tuple[ModelSettings, Model]],
    counters: Counters,
    is_full: Callable[[], bool] = lambda: False,
    causes: Causes = MASKED,
) -> list[Service]:
    """Each model behind its stages; of a pipeline each part is a service with stages of its own. ``is_full`` says that
    more is held of bodies and answers than may be, ``causes`` what is told of failures.

    Raises LoadError where a stage cannot be had with a model.
    """
    services, around = [], _Around(counters, is_full, causes)
    for settings, model in models:
        with loading(f"model {settings.name!r}"):  # it is asked what it takes
            services.append(_service(settings, model, around))
    _check_names(services)
    return services


def _check_names(services: Sequence[Service]) -> None:
    """Raise LoadError where a model is called as a stage of a pipeline is."""
    names = {service.name for service in services}
    parts = [part for service in services for part in service.parts]
    for part in parts:
        if part.name in names:
            raise LoadError(
                f"model {part.name!r} has the name that a stage of pipeline {part.name.rpartition('.')[0]!r} has; call one "
                "of them otherwise: --model NAME=SOURCE"
            )
        parts += part.parts


def _service(settings: ModelSettings, model: Model, around: _Around) -> Service:
    if (pipeline := pipeline_in(model)) is not None:
        parts = [_service(told, part, around) for told, part in pipeline.parts(settings)]
        names = [part.name for part in pipeline.flow.parts]
        if wide := {name: part.model for name, part in zip(names, parts, strict=True) if type(part.model) is AnyRows}:
            pipeline = pipeline.with_models(wide)
            model = pipeline.model
        return _pipeline(settings, model, pipeline, parts, around)
    if settings.batch_sizes and fixed_rows(model.signature) in settings.batch_sizes:
        model = AnyRows(model)
    meter = around.counters.meter(settings.name)
    threads = settings.threads or getattr(model, "threads", 0) or usable_cpus()
    limits = _batch_limits(settings, model.signature, threads)
    # Batches are bounded in the batcher's own queue.
    queue_max = settings.queue_requests_max if limits is None else max(settings.queue_requests_max, 2 * threads)
    runner = ModelRunner(
        model,
        settings.name,
        threads,
        queue_requests_max=queue_max,
        meter=meter,
        is_full=around.is_full,
        causes=around.causes,
    )
    stage = _staged(settings, model, runner, limits, meter)
    service = Service(
        settings.name,
        model,
        stage,
        meter,
        at_once=runner.at_once if runner.quick and stage is runner else None,
        as_guest=runner.as_guest if stage is runner else None,
        cast=settings.cast,
        ignore_extra_inputs=settings.ignore_extra_inputs,
        threads=0 if runner.quick else threads,
        rereads=stage is not runner,
        settings=settings,
    )
    meter.follow(service.numbers)
    if (numbers := getattr(model, "numbers", None)) is not None:
        meter.follow(numbers)
    return service


def _pipeline(
    settings: ModelSettings, model: Model, pipeline: PipelineIn, parts: Sequence[Service], around: _Around
) -> Service:
    meter = around.counters.meter(settings.name)
    asking = PipelineStage(pipeline.flow, parts, settings.name, meter)
    stage: Stage = asking
    for posed in reversed(pipeline.posed):
        stage = PosedStage(posed, stage)
    # So many calls of it are under way at once as its busiest stage has threads, and each of the others has one.
    at_once = max([part.threads for part in parts]) + len(parts)
    stage = _staged(settings, model, stage, _batch_limits(settings, model.signature, at_once), meter, parts)

    def with_parts(others: Sequence[Service]) -> Service:
        with loading(f"model {settings.name!r}"):
            names = [part.name for part in pipeline.flow.parts]
            triples = zip(names, parts, others, strict=True)
            changed = pipeline.with_models({name: now.model for name, before, now in triples if now is not before})
            return _pipeline(settings, changed.model, changed, others, around)

    service = Service(
        settings.name,
        model,
        stage,
        meter,
        at_once=asking.at_once if asking.quick and stage is asking else None,
        cast=settings.cast,
        ignore_extra_inputs=settings.ignore_extra_inputs,
        threads=sum([part.threads for part in parts]),
        rereads=True,  # several stages may take one input
        settings=settings,
        parts=tuple(parts),
        with_parts=with_parts,
    )
    meter.follow(service.numbers)
    return service


def _staged(
    settings: ModelSettings,
    model: Model,
    last: Stage,
    limits: BatchLimits | None,
    meter: Meter,
    parts: Sequence[Service] = (),
) -> Stage:
    """What was asked for before the last stage."""
    stage = last
    if limits is not None:
        stage = Batcher(limits, stage, RowEvidence(model.signature), settings.name, meter)
    if settings.cache:
        stage = _cached(settings, model, stage, meter, parts)
    return stage


def _cached(settings: ModelSettings, model: Model, stage: Stage, meter: Meter, parts: Sequence[Service]) -> Stage:
    ask = getattr(model, "current_version", None)
    version = str(getattr(model, "version", ""))
    if not version and not settings.cache_version:
        raise LoadError(
            f"model {settings.name!r} cannot be cached: it has no digest that would tell it from another one; "
            "declare a version that you change with the model: --cache-version 1"
        )
    reason = why_inputs_have_no_rows(model.signature)
    if reason is not None:
        log.warning("model %r is served without its row cache: %s", settings.name, reason)
        return stage
    identity = ModelIdentity(
        UpstreamVersion(ask, settings.cache_fresh_ms / 1000) if ask and version else version,
        " ".join([manner(settings, model), *_manners(parts), settings.cache_version]),
    )
    try:
        folder = store_folder(cache_folder(settings.cache_dir), settings.name)
        store = RowStore.open(folder, settings.cache_bytes_max)
    except UntrustedFolder as error:
        raise LoadError(f"model {settings.name!r} cannot be cached: {error}") from None
    except StoreUnavailable as error:
        log.warning("model %r is served without its row cache: %s (--cache-dir)", settings.name, error)
        return stage
    return RowCache(
        store,
        stage,
        identity,
        RowKeys(in_order=model.signature.variadic),
        RowEvidence(model.signature),
        ttl_s=settings.cache_ttl_s,
        whole_requests=takes_fixed_rows(model.signature),
        meter=meter,
    )


def _manners(parts: Sequence[Service]) -> list[str]:
    """In what manner the stages of a pipeline are loaded and called."""
    manners = []
    for part in parts:
        # One that came from elsewhere may be told from another one by its digest alone.
        unlike = str(getattr(part.model, "version", "")) or uuid4().hex
        manners += [unlike if part.settings is None else manner(part.settings, part.model), *_manners(part.parts)]
    return manners


def _batch_limits(settings: ModelSettings, signature: Signature, at_once: int) -> BatchLimits | None:
    sizes = settings.batch_sizes
    rows_max = settings.batch_rows_max or (max(sizes) if sizes else 0)
    if not rows_max:
        return None
    reason = why_not_by_rows(signature)
    if reason is not None:
        raise LoadError(f"model {settings.name!r} cannot be batched: {reason}")
    return BatchLimits(
        rows_max,
        settings.batch_wait_ms / 1000,
        sizes,
        ragged_axes(settings.batch_pad, signature),
        settings.queue_rows_max or max(1024, 16 * rows_max),
        at_once,
    )
