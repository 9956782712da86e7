"""Rows that are already known are answered from disk."""
