"""What is said of a server, and where: on the command line, in the environment, in a file, in Python.

Each of these is a layer: what it says of all, and what of single models. Every value is read by its setting's kind, so
that it is the same wherever it stands, and refused in the same words.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphpipe.errors import GraphPipeError
from graphpipe.server.settings.flags import FLAGS, Flag, by_name
from graphpipe.setting import read_keywords

__all__ = [
    "Layer",
    "SettingsError",
    "Value",
    "key_of",
    "of_arguments",
    "of_environment",
    "of_file",
    "of_keywords",
    "of_platform",
    "read_arguments",
    "read_environment",
    "read_file",
    "text_in_toml",
]

# What other servers call it, or parts of it.
_PARTS_OF_LISTEN = {"addr", "address", "bind", "host", "hostname", "interface", "port"}
_MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


class SettingsError(GraphPipeError, ValueError):
    """What was asked for cannot be: an unknown name, a value that does not fit. The message says where it stands."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value with where it came from, and whether it was said of one model by its name."""

    value: Any
    origin: str
    of_one: bool = False


@dataclass(slots=True)
class Layer:
    """What one place says: which models there are, of all of them and the server, and of single models."""

    models: dict[str, Value] = field(default_factory=dict)
    general: dict[str, Value] = field(default_factory=dict)
    special: dict[str, dict[str, Value]] = field(default_factory=dict)


# --- the command line -------------------------------------------------------------------------------------------------


def of_arguments(arguments: Mapping[str, Sequence[str]]) -> Layer:
    """The models of a command line; ``read_arguments`` reads the rest, once it is known which models there are."""
    return Layer(_models_of(Value(text, "flag --model") for text in arguments.get("model", ())))


def read_arguments(layer: Layer, arguments: Mapping[str, Sequence[str]], sources: Mapping[str, Value]) -> None:
    """Read what the texts of a command line say, by the names of their flags."""
    for flag in FLAGS:
        for text in arguments.get(flag.name, ()):
            if flag.scope != "command":
                _read_text(layer, flag, text, f"flag --{flag.name}", sources)


# --- the environment --------------------------------------------------------------------------------------------------


def of_environment(environment: Mapping[str, str]) -> Layer:
    """The models of the environment; ``read_environment`` reads the rest."""
    ours, original = environment.get("GRAPHPIPE_MODEL", ""), environment.get("GP_MODEL", "")
    if ours:
        return Layer(_models_of(Value(text, "environment GRAPHPIPE_MODEL") for text in _words("GRAPHPIPE_MODEL", ours)))
    # The original served one model, and its path may have spaces.
    return Layer(_models_of([Value(original, "environment GP_MODEL")] if original else []))


def read_environment(layer: Layer, environment: Mapping[str, str], sources: Mapping[str, Value]) -> None:
    """Read what the variables say, ours and those of the original."""
    for flag in FLAGS:
        if flag.scope == "command":
            continue
        original_name = flag.declared.original_env or flag.env
        ours, original = environment.get(flag.env, ""), environment.get(original_name, "")
        if ours and flag.scope == "model":
            for text in _words(flag.env, ours):
                if flag.name in layer.general and not _model_named_in(flag, text, sources):
                    what = "has two values for all models; quote it, or say NAME=VALUE"
                    raise SettingsError(f"{flag.env}: {ours!r} {what}")
                _read_text(layer, flag, text, f"environment {flag.env}", sources)
        elif ours:
            _read_text(layer, flag, ours, f"environment {flag.env}", sources)
        elif original:
            _read_text(layer, flag, original, f"environment {original_name}", sources)


def of_platform(environment: Mapping[str, str]) -> Layer:
    """What platforms that run containers say: PORT is where they call, from outside. Raises SettingsError."""
    port = environment.get("PORT", "")
    if not port:
        return Layer()
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise SettingsError(f"environment PORT: expected a number from 0 to 65535, not {port!r}; or say --listen")
    return Layer(general={"listen": Value(f"0.0.0.0:{int(port)}", "environment PORT")})


