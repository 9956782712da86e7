"""What a blob is: a window that is bright, and the brightest of those around it."""

from __future__ import annotations

WINDOW, STEP = 40, 8  # pixels
AROUND = 11  # windows
BRIGHT = 0.5  # of all light
COLOURS = (b"red", b"green", b"blue")  # text as it travels, and as every model gives it
