"""The release's number, apart from the package's root, so that nobody needs the root to know it."""

__all__ = ["SERVER", "__version__"]

__version__ = "0.1.0"

# How a server names itself: in metadata, and in the Server header.
SERVER = f"graphpipe/{__version__}"
