"""Models of one problem beside one another: how their answers differ, how long they take, and how good they are.

``data`` has what they are asked, in calls that are cut from what a user has (``cut``, ``columns``, ``sources``);
``contest`` asks each call of every model in turn; ``difference`` holds two answers against each other and keeps no more
than sums, ``ratio`` says how sure a ratio of times is, ``metric`` runs the user's own measure. ``result`` has what came
of it, which ``table``, ``document`` and ``picture`` show.
"""
