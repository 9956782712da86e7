"""Rows of several callers in one call of the model."""
