"""Environments of other Pythons and other versions of frameworks, for models that run in a process of their own."""
