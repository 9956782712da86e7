"""Servers of others, each as its users write it, run by an environment of its own (benchmarks/harness/environment.py)."""
