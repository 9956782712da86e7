"""A chart for each question, drawn from its result alone: `draw(result)` gives a matplotlib figure."""
