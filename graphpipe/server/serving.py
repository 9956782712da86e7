"""``graphpipe.serve`` and ``graphpipe.serving``: put a model that is already here behind a socket."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from graphpipe.arguments import came
from graphpipe.backends import LoadedModel, LoadOptions, Model
from graphpipe.backends.find import default_name, loaded, loading
from graphpipe.descriptors import fill
from graphpipe.errors import LoadError
from graphpipe.server.extra import require_extra
from graphpipe.server.models.lent import Lent
from graphpipe.server.settings.configuration import configure_from_python
from graphpipe.server.settings.flags import FLAGS
from graphpipe.server.settings.keywords import Keywords
from graphpipe.server.settings.values import ModelSettings, Settings
from graphpipe.signals import dropped_by_the_kernel, ends_at_once, noted

if TYPE_CHECKING:
    from graphpipe.server.life.server import Server

__all__ = ["Serving", "serve", "serving"]

Servable = Model | LoadedModel | str | Path | Callable[..., Any]


def serve(
    model: Servable,
    listen: str | int = "127.0.0.1:9000",
    *,
    name: str = "",
    on_ready: Callable[[str], object] | None = None,
    **settings: Unpack[Keywords],
) -> None:
    """Serve a model until SIGTERM or Ctrl-C. Blocks; ``serving`` does not.

    ``model`` is a loaded model, anything with the methods of Model, a function of arrays, a PyTorch module, or a source
    for ``graphpipe.load``. ``listen`` is HOST:PORT, [IPv6]:PORT, unix:PATH, or a port of 127.0.0.1; port 0 picks a free
    one. ``on_ready`` is called with the URL when requests are welcome; without it the URL is printed.

    ``settings`` are the flags of ``graphpipe-serve`` with _ for -: ``threads=4``, ``body_bytes_max="64MiB"``,
    ``batch_sizes=[1, 8]``. With ``workers`` or ``memory_limit_bytes`` other processes serve, which can only have a model
    that they can load: a file, a URL, a function that a module has. With ``log_format`` or ``verbose`` the program's log
    goes to standard error while it serves; without them it is left alone.

    Raises LoadError, BindError if the address cannot be listened on, TypeError for a setting that does not exist or is of
    another kind, SettingsError (a ValueError) for settings that contradict each other, RuntimeError where an event loop
    runs in this thread, or ImportError if the server extra is not installed.
    """
    if _loop_is_running():
        raise RuntimeError(
            "serve() blocks, and an event loop runs in this thread, as in a notebook or an async function: "
            "graphpipe.serving(model) serves beside it"
        )
    require_extra("graphpipe.serve()")
    from graphpipe.server.life.server import Server

    said: dict[str, Any] = {**settings}
    fill()
    with ends_at_once(dropped_by_the_kernel()), noted():
        server, chosen, ours = _told("serve", model, name, {"listen": listen, **said})
        with _logged(server) if said.keys() & _ABOUT_THE_LOG else contextlib.nullcontext():
            Server([(chosen, ours)], server, on_ready or _announce).run()


def serving(
    model: Servable,
    listen: str | int = "127.0.0.1:0",
    *,
    name: str = "",
    process: bool = False,
    **settings: Unpack[Keywords],
) -> Serving:
    """Serve a model beside what this program does: in a notebook, in a test, in an application.

        with graphpipe.serving(model) as server:
            graphpipe.remote.execute(server.url, array)

    Returns when requests are welcome, on a free port unless ``listen`` says another. The end of the ``with`` ends the
    server, as ``stop()`` does, and as the last reference to what this gives does when it goes.

    It serves from a thread of this process; with ``process``, from a process of its own, which this program's work does
    not slow down, and which can only have a model that it can load: a file, a URL, a function that a module has. A model
    that was loaded before stays open, for whoever has it. All else is as with ``serve``, whose settings these are.

    Raises what ``serve`` raises, here, when the server cannot start.
    """
    require_extra("graphpipe.serving()")
    from graphpipe.server.life.server import Server

    # No balancer is to take note of its end, and another process's lines are nobody's in here unless asked for.
    quiet: Keywords = {"drain_grace_s": 0, **({"access_lines_per_s": 0} if process else {})}
    said: dict[str, Any] = {**quiet, **settings}
    fill()
    server, chosen, ours = _told("serving", model, name, {"listen": listen, **said}, process)
    if process and not chosen.source:
        raise LoadError(
            f"model {chosen.name!r} is in this process only, and process=True serves from another: put it into a file and "
            "serve 'file.py:name', or leave process out"
        )
    if ours is not None and isinstance(model, LoadedModel | Model):
        ours = cast(Model, Lent(ours))
    with contextlib.ExitStack() as stack:
        if said.keys() & _ABOUT_THE_LOG:
            stack.enter_context(_logged(server))
        started = Server([(chosen, ours)], server, apart=process)
        started.start()
        return Serving(started, chosen.name, stack.pop_all())


class Serving:
    """A model that is being served: what ``graphpipe.serving`` gives.

    ``url`` is where, ``name`` what the model is called there. It ends with ``stop()``, with the end of a ``with``, and
    when nobody has it any more.
    """

    def __init__(self, server: Server, name: str, afterwards: contextlib.ExitStack) -> None:
        self.url = server.url
        self.name = name
        self._server = server
        self._afterwards = afterwards
        # Not waiting: what goes on in this thread must not stop because something was let go of.
        self._let_go = weakref.finalize(self, _end, server, afterwards, wait=False)
        self._let_go.atexit = False  # the server sees to that itself

    def stop(self) -> None:
        """Finish the requests in flight, and end. Returns when it is over; said again, it changes nothing."""
        self._let_go.detach()
        _end(self._server, self._afterwards, wait=True)

    def __enter__(self) -> Serving:
        if not self._let_go.alive:
            raise RuntimeError("this server is stopped; graphpipe.serving(model) starts another")
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<serving {self.name} at {self.url}>"


def _end(server: Server, afterwards: contextlib.ExitStack, wait: bool) -> None:
    server.stop(wait)
    afterwards.close()


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _announce(url: str) -> None:
    print(f"listening on {url}", flush=True)


def _told(
    call: str, model: Servable, name: str, said: Mapping[str, Any], apart: bool = False
) -> tuple[Settings, ModelSettings, Model | None]:
    """The settings in force, and the model: None where whoever serves it loads it from its source."""
    if not isinstance(name, str):
        raise TypeError(f"{call}(): name: expected text, as in name='digits'; {came(name)}")
    configuration = configure_from_python(call, name or "model", "", said)
    server, chosen = configuration.settings, configuration.models[0]
    with loading(name or type(model).__name__):  # what looks for a signature asks for it
        is_loaded = isinstance(model, LoadedModel | Model)
    if isinstance(model, LoadedModel) and model.closed:
        raise LoadError(f"model {model.name!r} is closed; graphpipe.load() loads another")
    source = str(model) if isinstance(model, str | Path) else ""
    elsewhere = server.in_workers or apart
    if elsewhere and not is_loaded:
        source = source or _found_at(model)
    if source:
        return server, replace(chosen, name=name or default_name(source), source=source), None
    if not is_loaded:
        one_thread = replace(chosen.options, intra_threads=chosen.options.intra_threads or 1)
        model = loaded(cast(Callable[..., Any], model), one_thread, chosen.backend, said=chosen.said)
    elif about := sorted(_ABOUT_LOADING & said.keys()):
        raise TypeError(f"{call}(): {about[0]} is about loading, and this model is loaded: tell graphpipe.load()")
    chosen = replace(chosen, name=name or str(getattr(model, "name", "")) or type(model).__name__.lower())
    if isinstance(model, LoadedModel):
        options = model.options or LoadOptions()
        source = model.source or (_found_at(getattr(model.model, "function", None)) if elsewhere else "")
        return server, replace(chosen, source=source, options=options, backend=model.backend), model.model
    return server, chosen, cast(Model, model)


_ABOUT_THE_LOG = {"log_format", "verbose"}
_ABOUT_LOADING = {flag.field for flag in FLAGS if flag.home is LoadOptions or flag.name == "backend"}


def _found_at(thing: object) -> str:
    """module:name, where another process finds this very thing; nothing where it cannot."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    defined_in = sys.modules.get(module or "")
    if thing is None or defined_in is None or module == "__main__":
        return ""
    found: object = defined_in
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is thing:
        return f"{module}:{name}"
    # An object, or a function under another name than its own.
    return next((f"{module}:{called}" for called, each in vars(defined_in).items() if each is thing), "")


def _logged(settings: Settings) -> contextlib.AbstractContextManager[None]:
    """Send the log to standard error, and leave the program's own as it was."""
    from graphpipe.server.numbers.logs import log_beside

    return log_beside(settings.log_format, settings.verbose, settings.access_lines_per_s > 0)
