"""A server's life: it starts, listens, is watched, drains and ends."""
