"""What benchmarks/guard.py compares, how it counts, and what it concludes."""
