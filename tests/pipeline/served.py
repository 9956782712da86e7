"""What tests of pipelines on a server have in common: a pipeline of three functions, and looks into its server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import graphpipe
from graphpipe import Pipeline, Stage
from graphpipe.server.models.service import Service
from graphpipe.server.models.wiring import build
from graphpipe.server.settings.values import ModelSettings
from tests.front.servers import InProcess, in_process

TEXTS = ["hello world hello", "what is this", ""]


def split(text):
    rows = [line.split() for line in text]
    longest = max([1, *map(len, rows)])
    return {"ids": np.array([[len(word) for word in row] + [0] * (longest - len(row)) for row in rows], np.int64)}


def count(ids):
    return {"counts": (ids > 0).sum(axis=1), "longest": ids.max(axis=1)}


def most(counts, longest):
    return {"both": counts * 100 + longest}


def words(**options: Any) -> Pipeline:
    return Pipeline([split, Stage(count, **options), most], name="words")


def served(model: Any, name: str = "words", **settings: Any):
    return in_process({name: getattr(model, "model", model)}, **settings)


def part(server: InProcess, name: str, function: Callable[..., Any], **settings: Any) -> Service:
    """A service to be put in place of a stage."""
    model = graphpipe.load(function).model if not hasattr(function, "infer") else function
    (made,) = server.ask(lambda: build([(ModelSettings(name, "", **settings), model)], server.app.counters))
    return made


def put(server: InProcess, service: Service) -> None:
    server.ask(lambda: server.app.directory.put(service))


def number(server: InProcess, family: str, name: str) -> float:
    return server.ask(lambda: server.app.counters.total(family, name))


def is_whole(pool: Any) -> bool:
    return pool.room == pool.bytes_max


def wait_for(happens: Callable[[], Any]) -> None:
    until = time.monotonic() + 10
    while not happens():
        assert time.monotonic() < until
        time.sleep(0.01)
