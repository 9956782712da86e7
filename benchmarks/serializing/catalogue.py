"""Which ways there are, where each can run, and what a reader of the tables has to know of it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FORMATS", "LIKE", "LIMIT", "OURS", "TEXT", "Format"]

# What is handed to the socket. Rows compare like with like only within one of these.
PARTS, ONE, TEXT, LIMIT = "parts, not copied", "one buffer", "text", "the limit of one copy"


@dataclass(frozen=True)
class Format:
    """A way of the tables.

    ``module`` of this folder has its code, the environment of that name its library. ``sent`` is one of those above.
    ``remark`` is for all readers; ``ahead`` says why it may be ahead of ours.
    """

    name: str
    label: str
    module: str
    sent: str
    remark: str = ""
    ahead: str = ""
    environment: str = "formats"


OURS = "graphpipe"

FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format(
            OURS,
            "GraphPipe, as it is sent",
            "ours",
            PARTS,
            "tables, and the array's own memory: the kernel gathers them",
        ),
        Format(
            "graphpipe-new", "GraphPipe, a layout never seen before", "ours", PARTS, "nothing is remembered, both ways"
        ),
        Format(
            "pickle-out",
            "pickle 5, out of band",
            "plain",
            PARTS,
            "no message: where each buffer ends has to be said beside it; Python only; loading it runs its sender's code",
            ahead="it has no shape to check: what it loads it trusts",
        ),
        Format(
            "graphpipe-warm",
            "GraphPipe, in one buffer used again",
            "ours",
            ONE,
            "the same, copied into memory that is warm",
        ),
        Format("graphpipe-joined", "GraphPipe, joined in new bytes", "ours", ONE, "the same, by b''.join"),
        Format(
            "arrow",
            "Arrow IPC tensor",
            "arrow",
            ONE,
            "a tensor alone: names and errors travel beside it",
            ahead="it copies as we do, into memory of its own allocator that is warm from the call before",
        ),
        Format(
            "pickle-in",
            "pickle 5, in band",
            "plain",
            ONE,
            "Python only; loading it runs its sender's code",
            ahead="it copies once into new memory, as b''.join does",
        ),
        Format("flatbuffers", "FlatBuffers, the official builder", "flatbuffer", ONE, "our schema; nothing is checked"),
        Format("npy", ".npy", "plain", ONE, "one array"),
        Format("safetensors", "safetensors", "binary", ONE, "named arrays"),
        Format("msgpack", "msgpack", "binary", ONE, "raw bytes in a map"),
        Format(
            "triton-http",
            "Triton, HTTP binary",
            "triton",
            ONE,
            "callers by its library, servers as those in Python do it",
        ),
        Format(
            "triton-grpc", "Triton, gRPC", "triton", ONE, "callers by its library, servers as those in Python do it"
        ),
        Format(
            "tensorflow-serving",
            "TF-Serving, gRPC",
            "tensorflow_serving",
            ONE,
            "make_tensor_proto, make_ndarray",
            environment="tensorflow-serving",
        ),
        Format("orjson", "JSON (orjson)", "text", TEXT, "takes the array as it is; reads to lists"),
        Format("ujson", "JSON (ujson)", "text", TEXT, "lists, both ways"),
        Format("json", "JSON (json)", "text", TEXT, "lists, both ways"),
        Format("memcpy", "memcpy", "plain", LIMIT, "into memory that is warm"),
    )
}

# Those of ours that a row is held against when it serialises. Whatever was sent, who reads wants an array.
LIKE = {PARTS: (OURS,), ONE: ("graphpipe-warm", "graphpipe-joined"), TEXT: ("graphpipe-warm", "graphpipe-joined")}
