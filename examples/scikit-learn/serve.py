"""A scikit-learn model behind a socket: any library is three lines.

python examples/scikit-learn/serve.py 127.0.0.1:9000
"""

from __future__ import annotations

import sys

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import graphpipe

flowers = load_iris()
model = LogisticRegression(max_iter=1000).fit(flowers.data, flowers.target)


# Without the decorator it would serve too: `graphpipe.serve(model.predict_proba)`. With it a wrong request is refused
# in words that help, and clients see what there is to send.
@graphpipe.model(inputs={"flowers": "float64[n, 4]"}, outputs={"kind": "int64[n]", "probability": "float64[n]"})
def classify(flowers):  # type: ignore[no-untyped-def]
    """The kind of iris that each flower is, by the length and width of its sepals and petals in cm."""
    probabilities = model.predict_proba(flowers)
    return probabilities.argmax(axis=1), probabilities.max(axis=1)


if __name__ == "__main__":
    graphpipe.serve(classify, sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9000")
