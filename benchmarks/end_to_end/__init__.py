"""The ways from a caller to a model that throughput.py compares: their servers, their usual clients, and the model alone."""
