"""The images' HEALTHCHECK: status 0 if the server is ready for requests. Imports what starts in a moment.

It asks the address of the metrics, whatever --listen says: that one is the same in every container, and is answered
without a token or a certificate.
"""

import http.client
import os
import socket
import sys


def main() -> int:
    address = os.environ.get("GRAPHPIPE_METRICS_LISTEN", "0.0.0.0:9100")
    if address.startswith("unix:"):
        connection = http.client.HTTPConnection("localhost", timeout=2)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(2)
        connection.sock.connect(address.removeprefix("unix:"))
    else:
        host, _, port = address.rpartition(":")
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
        connection = http.client.HTTPConnection(host, int(port), timeout=2)
    connection.request("GET", "/readyz")
    answer = connection.getresponse()
    print(answer.read().decode(errors="replace").strip())
    return int(answer.status != 200)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError, http.client.HTTPException) as error:
        sys.exit(f"no answer: {error}")
