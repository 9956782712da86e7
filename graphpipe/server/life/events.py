"""What a server tells of its life, in its log: it starts, a model is loaded, it listens, drains, has stopped.

Each is a record with an ``event`` among its fields, for whoever reads the log as data, and a sentence for whoever looks on
in a terminal. With several workers it is told once, by the process that watches them.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from graphpipe.machine import usable_cpus
from graphpipe.server.life.notify import Notifier
from graphpipe.server.models.service import Service
from graphpipe.server.numbers.fields import with_fields
from graphpipe.server.numbers.logs import EVENTS
from graphpipe.server.settings.values import Settings
from graphpipe.signature import Signature, TensorSpec
from graphpipe.version import SERVER, __version__
from graphpipe.words import counted

__all__ = ["SIGNALS", "Events", "Loaded"]

log = logging.getLogger(EVENTS)

# What ends a server that has a program to itself.
SIGNALS = "signals"

# Of a model's inputs, and of its outputs, so many are told; of one, so many characters.
_TENSORS_MAX = 6
_TENSOR_CHARACTERS_MAX = 100


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready to be asked. ``threads`` is 0 for one that is run on the event loop, ``seconds`` is how long
    it took to load and to answer its warm-up, and ``cold`` why it did not answer that, if it did not.
    """

    model: str
    kind: str
    runtime: str
    signature: str
    threads: int
    seconds: float
    cold: str

    @classmethod
    def of(cls, service: Service, seconds: float, cold: str) -> Loaded:
        """A service's model, as it is to be told."""
        model = service.model
        return cls(
            service.name,
            str(getattr(model, "kind", "")) or type(model).__name__,
            str(getattr(model, "runtime", "")),
            _short(model.signature),
            service.threads,
            round(seconds, 3),
            cold,
        )

    def to_json(self) -> str:
        """One line, for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Loaded:
        """What ``to_json`` wrote."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        kind = f"{self.kind} ({self.runtime})" if self.runtime else self.kind
        threads = f"; {counted(self.threads, 'thread')}" if self.threads else ""
        return f"model {self.model}: {kind}, {self.signature}{threads}; loaded in {self.seconds:.2f} s"


class Events:
    """What one server has to tell, from its start to its end."""

    def __init__(self, settings: Settings, notifier: Notifier) -> None:
        self._settings = settings
        self._notifier = notifier
        self._models: dict[str, str] = {}  # that were told of, and why each is cold

    def loaded(self, loaded: Loaded) -> None:
        """A model is loaded, in this process or in a worker: told once. The first one says that the server starts."""
        if not self._models:
            self._started()
        if loaded.model not in self._models:
            fields = {name: value for name, value in asdict(loaded).items() if name != "cold"}
            _tell("model loaded", str(loaded), **fields)
        if loaded.cold and self._models.get(loaded.model) != loaded.cold:
            log.warning(
                "model %r did not answer its warm-up, and is served without: %s",
                loaded.model,
                loaded.cold,
                extra=with_fields(model=loaded.model),
            )
        self._models[loaded.model] = loaded.cold

    def listening(self, url: str, metrics_url: str, reach: str, stopped_by: str, grpc_url: str = "") -> None:
        """Requests are welcome. Without a ``metrics_url`` the metrics are at the server's own; ``reach`` says who may call,
        where that needs saying, ``stopped_by`` what ends it: SIGNALS where its own handlers do, nothing if nobody knows.
        ``grpc_url`` is where gRPC has an address of its own.
        """
        self._notifier.ready(url)
        metrics = _page(metrics_url or url, "/metrics")
        if stopped_by == SIGNALS:
            stopped_by = "Ctrl-C" if _hears_ctrl_c() else "SIGTERM"
        how = f"; {stopped_by} to stop" if stopped_by else ""
        more = {"grpc": grpc_url} if grpc_url else {}
        alone = f"gRPC alone at {grpc_url}, " if grpc_url else ""
        _tell("listening", f"{alone}metrics at {metrics}{how}", url=url, metrics=metrics, **more)
        if reach:
            _tell("open", reach)

    def draining(self, in_flight: int, told_by: signal.Signals | None) -> None:
        """No new requests are wanted. ``told_by`` is the signal that said so."""
        self._notifier.stopping()
        doing = f"finishing {counted(in_flight, 'request')}" if in_flight else "stopping"
        again = ""
        if told_by is not None:
            key = "Ctrl-C" if told_by == signal.SIGINT and _hears_ctrl_c() else told_by.name
            again = f"; {key} again to stop now"
        _tell("draining", doing + again, in_flight=in_flight)

    def stopped(self) -> None:
        """All is over."""
        _tell("stopped", "stopped")

    def _started(self) -> None:
        cpus, workers = usable_cpus(), self._settings.workers
        name, where = SERVER.replace("/", " "), f"{platform.system()} {platform.machine()}"
        python = platform.python_version()
        words = f"{name}, Python {python} on {where}, {counted(cpus, 'CPU')}"
        words += f", {counted(workers, 'worker')}" if self._settings.in_workers else ""
        about = {"version": __version__, "python": python, "platform": where, "cpus": cpus, "workers": workers}
        _tell("start", words, **about, pid=os.getpid())


def _tell(event: str, words: str, **fields: object) -> None:
    log.info("%s", words, extra=with_fields(event=event, **fields))


def _short(signature: Signature) -> str:
    """What a model takes and gives, in a line: ``x float32[n, 64] -> label int64[n]``."""
    return " -> ".join(
        _tensors({spec.name: spec for spec in specs}, names, undeclared)
        for specs, names, undeclared in (
            (signature.inputs, signature.input_names, signature.variadic),
            (signature.outputs, signature.output_names, signature.open_outputs),
        )
    )


def _tensors(specs: dict[str, TensorSpec], names: Sequence[str], undeclared: bool) -> str:
    shown = []
    for name in names[:_TENSORS_MAX]:
        text = f"{name} {specs.get(name, TensorSpec(name)).text}"
        shown.append(text if len(text) <= _TENSOR_CHARACTERS_MAX else f"{text[:_TENSOR_CHARACTERS_MAX]}...")
    more = len(names) - len(shown)
    return (", ".join(shown) or ("any" if undeclared else "nothing")) + (f" and {more} more" if more else "")


def _page(url: str, path: str) -> str:
    return f"{path} of {url}" if url.startswith("unix:") else f"{url}{path}"


def _hears_ctrl_c() -> bool:
    """Whether Ctrl-C in a terminal comes here: this process is in the terminal's foreground."""
    if not hasattr(os, "tcgetpgrp"):
        return sys.stderr is not None and sys.stderr.isatty()
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
