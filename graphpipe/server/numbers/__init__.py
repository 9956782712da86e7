"""What is counted, and what is written to the log."""
