"""tritonclient over TLS, without a key and with one: python guarded_triton.py HOST:PORT AUTHORITY.pem KEY"""

from __future__ import annotations

import ssl
import sys

import tritonclient.grpc as by_grpc
import tritonclient.http as by_http
from asking import PAIR, say, told
from tritonclient.utils import InferenceServerException

address, authority, key = sys.argv[1:]
CLIENTS = {
    "http": (
        by_http,
        by_http.InferenceServerClient(
            address, ssl=True, ssl_context_factory=lambda: ssl.create_default_context(cafile=authority)
        ),
    ),
    "grpc": (by_grpc, by_grpc.InferenceServerClient(address, ssl=True, root_certificates=authority)),
}

for way, (library, client) in CLIENTS.items():
    inputs = []
    for name, array in PAIR.items():
        inputs.append(library.InferInput(name, list(array.shape), "INT32"))
        inputs[-1].set_data_from_numpy(array)
    for question, headers in (("without", None), ("with", {"authorization": f"Bearer {key}"})):
        say("guarded", f"live {question}", way, answer=client.is_server_live(headers=headers))
        try:
            answer = client.infer("simple", inputs, headers=headers).as_numpy("OUTPUT0")
            say("guarded", question, way, answer=told(answer))
        except InferenceServerException as error:
            say("guarded", question, way, error=error.message(), status=error.status())
    client.close()
