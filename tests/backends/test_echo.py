"""Echo: what came is what is answered, under any names."""

from __future__ import annotations

import numpy as np
import pytest

import graphpipe

A, B = np.arange(3), np.array([[b"text"]], object)


def test_all_inputs_come_back_in_order() -> None:
    with graphpipe.load("echo") as model:
        answer = model.infer({"b": B, "a": A})
        assert list(answer) == ["b", "a"]
        assert answer["a"].tolist() == A.tolist()
        assert answer["b"].tolist() == B.tolist()
        assert model.infer({}) == {}


def test_outputs_go_by_name_where_an_input_has_it_else_by_place() -> None:
    with graphpipe.load("echo") as model:
        assert model.infer({"a": A, "b": B}, ["b"])["b"].tolist() == B.tolist()
        assert model.infer({"a": A}, ["output"])["output"].tolist() == A.tolist()
        with pytest.raises(graphpipe.InvalidRequest, match="2 outputs asked for, but echo got only 1 input$"):
            model.infer({"a": A}, ["x", "y"])
