"""From a command line, the environment and a file to settings: for each flag the value in force, and its origin.

Flag beats environment beats file beats default. Within each of the three, what is said of one model beats what is said
of all.
"""

from __future__ import annotations

import difflib
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphpipe.backends.find import default_name
from graphpipe.backends.options import LoadOptions
from graphpipe.errors import GraphPipeError
from graphpipe.machine import usable_cpus
from graphpipe.server.settings import kinds
from graphpipe.server.settings.flags import FLAGS, Flag, by_name
from graphpipe.server.settings.values import ModelSettings, Settings, fitting_body

__all__ = ["Configuration", "SettingsError", "configure", "unknown_variables"]

_MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


class SettingsError(GraphPipeError):
    """What was asked for cannot be: an unknown name, a value that does not fit. The message says where it stands."""


@dataclass(frozen=True, slots=True)
class _Value:
    """A value with where it came from."""

    value: Any
    origin: str


@dataclass(slots=True)
class _Layer:
    """What one of the three says: of models, of all, and of single models."""

    models: dict[str, _Value] = field(default_factory=dict)
    general: dict[str, _Value] = field(default_factory=dict)
    special: dict[str, dict[str, _Value]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is in force. ``str()`` of it is a TOML file that says the same, with where each value came from.

    There, what follows from the machine is a number.
    """

    settings: Settings
    models: tuple[ModelSettings, ...]
    _server: Mapping[str, _Value]
    _models: Mapping[str, Mapping[str, _Value]]
    _sources: Mapping[str, _Value]

    def __str__(self) -> str:
        lines: list[str] = []
        room = _Value(self.settings.in_flight_cap(), self._server["in-flight-bytes-max"].origin)
        server_flags = [flag for flag in FLAGS if flag.scope == "server"]
        _write(lines, server_flags, {**self._server, "in-flight-bytes-max": room})
        cpus = usable_cpus()
        model_flags = [flag for flag in FLAGS if flag.scope == "model"]
        if not self.models:
            _write(lines, model_flags, _with_threads(self._models[""], cpus))
        for model in self.models:
            source = self._sources[model.name]
            lines += ["", f"[models.{_key(model.name)}]", _line(f"source = {_quoted(source.value)}", source.origin)]
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
    table = _toml_of(file) if file else {}
    command_models = [_Value(text, "flag --model") for text in arguments.get("model", ())]
    layers = [
        _Layer(_models_of(command_models)),
        _Layer(_models_of(_environment_models(environment))),
        _Layer(_models_of(_file_models(table, f"file {file}"))),
    ]
    sources: dict[str, _Value] = next((layer.models for layer in layers if layer.models), {})
    _read_arguments(layers[0], arguments, sources)
    _read_environment(layers[1], environment, sources)
    if file:
        _read_file(layers[2], table, str(file), sources)

    server = _that_fit(_in_force(by_name(("server",)).values(), layers, ""))
    models = {name: _in_force(by_name(("model",)).values(), layers, name) for name in sources or ("",)}
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


# --- the three layers -------------------------------------------------------------------------------------------------


def _models_of(values: Iterable[_Value]) -> dict[str, _Value]:
    models: dict[str, _Value] = {}
    for value in values:
        name, source = _named_source(value.value)
        if name in models:
            raise SettingsError(f"two models are called {name!r}; name them: -m NAME=SOURCE")
        models[name] = _Value(source, value.origin)
    return models


def _named_source(text: str) -> tuple[str, str]:
    """The name and the source in NAME=SOURCE, or in a SOURCE alone, whose file may have a = in its name."""
    match = re.fullmatch(rf"({_MODEL_NAME})=(.+)", text)
    if match is None or (_is_there(text) and not _is_there(match[2])):
        return default_name(text), text
    return match[1], match[2]


def _is_there(source: str) -> bool:
    return Path(re.sub(r"(\.py):[\w.]+$", r"\1", source)).exists()


def _environment_models(environment: Mapping[str, str]) -> list[_Value]:
    ours, original = environment.get("GRAPHPIPE_MODEL", ""), environment.get("GP_MODEL", "")
    if ours:
        return [_Value(text, "environment GRAPHPIPE_MODEL") for text in _words("GRAPHPIPE_MODEL", ours)]
    # The original served one model, and its path may have spaces.
    return [_Value(original, "environment GP_MODEL")] if original else []


def _file_models(table: Mapping[str, Any], where: str) -> list[_Value]:
    listed = table.get("model", [])
    texts = [listed] if isinstance(listed, str) else listed
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise SettingsError(f"{where}: model: expected a source, or a list of them")
    values = [_Value(text, where) for text in texts]
    for name, keys in _model_tables(table, where).items():
        if not re.fullmatch(_MODEL_NAME, name):
            what = "a model's name has letters, digits, '_', '.' and '-' only"
            raise SettingsError(f"{where}: [models.{_key(name)}]: {what}")
        source = keys.get("source")
        if source is not None:
            if not isinstance(source, str) or not source:
                raise SettingsError(f"{where}: [models.{_key(name)}] source: expected text")
            values.append(_Value(f"{name}={source}", where))
    return values


def _model_tables(table: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    tables = table.get("models", {})
    if not isinstance(tables, dict) or not all(isinstance(keys, dict) for keys in tables.values()):
        raise SettingsError(f"{where}: models: expected tables, [models.NAME]")
    return tables


def _read_arguments(layer: _Layer, arguments: Mapping[str, Sequence[str]], sources: Mapping[str, _Value]) -> None:
    for flag in FLAGS:
        for text in arguments.get(flag.name, ()):
            if flag.scope != "command":
                _read_text(layer, flag, text, f"flag --{flag.name}", sources)


def _read_environment(layer: _Layer, environment: Mapping[str, str], sources: Mapping[str, _Value]) -> None:
    for flag in FLAGS:
        if flag.scope == "command":
            continue
        ours, original = environment.get(flag.env, ""), environment.get(flag.original_env or flag.env, "")
        if ours and flag.scope == "model":
            for text in _words(flag.env, ours):
                if flag.name in layer.general and not _model_named_in(flag, text, sources):
                    what = "has two values for all models; quote it, or say NAME=VALUE"
                    raise SettingsError(f"{flag.env}: {ours!r} {what}")
                _read_text(layer, flag, text, f"environment {flag.env}", sources)
        elif ours:
            _read_text(layer, flag, ours, f"environment {flag.env}", sources)
        elif original:
            _read_text(layer, flag, original, f"environment {flag.original_env}", sources)


def _read_text(layer: _Layer, flag: Flag, text: str, origin: str, sources: Mapping[str, _Value]) -> None:
    model = _model_named_in(flag, text, sources) if flag.scope == "model" else ""
    where = origin.partition(" ")[2]
    if model:
        value = _read(flag, text[len(model) + 1 :], f"{where} {model}")
        layer.special.setdefault(model, {})[flag.name] = _Value(value, origin)
    else:
        layer.general[flag.name] = _Value(_read(flag, text, where), origin)


def _model_named_in(flag: Flag, text: str, sources: Mapping[str, _Value]) -> str:
    """The model that NAME=VALUE names, or nothing where the text is a VALUE."""
    match = re.match(rf"({_MODEL_NAME})=", text)
    if match is None:
        return ""
    if match[1] in sources:
        return match[1]
    if flag.kind.has_equals:
        return ""
    raise SettingsError(
        f"--{flag.name} {text}: there is no model {match[1]!r}; "
        + (f"there are {', '.join(sources)}" if sources else "no model is given")
        + _nearest(match[1], sources)
    )


def _read_file(layer: _Layer, table: Mapping[str, Any], file: str, sources: Mapping[str, _Value]) -> None:
    known = by_name()
    for key, value in table.items():
        if key in ("models", "model"):
            continue
        flag = known.get(key)
        if flag is None or flag.scope == "command":
            possible = [*by_name(("server", "model")), "model", "models"]
            raise SettingsError(f"{file}: there is no setting {_shown(key)}{_nearest(key, possible)}")
        layer.general[flag.name] = _Value(_read(flag, value, f"{file}: {key}"), f"file {file}")
    for model, keys in _model_tables(table, file).items():
        where = f"{file}: [models.{_key(model)}]"
        if model not in sources and "source" not in keys:
            raise SettingsError(f"{where} has no source, and no other model is called that{_nearest(model, sources)}")
        for key, value in keys.items():
            flag = known.get(key)
            if key == "source":
                continue
            if flag is not None and flag.scope != "model":
                raise SettingsError(f"{where} {key} is for the whole server; put it above all [models...]")
            if flag is None:
                near = _nearest(key, [*by_name(("model",)), "source"])
                raise SettingsError(f"{where}: there is no setting {key!r}{near}")
            layer.special.setdefault(model, {})[key] = _Value(_read(flag, value, f"{where} {key}"), f"file {file}")


def _toml_of(file: str | Path) -> dict[str, Any]:
    try:
        # Editors on Windows begin a file with a mark of its encoding.
        table = tomllib.loads(Path(file).read_text("utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also of numbers, dates and tables that Python has no room for
        raise SettingsError(f"{file}: not TOML: {' '.join(str(error).split())[:200]}") from None
    return table


# --- what is in force -------------------------------------------------------------------------------------------------


def _in_force(flags: Iterable[Flag], layers: Sequence[_Layer], model: str) -> dict[str, _Value]:
    return {flag.name: _first(flag, layers, model) for flag in flags}


def _first(flag: Flag, layers: Sequence[_Layer], model: str) -> _Value:
    for layer in layers:
        for values in (layer.special.get(model, {}), layer.general):
            if flag.name in values:
                return values[flag.name]
    return _Value(flag.default, f"default: {flag.default_text}" if flag.default_text else "default")


def _that_fit(server: dict[str, _Value]) -> dict[str, _Value]:
    """The same, with a largest body for which there is room."""
    body, in_flight = server["body-bytes-max"], server["in-flight-bytes-max"]
    is_said = not body.origin.startswith("default")
    try:
        size = fitting_body(body.value, in_flight.value, server["workers"].value, is_said)
    except ValueError as error:
        raise SettingsError(f"{error} ({body.origin}; {in_flight.origin})") from None
    if size == body.value:
        return server
    return server | {"body-bytes-max": _Value(size, "default: what fits into in-flight-bytes-max")}


def _with_threads(values: Mapping[str, _Value], cpus: int) -> Mapping[str, _Value]:
    threads = values["threads"]
    return values if threads.value else {**values, "threads": _Value(cpus, threads.origin)}


def _made(cls: Any, values: Mapping[str, _Value], **more: Any) -> Any:
    """A settings object from the values whose flags live in it; the others keep the defaults of its fields."""
    flags = by_name()
    return cls(**{flags[name].field: value.value for name, value in values.items() if flags[name].home is cls}, **more)


def _model(name: str, source: str, values: Mapping[str, _Value]) -> ModelSettings:
    made: ModelSettings = _made(ModelSettings, values, name=name, source=source, options=_made(LoadOptions, values))
    return made


# --- words ------------------------------------------------------------------------------------------------------------


def _read(flag: Flag, value: object, where: str) -> Any:
    try:
        return flag.kind.read(value)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}; {_shown(value)} came") from None


def _shown(value: object) -> str:
    try:
        shown = repr(value)
    except ValueError:  # an int of more digits than Python writes
        return "a number of endless length"
    return shown if len(shown) <= 200 else f"{shown[:200]}..."


def _words(variable: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise SettingsError(f"{variable}: {error}") from None


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name[:100].replace("_", "-"), list(known), 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _write(lines: list[str], flags: Iterable[Flag], values: Mapping[str, _Value]) -> None:
    for flag in flags:
        value = values[flag.name]
        unset = value.value is None or (value.value in ("", (), {}) and value.origin.startswith("default"))
        # TOML has no word for "not set".
        text = f"# {flag.name} is not set" if unset else f"{flag.name} = {flag.kind.write(value.value)}"
        lines.append(_line(text, value.origin))


def _line(text: str, origin: str) -> str:
    return f"{text:<40} # {origin}"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _quoted(value: str) -> str:
    return kinds.text("").write(value)
