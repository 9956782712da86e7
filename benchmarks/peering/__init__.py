"""Servers of others, each as its users write it, run by an environment of its own (benchmarks/harness/environment.py).

Each serves the models of models.py, two calls at once; roster.py says how each is started and asked.
"""
