"""Tracing: an ordinary function of Python that calls stages is run once on an example, and recorded as a pipeline.

    @graphpipe.stage
    def split(text): ...

    def topics(text):
        return {"topic": best(encoder(split(text)["ids"]))}

    pipeline = graphpipe.trace(topics, {"text": ["hello world"]})

``staging.py`` makes a stage of a function, a class or an object: called, it computes on arrays as a server would.
``tracing.py`` calls the function with values that stand for those of a request (``traced.py``): they refuse all that
depends on data. ``recording.py`` notes which stage got which of them, ``naming.py`` gives each a name of its own, and the
pipeline that comes of it is held against the function's own answer (``trial.py``). ``place.py`` knows the user's line.
"""
