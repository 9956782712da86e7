"""Pipelines: models whose stages are models, so that what belongs before and after one is written once.

    pipeline = graphpipe.Pipeline([tokenize, "model.onnx", top_five])
    pipeline.infer({"text": ["hello world"]})

``pipeline.py`` is what users have, a LoadedModel; ``flow.py`` the Model in it, which runs stages one after another or side
by side; ``part.py`` makes a stage of whatever stands for one, ``wiring.py`` finds out what goes where and what the whole
takes and gives; ``file.py`` reads and writes ``pipeline.toml``.
"""
