"""The least that a Python server with threads can be: bytes into warm memory, the model on two threads, bytes back.

    python bare_model.py MODEL SHAPE

It looks at nothing: whatever has come when a request's bytes are there is taken for one. Prints the port that it listens on.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from typing import Any

import numpy as np
import uvloop

import graphpipe
from graphpipe.wire import decode_request, encode_infer_response, encode_request

THREADS = 2
HEAD_BYTES = 2048


def main(source: str, shape: tuple[int, ...]) -> None:
    model = graphpipe.load(source)
    infer, name = model.infer, model.signature.inputs[0].name
    body = b"".join(encode_request([np.zeros(shape, np.float32)]))
    jobs: queue.SimpleQueue[Bare] = queue.SimpleQueue()
    loop = uvloop.new_event_loop()

    class Bare(asyncio.BufferedProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.memory = memoryview(bytearray(len(body) + HEAD_BYTES))
            self.filled = 0

        def get_buffer(self, sizehint: int) -> memoryview:
            return self.memory[self.filled :] if self.filled else self.memory[:HEAD_BYTES]

        def buffer_updated(self, count: int) -> None:
            self.filled += count
            if self.filled > len(body):
                self.start, self.filled = self.filled - len(body), 0
                jobs.put(self)

    def work() -> None:
        while True:
            caller = jobs.get()
            array = decode_request(caller.memory[caller.start : caller.start + len(body)]).inputs[0]
            answer = b"".join(encode_infer_response(list(infer({name: array}).values())))
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer)
            loop.call_soon_threadsafe(caller.transport.write, head + answer)

    for _ in range(THREADS):
        threading.Thread(target=work, daemon=True).start()
    server = loop.run_until_complete(loop.create_server(Bare, "127.0.0.1", 0))
    print(server.sockets[0].getsockname()[1], flush=True)
    loop.run_forever()


if __name__ == "__main__":
    main(sys.argv[1], tuple(map(int, sys.argv[2].split(","))))