def _words(variable: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise SettingsError(f"{variable}: {error}") from None


def _read_text(layer: Layer, flag: Flag, text: str, origin: str, sources: Mapping[str, Value]) -> None:
    model = _model_named_in(flag, text, sources) if flag.scope == "model" else ""
    where = origin.partition(" ")[2]
    if model:
        value = _read(flag, text[len(model) + 1 :], f"{where} {model}")
        layer.special.setdefault(model, {})[flag.name] = Value(value, origin, of_one=True)
    else:
        layer.general[flag.name] = Value(_read(flag, text, where), origin)


def _model_named_in(flag: Flag, text: str, sources: Mapping[str, Value]) -> str:
    """The model that NAME=VALUE names, or nothing where the text is a VALUE."""
    match = re.match(rf"({_MODEL_NAME})=", text)
    if match is None or match[1] in sources:
        return match[1] if match else ""
    raise SettingsError(
        f"--{flag.name} {text}: there is no model {match[1]!r}; "
        + (f"there are {', '.join(sources)}" if sources else "no model is given")
        + _nearest(match[1], sources)
    )


# --- a file -----------------------------------------------------------------------------------------------------------


def of_file(file: str | Path) -> tuple[Layer, dict[str, Any]]:
    """The models of a TOML file, and its table, of which ``read_file`` reads the rest."""
    table = _toml_of(file)
    where = f"file {file}"
    listed = table.get("model", [])
    texts = [listed] if isinstance(listed, str) else listed
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise SettingsError(f"{where}: model: expected a source, or a list of them")
    values = [Value(text, where) for text in texts]
    for name, keys in _model_tables(table, where).items():
        if not re.fullmatch(_MODEL_NAME, name):
            what = "a model's name has letters, digits, '_', '.' and '-' only"
            raise SettingsError(f"{where}: [models.{key_of(name)}]: {what}")
        source = keys.get("source")
        if source is not None:
            if not isinstance(source, str) or not source:
                raise SettingsError(f"{where}: [models.{key_of(name)}] source: expected text")
            values.append(Value(f"{name}={source}", where))
    return Layer(_models_of(values)), table


def read_file(layer: Layer, table: Mapping[str, Any], file: str, sources: Mapping[str, Value]) -> None:
    """Read what the keys of a file say, of all and under [models.NAME]."""
    known = by_name()
    for key, value in table.items():
        if key in ("models", "model"):
            continue
        flag = known.get(key)
        if flag is None or flag.scope == "command":
            possible = [*by_name(("server", "model")), "model", "models"]
            raise SettingsError(f"{file}: there is no setting {_shown(key)}{_nearest(key, possible)}")
        layer.general[flag.name] = Value(_read(flag, value, f"{file}: {key}"), f"file {file}")
    for model, keys in _model_tables(table, file).items():
        where = f"{file}: [models.{key_of(model)}]"
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
            read = _read(flag, value, f"{where} {key}")
            layer.special.setdefault(model, {})[key] = Value(read, f"file {file}", of_one=True)


def _model_tables(table: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    tables = table.get("models", {})
    if not isinstance(tables, dict) or not all(isinstance(keys, dict) for keys in tables.values()):
        raise SettingsError(f"{where}: models: expected tables, [models.NAME]")
    return tables


def _toml_of(file: str | Path) -> dict[str, Any]:
    try:
        # Editors on Windows begin a file with a mark of its encoding.
        table = tomllib.loads(Path(file).read_text("utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also of numbers, dates and tables that Python has no room for
        raise SettingsError(f"{file}: not TOML: {' '.join(str(error).split())[:200]}") from None
    return table


def key_of(name: str) -> str:
    """A name as a key of TOML."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else text_in_toml(name)


def text_in_toml(value: str) -> str:
    """A text as TOML writes it."""
    return by_name()["model"].kind.write(value)


# --- Python -----------------------------------------------------------------------------------------------------------


def of_keywords(call: str, keywords: Mapping[str, Any]) -> Layer:
    """What the keywords of a call say. Raises TypeError for a name that no setting has, and for a value of another kind."""
    known = {flag.field: flag for flag in FLAGS if flag.scope != "command"}
    for name in keywords:
        if name not in known and name in _PARTS_OF_LISTEN:
            raise TypeError(f"{call}() has no setting {name!r}; where it listens is one text: listen='HOST:PORT'")
    values = read_keywords(call, {name: (flag.declared, flag.default) for name, flag in known.items()}, keywords)
    return Layer(general={known[name].name: Value(value, f"argument {name}") for name, value in values.items()})


# --- models and words -------------------------------------------------------------------------------------------------


def _models_of(values: Iterable[Value]) -> dict[str, Value]:
    models: dict[str, Value] = {}
    for value in values:
        name, source = _named_source(value.value)
        if name in models:
            raise SettingsError(f"two models are called {name!r}; name them: -m NAME=SOURCE")
        models[name] = Value(source, value.origin)
    return models


def _named_source(text: str) -> tuple[str, str]:
    """The name and the source in NAME=SOURCE, or in a SOURCE alone, whose file may have a = in its name."""
    match = re.fullmatch(rf"({_MODEL_NAME})=(.+)", text)
    if match is None or (_is_there(text) and not _is_there(match[2])):
        from graphpipe.backends.find import default_name  # with numpy, which a command that shows its help need not

        return default_name(text), text
    return match[1], match[2]


def _is_there(source: str) -> bool:
    return os.path.exists(re.sub(r"(\.py):[\w.]+$", r"\1", source))


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


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name[:100].replace("_", "-"), list(known), 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
