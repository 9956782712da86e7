"""Pipelines: what goes where, what stages may do, how they are written down."""
