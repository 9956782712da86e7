"""A source's text becomes files on this machine."""
