"""The counters as Prometheus reads them: one page for all workers, whichever of them is asked."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from graphpipe.server.numbers.counters import FAMILIES, PROTOCOLS, STATUSES, Counters, Family
from graphpipe.version import __version__

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """A collector over a server's counters."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def page(self) -> bytes:
        """The page as text."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Everything, as Prometheus's client library has it."""
        counters = self._counters
        totals = counters.totals()
        for family in FAMILIES:
            yield self._family(family, totals)
        yield GaugeMetricFamily("graphpipe_workers", "Worker processes that are up.", counters.workers_live)
        yield GaugeMetricFamily("graphpipe_workers_wanted", "Worker processes that should be.", counters.workers_wanted)
        yield CounterMetricFamily(
            "graphpipe_worker_restarts", "How often a worker was started again.", counters.restarts
        )
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("graphpipe_build", "What is running.", build)

    def _family(self, family: Family, totals: list[float]) -> Metric:
        counters = self._counters
        owners = counters.models if family.per == "model" else ("",)
        labels = ["model"] if family.per == "model" else []
        metric: Metric
        if family.kind == "by_code":
            by_code = CounterMetricFamily(family.name, family.help, labels=["model", "code", "protocol"])
            for model in owners:
                start = counters.start_of(family, model)
                kinds = [(status, protocol) for protocol in PROTOCOLS for status in STATUSES]
                for (status, protocol), count in zip(kinds, totals[start:], strict=False):
                    if count:
                        by_code.add_metric([model, str(status or "other"), protocol], count)
            return by_code
        if family.kind == "histogram":
            histogram = HistogramMetricFamily(family.name, family.help, labels=labels)
            for model in owners:
                start = counters.start_of(family, model)
                counts, cumulative, buckets = totals[start:], 0.0, []
                for bound, count in zip((*map(str, family.buckets), "+Inf"), counts, strict=False):
                    cumulative += count
                    buckets.append((bound, cumulative))
                if cumulative:
                    histogram.add_metric([model], buckets, counts[len(family.buckets) + 1])
            return histogram
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        metric = kind(family.name, family.help, labels=labels)
        for model in owners:
            if model or not labels:
                metric.add_metric([model] if labels else [], totals[counters.start_of(family, model)])
        return metric
