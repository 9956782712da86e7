"""What a model is made of, what goes between its parts, and where its time goes.

``explanation`` is what users have, ``asked`` what a model is asked where nobody says it. ``explaining`` looks at a model and
measures it; ``explained`` has what came of it, which ``table``, ``document`` and ``picture`` show. ``layout`` says where
in a picture everything lies, and knows nothing of what it is; ``boxes`` draws a part or a value at its place.
"""
