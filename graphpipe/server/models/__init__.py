"""Which models are served, and each behind its stages."""
