"""What is fuzzed in Python: a module for each target, with ``check``, ``seeds``, and maybe ``WORDS`` to make inputs of.

``INSTRUMENTED`` has for each the modules whose coverage leads the way. They are named here, since a module is instrumented
when it is imported, and a target's own imports come first.
"""

from __future__ import annotations

__all__ = ["INSTRUMENTED"]

INSTRUMENTED: dict[str, list[str]] = {
    "decoder": ["graphpipe.wire"],
    "head": ["graphpipe.server.http.head", "graphpipe.server.protocols.path"],
    "chunks": ["graphpipe.server.http.chunks"],
    "protobuf": [
        "graphpipe.server.protocols.protobuf",
        "graphpipe.server.protocols.recall",
        "graphpipe.server.protocols.varints",
        "graphpipe.server.protocols.open_inference",
        "graphpipe.server.protocols.tensorflow_serving",
    ],
    "answer": ["graphpipe.client.http1", "graphpipe.client.answer"],
}
