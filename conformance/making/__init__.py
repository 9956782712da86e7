"""What ``make_vectors.py`` makes vectors from: values, three ways to write them, and the cases themselves."""
