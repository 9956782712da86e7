"""Every flag of ``graphpipe-serve``, each declared once.

The command line, the keys of ``serve.toml``, the names in the environment, ``--help``, ``--print-config`` and the table
in docs/serving.md are all made from this table.

**To add a flag**: a field with its default in Settings (the whole server), in ModelSettings or in LoadOptions (each
model), and one row here under the same name, with - for _. Then ``python scripts/flag_table.py`` brings docs/serving.md
up to date.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from graphpipe.backends.options import LoadOptions
from graphpipe.server.settings.kinds import (
    Kind,
    choice,
    count,
    integer,
    integers,
    names,
    number,
    path,
    size,
    switch,
    text,
)
from graphpipe.server.settings.values import ModelSettings, Settings

__all__ = ["FLAGS", "Flag", "by_name"]

Scope = Literal["server", "model", "command"]


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag.

    ``scope``: "server" flags are fields of Settings; "model" flags are fields of ModelSettings or LoadOptions, and take
    VALUE or NAME=VALUE; "command" flags steer the command itself. ``default_text`` says in words what a default stands
    for, ``short`` is a letter, ``original_env`` the variable that the original GraphPipe read.
    """

    name: str
    scope: Scope
    section: str
    kind: Kind
    help: str
    default_text: str = ""
    short: str = ""
    original_env: str = ""

    @property
    def field(self) -> str:
        """The field of the settings that it sets."""
        return self.name.replace("-", "_")

    @property
    def env(self) -> str:
        """The variable that sets it."""
        return f"GRAPHPIPE_{self.field.upper()}"

    @property
    def home(self) -> type[Settings | ModelSettings | LoadOptions] | None:
        """The settings that it is a field of; None for a flag of the command itself."""
        if self.scope == "command":
            return None
        homes = (Settings,) if self.scope == "server" else (ModelSettings, LoadOptions)
        for home in homes:
            if any(field.name == self.field for field in fields(home)):
                return home
        raise TypeError(f"--{self.name} has no field {self.field!r} in {' or '.join(h.__name__ for h in homes)}")

    @property
    def default(self) -> Any:
        """What holds when nobody says anything: the default of the field that it sets."""
        home = self.home
        if home is None:
            return None  # nothing: these have no value in the settings
        field = next(field for field in fields(home) if field.name == self.field)
        return field.default_factory() if field.default_factory is not MISSING else field.default

    @property
    def metavar(self) -> str:
        """What stands for the value in help."""
        return f"[NAME=]{self.kind.metavar}" if self.scope == "model" else self.kind.metavar

    @property
    def shown_default(self) -> str:
        """The default as help shows it; empty where there is nothing to say."""
        if self.default_text:
            return self.default_text
        default = self.default
        if default is None or default is False or default in ("", (), {}) or self.kind.metavar == "":
            return ""
        return self.kind.write(default).strip('"')


def _server(name: str, section: str, kind: Kind, what: str, **more: Any) -> Flag:
    return Flag(name, "server", section, kind, what, **more)


def _model(name: str, section: str, kind: Kind, what: str, **more: Any) -> Flag:
    return Flag(name, "model", section, kind, what, **more)


