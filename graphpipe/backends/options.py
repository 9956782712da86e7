"""What may be said about loading a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphpipe.kinds import definition, integer, names, number, path, paths, processes, size, switch, text
from graphpipe.setting import setting

if TYPE_CHECKING:
    from graphpipe.backends.construction import Arguments
    from graphpipe.problem import Problem

__all__ = ["LoadOptions"]


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What may be said about loading; a backend uses what concerns it.

    ``inputs`` and ``outputs`` choose and order the defaults; None is the model's own. ``tags`` of None are the one tag
    ``serve`` and nothing else. ``arguments`` are what a class is made with; ``load`` and a pipeline's stages say them, and
    no flag does. ``intra_threads`` of 0 is one for ONNX Runtime, and for TensorFlow and PyTorch, whose
    threads belong to the whole process, whatever the process has.
    """

    inputs: tuple[str, ...] | None = setting(
        None, "Models", names(), "Default inputs, separated by commas: which tensor an unnamed one is.",
        short="i", original_env="GP_INPUTS", default_text="the model's own",
    )  # fmt: skip
    outputs: tuple[str, ...] | None = setting(
        None, "Models", names(), "Default outputs, separated by commas: what is answered when none is asked for.",
        short="o", original_env="GP_OUTPUTS", default_text="the model's own",
    )  # fmt: skip
    signature: str = setting(
        "", "Models", text("KEY"), "The SavedModel's signature.", default_text="serving_default"
    )  # fmt: skip
    tags: tuple[str, ...] | None = setting(
        None, "Models", names("TAG,TAG", least=0),
        "The tags of the SavedModel's graph, all of them, where it has several graphs.", default_text="serve",
    )  # fmt: skip
    value_inputs: str = setting(
        "", "Models", path(),
        "JSON file, or the URL of one, that names the inputs, their types and shapes, as the original took it.",
        original_env="GP_VALUE_INPUTS",
    )  # fmt: skip
    pad: tuple[str, ...] = setting(
        (), "Models", names("NAME:AXIS:VALUE"),
        "Fill up inputs that are short along an axis of fixed size: input_ids:1:0,attention_mask:1:0.",
    )  # fmt: skip
    problem: str | Problem = setting(  # noqa: RUF009 - it makes a field
        "", "Models", definition("Problem"),
        "Definition of the problem that the model answers (docs/problems.md): checked at load, tested before requests are "
        "welcome, and kept to in every answer.",
    )  # fmt: skip
    custom_ops: tuple[str, ...] = setting(
        (), "Models", paths(), "Libraries of operators to load first, separated by commas."
    )
    device: str = setting(
        "", "Speed", text("DEVICE"), "Where the model runs: cpu, cuda:0.",
        default_text="cpu; TensorFlow: a GPU if there is one",
    )  # fmt: skip
    providers: tuple[str, ...] = setting(
        (), "Speed", names(), "ONNX execution providers, separated by commas, best first."
    )
    intra_threads: int = setting(
        0, "Speed", integer(0, 1024),
        "Threads of one call. TensorFlow and PyTorch have one number for all their models.", default_text="1",
    )  # fmt: skip
    bfloat16: bool = setting(
        False, "Speed", switch(),
        "PyTorch: keep the weights, and compute, in bfloat16. ONNX with OpenVINO: compute in it.",
    )  # fmt: skip
    channels_last: bool = setting(
        False, "Speed", switch(), "PyTorch: keep images and the weights of convolutions channels-last."
    )
    model_sha256: str = setting("", "Models", text("HEX"), "Digest that the model's file must have, downloaded or not.")
    download_bytes_max: int = setting(
        16 << 30, "Models", size(1), "Largest file that is downloaded for a model that is a URL."
    )
    download_timeout_s: float = setting(
        3600.0, "Models", number(1), "Longest time for one download; the next start goes on where it stopped."
    )
    download_private: bool = setting(
        False, "Models", switch(),
        "Follow a download's redirects to private addresses too, from one that is public or of another kind.",
    )  # fmt: skip
    trust_model: bool = setting(
        False, "Models", switch(),
        "Run what a model's file brings along: Lambda layers of Keras, pickles and libraries of PyTorch, parts of "
        "ONNX that were compiled, operators that write and read files. "
        "Whoever wrote the file can then do what this process can.",
    )  # fmt: skip
    upstream_api_key_file: str = setting(
        "", "Models", path(), "File with the key to show to a model that is another server, and nothing else in it."
    )
    upstream_tls_ca: str = setting(
        "", "Models", path(), "PEM file of the authorities that such a server's certificate may come from.",
        default_text="those of this machine",
    )  # fmt: skip
    upstream_tls_cert: str = setting("", "Models", path(), "PEM file with the certificate to show to such a server.")
    upstream_tls_key: str = setting(
        "", "Models", path(), "PEM file with its key.", default_text="in the certificate's file",
        needs=("upstream_tls_cert",),
    )  # fmt: skip
    isolate: int = setting(
        0, "Isolation", processes(64),
        "Run the model in N processes of its own (N of each worker): its crash is an error of the calls under way and not "
        "the server's end, and N calls of Python code run at once.",
        default_text="in this process",
    )  # fmt: skip
    python: str = setting(
        "", "Isolation", path("PYTHON"),
        "Interpreter of these processes, by its path or its environment's name: it may have other versions of frameworks "
        "and of Python, and needs nothing of ours. Without --isolate it is one process.",
        default_text="this one",
    )  # fmt: skip
    isolate_container: str = setting(
        "", "Isolation", text("IMAGE"),
        "Run these processes in containers of this image, by podman: without a network, and with the model's files alone. "
        "It takes a Python 3.9 or newer with numpy; --python is a path in it. Without --isolate it is one process.",
        default_text="no container",
    )  # fmt: skip
    isolate_timeout_s: float = setting(
        300.0, "Isolation", number(0.1),
        "A call that takes longer than this hangs: its process is ended, and another one started. To load a model may take "
        "ten minutes, or as long as this if it is longer.",
        needs=("isolate", "python", "isolate_container"),
    )  # fmt: skip
    isolate_memory_bytes: int = setting(
        0, "Isolation", size(), "Memory of each of these processes; one that holds more is ended.",
        default_text="no limit", needs=("isolate", "python", "isolate_container"),
    )  # fmt: skip
    isolate_cpus: int = setting(
        0, "Isolation", integer(0, 1024), "CPUs of each of these processes.",
        default_text="all that this one may use", needs=("isolate", "python", "isolate_container"),
    )  # fmt: skip
    arguments: Arguments | None = field(default=None)

    @property
    def is_isolated(self) -> bool:
        """Whether the model is to have processes of its own."""
        return bool(self.isolate or self.python or self.isolate_container)
