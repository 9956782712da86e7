"""What a key costs, and what its refusal tells: the questions of benchmarks/keys.py, one a file."""
