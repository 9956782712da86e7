"""Models are opened here, and each gets its stages: the only file that knows them all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter

from graphpipe.backends import LoadOptions, Model
from graphpipe.backends.find import kind_of, loading, opened
from graphpipe.backends.unused import refuse_unused
from graphpipe.errors import LoadError
from graphpipe.machine import usable_cpus
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
from graphpipe.server.stages.rows import RowEvidence, why_inputs_have_no_rows, why_not_by_rows
from graphpipe.server.stages.runner import ModelRunner
from graphpipe.signature import Signature

__all__ = ["build", "load_models"]

log = logging.getLogger("graphpipe.server")


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
    """Each model behind its stages. ``is_full`` says that more is held of bodies and answers than may be, ``causes`` what is
    told of failures.

    Raises LoadError where a stage cannot be had with a model.
    """
    services = []
    for settings, model in models:
        with loading(f"model {settings.name!r}"):  # it is asked what it takes
            services.append(_service(settings, model, counters.meter(settings.name), is_full, causes))
    return services


def _service(
    settings: ModelSettings, model: Model, meter: Meter, is_full: Callable[[], bool], causes: Causes
) -> Service:
    if settings.batch_sizes and fixed_rows(model.signature) in settings.batch_sizes:
        model = AnyRows(model)
    threads = settings.threads or getattr(model, "threads", 0) or usable_cpus()
    limits = _batch_limits(settings, model.signature, threads)
    # Batches are bounded in the batcher's own queue.
    queue_max = settings.queue_requests_max if limits is None else max(settings.queue_requests_max, 2 * threads)
    runner = ModelRunner(
        model, settings.name, threads, queue_requests_max=queue_max, meter=meter, is_full=is_full, causes=causes
    )
    stage: Stage = runner
    if limits is not None:
        stage = Batcher(limits, stage, RowEvidence(model.signature), settings.name, meter)
    if settings.cache:
        stage = _cached(settings, model, stage, meter)
    service = Service(
        settings.name,
        model,
        stage,
        meter,
        at_once=runner.at_once if runner.quick and stage is runner else None,
        cast=settings.cast,
        ignore_extra_inputs=settings.ignore_extra_inputs,
        threads=0 if runner.quick else threads,
        rereads=stage is not runner,
    )
    meter.follow(service.numbers)
    if (numbers := getattr(model, "numbers", None)) is not None:
        meter.follow(numbers)
    return service


def _cached(settings: ModelSettings, model: Model, stage: Stage, meter: Meter) -> Stage:
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
        f"{manner(settings, model)} {settings.cache_version}",
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
