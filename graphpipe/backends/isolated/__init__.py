"""Models in processes of their own: ``graphpipe.load(source, isolate=2)``, ``graphpipe-serve --isolate 2``.

On this side of the sockets is a ``Model`` (model.py) with its calls; a thread, the keeper (keeper.py), starts the
processes, hears of their end, and starts new ones. On the other side runs ``child.py``, by its path and under any
interpreter: it makes our package known and goes on in inside.py. In between there are *lanes*, a pair of sockets each
that carry one call at a time: a frame (frames.py) there, a frame back. Large tensors are not in the frames but in
memory that both sides see.
"""
