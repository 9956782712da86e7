"""How fast a model answers: behind a server's URL, or in this process.

``load`` says who asks and when, ``requests`` what; ``server`` and ``in_process`` are who is asked, ``measure`` has them
asked in windows until these agree. ``results`` makes numbers of it, ``report`` words, ``picture`` a picture.
"""
