"""HTTP: connections, heads, bodies and refusals. What the bytes mean is known elsewhere."""
