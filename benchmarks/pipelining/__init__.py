"""What `benchmarks/pipelines.py` measures with: a file for each of its questions, and what they share."""
