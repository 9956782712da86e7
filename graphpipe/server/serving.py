"""``graphpipe.serve``: put a model that is already here behind a socket."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Unpack, cast

from graphpipe.backends import LoadedModel, LoadOptions, Model, load
from graphpipe.backends.find import default_name, loading
from graphpipe.descriptors import fill
from graphpipe.server.settings.configuration import configure_from_python
from graphpipe.server.settings.flags import FLAGS
from graphpipe.server.settings.keywords import Keywords
from graphpipe.server.settings.values import ModelSettings, Settings
from graphpipe.signals import dropped_by_the_kernel, ends_at_once, noted

__all__ = ["serve"]

Servable = Model | LoadedModel | str | Path | Callable[..., Any]


def serve(
    model: Servable,
    listen: str = "127.0.0.1:9000",
    *,
    name: str = "",
    on_ready: Callable[[str], object] | None = None,
    **settings: Unpack[Keywords],
) -> None:
    """Serve a model until SIGTERM or Ctrl-C. Blocks.

    ``model`` is a loaded model, anything with the methods of Model, a function of arrays, a PyTorch module, or a source
    for ``graphpipe.load``. ``listen`` is HOST:PORT, [IPv6]:PORT or unix:PATH; port 0 picks a free one. ``on_ready`` is
    called with the URL when requests are welcome; without it the URL is printed.

    ``settings`` are the flags of ``graphpipe-serve`` with _ for -: ``threads=4``, ``body_bytes_max="64MiB"``,
    ``batch_sizes=[1, 8]``. With ``workers`` or ``memory_limit_bytes`` other processes serve, which can only have a model
    that they can load: a file, a URL, a function that a module has. With ``log_format`` or ``verbose`` the program's log
    goes to standard error while it serves; without them it is left alone.

    Raises LoadError, BindError if the address cannot be listened on, TypeError for a setting that does not exist or is of
    another kind, or SettingsError (a ValueError) for settings that contradict each other.
    """
    from graphpipe.server.life.server import Server

    said: dict[str, Any] = {**settings}
    fill()
    with ends_at_once(dropped_by_the_kernel()), noted():
        server, chosen, loaded = _told(model, name, {"listen": listen, **said})
        with _logged(server) if said.keys() & {"log_format", "verbose"} else contextlib.nullcontext():
            Server([(chosen, loaded)], server, on_ready or _announce).run()


def _announce(url: str) -> None:
    print(f"listening on {url}", flush=True)


def _told(model: Servable, name: str, said: Mapping[str, Any]) -> tuple[Settings, ModelSettings, Model | None]:
    """The settings in force, and the model: None where whoever serves it loads it from its source."""
    configuration = configure_from_python("serve", name or "model", "", said)
    server, chosen = configuration.settings, configuration.models[0]
    with loading(name or type(model).__name__):  # what looks for a signature asks for it
        is_loaded = isinstance(model, LoadedModel | Model)
    source = str(model) if isinstance(model, str | Path) else ""
    if server.in_workers and not is_loaded:
        source = source or _found_at(model)
    if source:
        return server, replace(chosen, name=name or default_name(source), source=source), None
    if not is_loaded:
        one_thread = replace(chosen.options, intra_threads=chosen.options.intra_threads or 1)
        model = load(cast(Callable[..., Any], model), **asdict(one_thread))
    elif about := sorted(_ABOUT_LOADING & said.keys()):
        raise TypeError(f"serve(): {about[0]} is about loading, and this model is loaded: tell graphpipe.load()")
    chosen = replace(chosen, name=name or str(getattr(model, "name", "")) or type(model).__name__.lower())
    if isinstance(model, LoadedModel):
        options = model.options or LoadOptions()
        return server, replace(chosen, source=model.source, options=options, backend=model.backend), model.model
    return server, chosen, cast(Model, model)


_ABOUT_LOADING = {flag.field for flag in FLAGS if flag.home is LoadOptions or flag.name == "backend"}


def _found_at(thing: object) -> str:
    """module:name, where another process finds this very thing; nothing where it cannot."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    if not module or module == "__main__" or not name:
        return ""
    found = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is thing else ""


@contextlib.contextmanager
def _logged(settings: Settings) -> Iterator[None]:
    """Send the log to standard error, and leave the program's own as it was."""
    from graphpipe.server.numbers.logs import EVENTS, log_to_stderr

    loggers = [logging.getLogger(name) for name in (None, EVENTS, "graphpipe.access", "aiohttp.server", "asyncio")]
    levels = [logger.level for logger in loggers]
    handlers = list(loggers[0].handlers)
    log_to_stderr(settings.log_format, settings.verbose, settings.access_lines_per_s > 0)
    try:
        yield
    finally:
        for handler in loggers[0].handlers:
            handler.close()
        loggers[0].handlers[:] = handlers
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
