"""The release's number, apart from the package's root, so that nobody needs the root to know it."""

__version__ = "0.1.0"
