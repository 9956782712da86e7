"""`make fuzz`: each fuzzer for a given time."""
