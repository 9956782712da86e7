"""Dialects: what a path asks for, the bytes of a request to the bytes of its answer, an error to a body. No sockets."""
