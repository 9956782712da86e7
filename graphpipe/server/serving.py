"""``graphpipe.serve``: put a model that is already here behind a socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from graphpipe.arguments import came
from graphpipe.backends import LoadedModel, LoadOptions, Model, load
from graphpipe.backends.find import loading
from graphpipe.descriptors import fill
from graphpipe.server.settings.flags import FLAGS
from graphpipe.server.settings.values import ModelSettings, Settings, fitting_body
from graphpipe.signals import dropped_by_the_kernel, ends_at_once, noted

__all__ = ["serve"]


def serve(
    model: Model | LoadedModel | str | Path | Callable[..., Any],
    listen: str = "127.0.0.1:9000",
    *,
    name: str = "",
    on_ready: Callable[[str], None] | None = None,
    **settings: Any,
) -> None:
    """Serve a model until SIGTERM or Ctrl-C. Blocks.

    ``model`` is a loaded model, anything with the methods of Model, a function of arrays, a PyTorch module, or a source
    for ``graphpipe.load``. ``listen`` is HOST:PORT, [IPv6]:PORT or unix:PATH; port 0 picks a free one. ``on_ready`` is
    called with the URL when requests are welcome; without it the URL is printed. ``settings`` are those of
    graphpipe.server.settings.values, by name: of the server, and of the model (``threads=4``, ``batch_rows_max=32``).

    Raises LoadError, BindError if the address cannot be listened on, or ValueError for settings that contradict each other.
    """
    of_server = {field.name for field in fields(Settings)} - {"listen"}
    of_model = {field.name for field in fields(ModelSettings)} - {"name", "source", "options", "backend"}
    for setting in settings:
        if setting not in of_server | of_model:
            raise TypeError(f"serve() has no setting {setting!r}; it has {', '.join(sorted(of_server | of_model))}")
    settings = {setting: _read(setting, value) for setting, value in settings.items()}
    listen = _read("listen", listen)
    server = Settings(listen=listen, **{key: settings[key] for key in of_server & settings.keys()})
    body = fitting_body(server.body_bytes_max, server.in_flight_bytes_max, server.workers, "body_bytes_max" in settings)
    server = replace(server, body_bytes_max=body)
    fill()
    with ends_at_once(dropped_by_the_kernel()), noted():
        with loading(name or type(model).__name__):  # what looks for a signature asks for it
            if isinstance(model, str | Path) or not isinstance(model, LoadedModel | Model):
                model = load(model, intra_threads=1)
        name = name or getattr(model, "name", "") or type(model).__name__.lower()
        bare = model.model if isinstance(model, LoadedModel) else model
        loaded: dict[str, Any] = {"source": ""}
        if isinstance(model, LoadedModel):
            loaded = {"source": model.source, "options": model.options or LoadOptions(), "backend": model.backend}
        from graphpipe.server.life.server import run

        run(
            [(ModelSettings(name, **loaded, **{key: settings[key] for key in of_model & settings.keys()}), bare)],
            server,
            on_ready=on_ready or (lambda url: print(f"listening on {url}", flush=True)),
        )


def _read(setting: str, value: Any) -> Any:
    """A setting as its flag would have it. Raises TypeError for a value of another kind."""
    for flag in FLAGS:
        # What is not set, and empty lists, have no form on a command line.
        if flag.home in (Settings, ModelSettings) and flag.field == setting and (value or isinstance(value, int)):
            try:
                return flag.kind.read(value)
            except ValueError as error:
                raise TypeError(f"serve(): {setting}: {error}; {came(value)}") from None
    return value
