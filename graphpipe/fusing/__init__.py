"""Fusing: ONNX graphs that follow one another, as one graph in one file, which any ONNX Runtime in any language runs.

    graphpipe.fuse("tokenizer.onnx", "model.onnx", "pooling.onnx", path="embedding.onnx")

``part.py`` reads a graph, ``opsets.py`` brings all to the same operators, ``plan.py`` finds what goes where, ``types.py``
holds what is given against what is taken, ``joining.py`` makes one graph of them, ``inference.py`` infers its shapes, and
``trial.py`` asks it the same as its parts; ``stages.py`` has the graphs of a pipeline, and what it says of
where all goes. Only here is ``onnx`` imported, when something is fused (docs/fusing.md).
"""
