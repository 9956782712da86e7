"""Attacks on a server, a file for each kind; benchmarks/attacks.py runs them."""
