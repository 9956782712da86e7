"""Clients: calls to a model on a server.

``address`` reads a URL, ``http1`` and ``answer`` know the bytes of HTTP, ``calls`` and ``steps`` what they mean;
``blocking`` and the ``asyncio`` modules have the sockets.
"""

from graphpipe.client.blocking import Client

__all__ = ["Client"]
