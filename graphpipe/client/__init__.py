"""Clients.

``address`` reads a URL, ``http1`` knows the bytes of HTTP, ``calls`` what they mean; ``blocking`` has the sockets.
"""

from graphpipe.client.blocking import Client

__all__ = ["Client"]
