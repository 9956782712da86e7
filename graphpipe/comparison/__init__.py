"""Models of one problem beside one another: how their answers differ, how long they take, and how good they are.

``sources`` has what they are asked, in calls that are ``cut`` from ``columns``; ``opening`` has the models, and ``names``
what of one is what of another. ``contest`` asks each call of every model in turn: ``difference`` holds two answers against
each other and keeps no more than sums, ``ratio`` says how sure a ratio of times is, ``metric`` runs the user's own measure.
``compared`` has what came of it, which ``table``, ``document`` and ``picture`` show, and ``result`` all of that in one;
``comparing`` is the door.
"""
