"""Every flag of ``graphpipe-serve``, made from the declared settings, and those that steer the command itself.

The command line, the keys of ``serve.toml``, the names in the environment, the keywords of ``graphpipe.serve``,
``--help``, ``--print-config`` and the table in docs/serving.md are all made from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from graphpipe.backends.options import LoadOptions
from graphpipe.kinds import Kind, path, switch, text
from graphpipe.server.settings.values import ModelSettings, Settings
from graphpipe.setting import Declared, declared_in

__all__ = ["FLAGS", "SECTIONS", "Flag", "by_name"]

Scope = Literal["server", "model", "command"]
Home = type[Settings] | type[ModelSettings] | type[LoadOptions]

# As help shows them.
SECTIONS = ("Models", "Speed", "Isolation", "Batching", "Row cache", "Network", "Limits", "Operation", "Configuration")


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag.

    ``home`` are the settings that it is a field of, None where it steers the command itself; ``default`` holds when nobody
    says anything.
    """

    name: str
    declared: Declared
    home: Home | None = None
    default: Any = None

    @property
    def scope(self) -> Scope:
        """Whose it is: the whole server's, each model's (these take VALUE or NAME=VALUE), or the command's own."""
        return "command" if self.home is None else "server" if self.home is Settings else "model"

    @property
    def field(self) -> str:
        """The field of the settings that it sets."""
        return self.name.replace("-", "_")

    @property
    def env(self) -> str:
        """The variable that sets it."""
        return f"GRAPHPIPE_{self.field.upper()}"

    @property
    def section(self) -> str:
        """Under which heading help shows it."""
        return self.declared.section

    @property
    def kind(self) -> Kind:
        """What its value may be."""
        return self.declared.kind

    @property
    def metavar(self) -> str:
        """What stands for the value in help."""
        return f"[NAME=]{self.kind.metavar}" if self.scope == "model" else self.kind.metavar

    @property
    def shown_default(self) -> str:
        """The default as help shows it; empty where there is nothing to say."""
        if self.declared.default_text:
            return self.declared.default_text
        if self.default is None or self.default is False or self.default in ("", ()) or self.kind.metavar == "":
            return ""
        return self.kind.write(self.default).strip('"')


def _of(home: Home) -> list[Flag]:
    return [
        Flag(name.replace("_", "-"), declared, home, default) for name, (declared, default) in declared_in(home).items()
    ]


_MODEL = Declared(
    "Models", text("[NAME=]SOURCE"),
    "A model to serve: an ONNX, TorchScript, .pt2, frozen TensorFlow or Keras file, a SavedModel's folder, a package, "
    "a pipeline.toml, the URL of such a file, module:function, the URL of another server, placeholder:PROBLEM, or echo. "
    "Repeat it to serve several: each at /models/NAME, the first at / too. NAME is the file's stem unless given.",
    short="m", original_env="GP_MODEL",
)  # fmt: skip
_DEMO = Declared(
    "Models", switch(), "Serve a small model of handwritten digits, which is in the package, and say how to ask it."
)
_CONFIG = Declared("Configuration", path(), "TOML file with any of these flags by name, and [models.NAME].")
_PRINT_CONFIG = Declared("Configuration", switch(), "Show what is in force and whence, and end.")

FLAGS: tuple[Flag, ...] = tuple(
    sorted(
        [
            Flag("model", _MODEL), *_of(LoadOptions), *_of(Settings), *_of(ModelSettings),
            Flag("demo", _DEMO), Flag("config", _CONFIG), Flag("print-config", _PRINT_CONFIG),
        ],
        key=lambda flag: SECTIONS.index(flag.section),
    )
)  # fmt: skip


def by_name(scopes: tuple[Scope, ...] = ("server", "model", "command")) -> dict[str, Flag]:
    """The flags of some scopes, by name."""
    return {flag.name: flag for flag in FLAGS if flag.scope in scopes}
