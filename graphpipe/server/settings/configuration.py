"""From what is said (layers.py) to settings: for each the value in force, and its origin.

Flag beats environment beats file beats default. Within each of the three, what is said of one model beats what is said
of all. Python says everything itself: there its keywords beat the defaults, and nobody else has a word.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphpipe.backends.options import LoadOptions
from graphpipe.backends.unused import Said
from graphpipe.machine import usable_cpus
from graphpipe.server.settings.flags import FLAGS, Flag, by_name
from graphpipe.server.settings.layers import (
    Layer,
    SettingsError,
    Value,
    key_of,
    of_arguments,
    of_environment,
    of_file,
    of_keywords,
    of_platform,
    read_arguments,
    read_environment,
    read_file,
    text_in_toml,
)
from graphpipe.server.settings.values import ModelSettings, Settings, fitting_body

__all__ = ["Configuration", "SettingsError", "configure", "configure_from_python", "unknown_variables"]


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is in force. ``str()`` of it is a TOML file that says the same, with where each value came from.

    There, what follows from the machine is a number.
    """

    settings: Settings
    models: tuple[ModelSettings, ...]
    _server: Mapping[str, Value]
    _models: Mapping[str, Mapping[str, Value]]
    _sources: Mapping[str, Value]

    def __str__(self) -> str:
        lines: list[str] = []
        room = Value(self.settings.in_flight_cap(), self._server["in-flight-bytes-max"].origin)
        server_flags = [flag for flag in FLAGS if flag.scope == "server"]
        _write(lines, server_flags, {**self._server, "in-flight-bytes-max": room})
        cpus = usable_cpus()
        model_flags = [flag for flag in FLAGS if flag.scope == "model"]
        if not self.models:
            _write(lines, model_flags, _with_threads(self._models[""], cpus))
        for model in self.models:
            source = self._sources[model.name]
            lines += [
                "",
                f"[models.{key_of(model.name)}]",
                _line(f"source = {text_in_toml(source.value)}", source.origin),
            ]
            # How many calls make sense for a server elsewhere is not a matter of CPUs here.
            elsewhere = re.match(r"(remote|unix|https?):", model.source)
            values = self._models[model.name]
            _write(lines, model_flags, values if elsewhere else _with_threads(values, cpus))
        return "\n".join(lines) + "\n"


def configure(
    arguments: Mapping[str, Sequence[str]], environment: Mapping[str, str], file: str | Path | None = None
) -> Configuration:
    """The settings in force.

    ``arguments`` has the texts given for each flag on the command line, by the flag's name; ``file`` is a TOML file.

    Raises SettingsError.
    """
    flags, variables = of_arguments(arguments), of_environment(environment)
    layers = [flags, variables]
    table: dict[str, Any] = {}
    if file:
        layer, table = of_file(file)
        layers.append(layer)
    sources: dict[str, Value] = next((layer.models for layer in layers if layer.models), {})
    read_arguments(flags, arguments, sources)
    read_environment(variables, environment, sources)
    if file:
        read_file(layers[-1], table, str(file), sources)
    if not any("listen" in layer.general for layer in layers):
        layers.append(of_platform(environment))
    return _configuration(layers, sources)


def configure_from_python(call: str, name: str, source: str, keywords: Mapping[str, Any]) -> Configuration:
    """The settings in force for one model, from the keywords of a call in Python.

    Raises TypeError for a name that no setting has or a value of another kind, SettingsError for what contradicts itself.
    """
    return _configuration([of_keywords(call, keywords)], {name: Value(source, "argument model")})


def _configuration(layers: Sequence[Layer], sources: Mapping[str, Value]) -> Configuration:
    server = _that_fit(_in_force(by_name(("server",)).values(), layers, ""))
    models = {name: _in_force(by_name(("model",)).values(), layers, name) for name in sources or ("",)}
    _refuse_what_does_nothing(server, models)
    return Configuration(
        _made(Settings, server),
        tuple(_model(name, source.value, models[name]) for name, source in sources.items()),
        server,
        models,
        sources,
    )


