"""The classes that protobuf makes of ``proto/``: what our own codec is held against.

They live in a pool of their own, so that nobody's generated classes of the same names are in their way.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["has_unknown", "message_class", "pool"]

_PROTO = Path(__file__).resolve().parent / "proto"


@cache
def pool() -> descriptor_pool.DescriptorPool:
    """All messages of ``proto/``, compiled."""
    with TemporaryDirectory() as folder:
        compiled = Path(folder) / "compiled"
        includes = (_PROTO, files("grpc_tools") / "_proto")
        # In a process of its own: the compiler's protobuf does not get on with that of a framework that is loaded here.
        subprocess.run(
            [
                sys.executable,
                "-m",
                "grpc_tools.protoc",
                *(f"-I{include}" for include in includes),
                "--include_imports",
                f"--descriptor_set_out={compiled}",
                *sorted(path.name for path in _PROTO.glob("*.proto")),
            ],
            check=True,
        )
        described = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes())
    found = descriptor_pool.DescriptorPool()
    for file in described.file:
        found.Add(file)
    return found


@cache
def message_class(name: str) -> Any:
    """The class of a message by its whole name: ``inference.ModelInferRequest``."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(name))


def has_unknown(message: Any) -> bool:
    """Whether a message has fields anywhere that its schema has not.

    protobuf's own reader takes an entry of a map that has such a field for unknown altogether; to ours it is an entry.
    """
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return bool(known.ByteSize() != message.ByteSize())
