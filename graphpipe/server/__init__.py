"""A server is a model behind HTTP. ``serving`` starts one from Python; ``cli`` is the same on the command line."""
