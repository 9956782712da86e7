"""What `benchmarks/pipelines.py` measures with, a file for each of its questions that takes more than a few lines."""
