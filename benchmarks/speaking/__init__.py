"""What `benchmarks/protocols.py` measures with: the servers beside ours, and who asks them."""