FLAGS: tuple[Flag, ...] = (
    Flag(
        "model", "command", "Models", text("[NAME=]SOURCE"),
        "A model to serve: an ONNX, TorchScript, .pt2, frozen TensorFlow or Keras file, a SavedModel's folder, "
        "the URL of such a file, module:function, the URL of another server, or echo. Repeat it to serve several: each "
        "at /models/NAME, the first at / too. NAME is the file's stem unless given.",
        short="m", original_env="GP_MODEL",
    ),
    _model(
        "inputs", "Models", names(),
        "Default inputs, separated by commas: which tensor an unnamed one is.",
        short="i", original_env="GP_INPUTS", default_text="the model's own",
    ),
    _model(
        "outputs", "Models", names(),
        "Default outputs, separated by commas: what is answered when none is asked for.",
        short="o", original_env="GP_OUTPUTS", default_text="the model's own",
    ),
    _model(
        "value-inputs", "Models", path(),
        "JSON file that names the inputs, their types and shapes, as the original took it.",
        original_env="GP_VALUE_INPUTS",
    ),
    _model("signature", "Models", text("KEY"), "The SavedModel's signature.", default_text="serving_default"),
    _model(
        "tags", "Models", names("TAG,TAG", least=0),
        "The tags of the SavedModel's graph, all of them, where it has several graphs.", default_text="serve",
    ),
    _model(
        "pad", "Models", names("NAME:AXIS:VALUE"),
        "Fill up inputs that are short along an axis of fixed size: input_ids:1:0,attention_mask:1:0.",
    ),
    _model("custom-ops", "Models", names("FILES"), "Libraries of operators to load first, separated by commas."),
    _model("model-sha256", "Models", text("HEX"), "Digest that the model's file must have, downloaded or not."),
    _model("download-bytes-max", "Models", size(1), "Largest file that is downloaded for a model that is a URL."),
    _model("backend", "Models", text("KIND"), "What loads the model, where its source does not say."),
    _model("cast", "Models", switch(), "Convert numbers to the type that the model takes, float64 to float32 say."),
    _model("ignore-extra-inputs", "Models", switch(), "Leave out tensors that the model has no input for."),
    _model(
        "threads", "Speed", integer(0, 1024), "Calls of one model that run at once.", default_text="usable CPUs"
    ),
    _model(
        "intra-threads", "Speed", integer(0, 1024),
        "Threads of one call. TensorFlow and PyTorch have one number for all their models.", default_text="1",
    ),
    _model(
        "device", "Speed", text("DEVICE"), "Where the model runs: cpu, cuda:0.",
        default_text="cpu; TensorFlow: a GPU if there is one",
    ),
    _model("bfloat16", "Speed", switch(), "PyTorch: keep the weights, and compute, in bfloat16."),
    _model("channels-last", "Speed", switch(), "PyTorch: keep images and the weights of convolutions channels-last."),
    _model("providers", "Speed", names(), "ONNX execution providers, separated by commas, best first."),
    _model(
        "batch-rows-max", "Batching", integer(0, 1 << 20),
        "Join the rows of several callers into calls of at most this many. Only for models whose rows are independent.",
        default_text="no batching",
    ),
    _model(
        "batch-wait-ms", "Batching", number(0, 60_000, "MS"),
        "How long the first member of a batch waits for others; 0: a batch is what comes while the model is busy.",
    ),
    _model(
        "batch-sizes", "Batching", integers(1, 1 << 20),
        "The only numbers of rows that the model is called with: filled up by repeating a row, larger requests split.",
        default_text="any",
    ),
    _model(
        "batch-pad", "Batching", names("NAME:AXIS:VALUE"),
        "Make ragged inputs equally long along an axis with a value; OUTPUT:AXIS:INPUT or OUTPUT:none say of an output "
        "whether it grows with an input, where the model does not.",
    ),
    _model(
        "queue-rows-max", "Batching", integer(0),
        "Rows that may wait for their batch; beyond it 503.", default_text="16 batches, at least 1024",
    ),
    _model(
        "cache", "Row cache", switch(),
        "Keep the answer to every row on disk, and give it again. Only for models whose rows are independent and whose "
        "answers depend on nothing else.",
        original_env="GP_CACHE",
    ),
    _model("cache-dir", "Row cache", path("FOLDER"), "Where the rows are kept, in a folder for each model."),
    _model(
        "cache-bytes-max", "Row cache", size(1 << 20, 1 << 44),
        "Bytes of rows kept; those used least are dropped.",
    ),
    _model(
        "cache-ttl-s", "Row cache", number(), "Rows older than this are computed anew.", default_text="they do not age"
    ),
    _model(
        "cache-version", "Row cache", text("TEXT"),
        "Part of every row's key: change it, and all rows are computed anew. A model without a digest needs one.",
    ),
    _model(
        "cache-fresh-ms", "Row cache", number(0, 3_600_000, "MS"),
        "How long an upstream's word on which model it serves is taken for true; 0: it is asked before every answer.",
    ),
    _server(
        "listen", "Network", text("ADDRESS"), "HOST:PORT, [IPv6]:PORT or unix:PATH. Port 0 picks a free one.", short="l"
    ),
    _server("tls-cert", "Network", path(), "PEM file with the server's certificate: serve https."),
    _server("tls-key", "Network", path(), "PEM file with its key.", default_text="in the certificate's file"),
    _server("body-bytes-max", "Limits", size(1, 2**31 - 1), "Largest request body; a larger one gets 413."),
    _server(
        "in-flight-bytes-max", "Limits", size(),
        "Bytes of bodies and of answers that a worker holds at once; beyond it callers wait, then get 503.",
        default_text="a quarter of the memory, shared by the workers",
    ),
    _server("admission-wait-s", "Limits", number(), "How long a caller waits for room before it gets 503."),
    _server("head-timeout-s", "Limits", number(0.001), "How long the head of a request may take to come."),
    _server("body-timeout-s", "Limits", number(0.001), "How long a body may make no progress on its way in."),
    _server("send-timeout-s", "Limits", number(0.001), "How long an answer may make no progress on its way out."),
    _server("keepalive-timeout-s", "Limits", number(0), "How long an idle connection is kept open."),
    _model(
        "queue-requests-max", "Limits", integer(1),
        "Requests that may wait for a thread of the model; beyond it 503.",
    ),
    _server(
        "connection-age-max-s", "Limits", number(0),
        "Age from which a connection is closed with its next answer, so that balancers can move it; 0: never.",
    ),
    _server("workers", "Operation", integer(1, 256), "Processes that serve on the one address; several are watched."),
    _server(
        "start-timeout-s", "Operation", number(0),
        "How long a worker may take to load and warm up its models before it counts as failed; 0: as long as it likes.",
    ),
    _server(
        "memory-limit-bytes", "Limits", size(),
        "Memory from which a worker is replaced by a fresh one, gracefully; 0: never.",
    ),
    _model("warmup", "Operation", integer(0, 1000), "Calls on made-up inputs before requests are welcome."),
    _server("metrics-listen", "Operation", text("ADDRESS"), "One more address, for /metrics and health checks alone."),
    _server("log-format", "Operation", choice("human", "json"), "How log lines look on stderr."),
    _server(
        "access-lines-per-s", "Operation", integer(0),
        "Log a line for each request, at most so many a second; the rest is counted. 0: none.",
    ),
    _server(
        "drain-grace-s", "Operation", number(0),
        "After SIGTERM: how long new requests are still taken, while balancers take note.",
    ),
    _server(
        "drain-timeout-s", "Operation", number(0), "After SIGTERM: how long requests in flight may take to finish."
    ),
    _server(
        "enable-shutdown", "Operation", switch(),
        "Let anybody who can reach the server end it: POST /control/shutdown.",
    ),
    _server("verbose", "Operation", count(), "Say more; twice: everything.", short="v"),
    Flag("config", "command", "Configuration", path(), "TOML file with any of these flags by name, and [models.NAME]."),
    Flag("print-config", "command", "Configuration", switch(), "Show what is in force and whence, and end."),
)  # fmt: skip


def by_name(scopes: tuple[Scope, ...] = ("server", "model", "command")) -> dict[str, Flag]:
    """The flags of some scopes, by name."""
    return {flag.name: flag for flag in FLAGS if flag.scope in scopes}