def unknown_variables(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Variables whose names look like a flag's, misspelt; each with the one that was probably meant."""
    known = {flag.env for flag in FLAGS}
    found = []
    for name in environment:
        if name.startswith("GRAPHPIPE_") and name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.9)
            found += [(name, near[0])] if near else []
    return found


# --- what is in force -------------------------------------------------------------------------------------------------


def _in_force(flags: Iterable[Flag], layers: Sequence[Layer], model: str) -> dict[str, Value]:
    return {flag.name: _first(flag, layers, model) for flag in flags}


def _first(flag: Flag, layers: Sequence[Layer], model: str) -> Value:
    for layer in layers:
        for values in (layer.special.get(model, {}), layer.general):
            if flag.name in values:
                return values[flag.name]
    return Value(flag.default, f"default: {words}" if (words := flag.declared.default_text) else "default")


def _that_fit(server: dict[str, Value]) -> dict[str, Value]:
    """The same, with a largest body for which there is room."""
    body, in_flight = server["body-bytes-max"], server["in-flight-bytes-max"]
    is_said = not body.origin.startswith("default")
    try:
        size = fitting_body(body.value, in_flight.value, server["workers"].value, is_said)
    except ValueError as error:
        raise SettingsError(f"{error} ({body.origin}; {in_flight.origin})") from None
    if size == body.value:
        return server
    return server | {"body-bytes-max": Value(size, "default: what fits into in-flight-bytes-max")}


def _refuse_what_does_nothing(server: Mapping[str, Value], models: Mapping[str, Mapping[str, Value]]) -> None:
    """Raise SettingsError for a setting that was said, and whose setting it needs was not.

    An image's environment may speak to whichever models it will serve: what a variable says of models is no mistake.
    """
    for flag in FLAGS:
        if not flag.declared.needs:
            continue
        holders = [server] if flag.scope == "server" else list(models.values())
        saying = [values for values in holders if _is_said(flag, values[flag.name])]
        needs = [name.replace("_", "-") for name in flag.declared.needs]
        # What is said of all models is of use if it is to one of them.
        if saying and not any(values[need].value for values in saying for need in needs):
            origin = saying[0][flag.name].origin
            raise SettingsError(
                f"--{flag.name} does nothing without {' or '.join(f'--{need}' for need in needs)} ({origin})"
            )


def _is_said(flag: Flag, value: Value) -> bool:
    by_the_way = flag.scope == "model" and value.origin.startswith("environment")
    return value.value != flag.default and not by_the_way


def _with_threads(values: Mapping[str, Value], cpus: int) -> Mapping[str, Value]:
    threads = values["threads"]
    return values if threads.value else {**values, "threads": Value(cpus, threads.origin)}


def _made(cls: Any, values: Mapping[str, Value], **more: Any) -> Any:
    """A settings object from the values whose flags live in it; the others keep the defaults of its fields."""
    flags = by_name()
    return cls(**{flags[name].field: value.value for name, value in values.items() if flags[name].home is cls}, **more)


def _model(name: str, source: str, values: Mapping[str, Value]) -> ModelSettings:
    about_loading = [flag for flag in FLAGS if flag.home is LoadOptions and _is_said(flag, values[flag.name])]
    made: ModelSettings = _made(
        ModelSettings,
        values,
        name=name,
        source=source,
        options=_made(LoadOptions, values),
        said={flag.field: Said(values[flag.name].origin, values[flag.name].of_one) for flag in about_loading},
    )
    return made


# --- as a file --------------------------------------------------------------------------------------------------------


def _write(lines: list[str], flags: Iterable[Flag], values: Mapping[str, Value]) -> None:
    for flag in flags:
        value = values[flag.name]
        unset = value.value is None or (value.value in ("", (), {}) and value.origin.startswith("default"))
        # TOML has no word for "not set".
        text = f"# {flag.name} is not set" if unset else f"{flag.name} = {flag.kind.write(value.value)}"
        lines.append(_line(text, value.origin))


def _line(text: str, origin: str) -> str:
    return f"{text:<40} # {origin}"
