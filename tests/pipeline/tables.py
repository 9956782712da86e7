"""What a neighbour of the stages' file has."""

WORDS = (b"hello", b"world")
