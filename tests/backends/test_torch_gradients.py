"""Programs of PyTorch that differentiate by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphpipe

torch = pytest.importorskip("torch")

from tests.backends.torch_programs import X, scripted, write  # noqa: E402 -- after the check that there is a torch


class Forces(torch.nn.Module):
    """Differentiates by itself, with nothing said of enabling that."""

    def forward(self, positions: torch.Tensor):
        p = positions.detach().requires_grad_(True)
        energy = (p * p).sum(-1)
        grad = torch.autograd.grad([energy.sum()], [p])[0]
        assert grad is not None
        return {"energy": energy, "forces": -grad}


class EnabledForces(torch.nn.Module):
    @torch.enable_grad()
    def forward(self, positions):
        p = positions.detach().requires_grad_(True)
        (grad,) = torch.autograd.grad((p * p).sum(), p)
        return {"forces": -grad}


class FunctionalForces(torch.nn.Module):
    def forward(self, positions):
        return {"forces": -torch.func.grad(lambda p: (p * p).sum())(positions)}


class JacobianForces(torch.nn.Module):
    """Gives zeros, not an error, where gradients cannot be had."""

    def forward(self, positions):
        return {"forces": -torch.autograd.functional.jacobian(lambda p: (p * p).sum(), positions)}


def _slope(x: Any) -> Any:
    p = x.detach().requires_grad_(True)
    (p * p).sum().backward()
    return p.grad


class HelpedForces(torch.nn.Module):
    """What differentiates is a function beside it."""

    def forward(self, positions):
        return {"forces": -_slope(positions)}


class HiddenForces(torch.nn.Module):
    """Nothing of its code speaks of gradients, where it can be seen."""

    def __init__(self):
        super().__init__()
        self.call = {"slope": _slope}

    def forward(self, positions):
        return {"forces": -self.call["slope"](positions)}


class InnerGradient(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Forces()

    def forward(self, positions):
        return {"forces": self.inner(positions)["forces"]}


@pytest.mark.parametrize(
    "module",
    [Forces(), EnabledForces(), FunctionalForces(), JacobianForces(), HelpedForces(), HiddenForces(), InnerGradient()],
    ids=lambda module: type(module).__name__,
)
def test_a_program_that_differentiates_gives_what_it_gives_by_itself(module):
    with graphpipe.load(module) as model:
        for _ in range(2):
            np.testing.assert_array_equal(model.infer({"positions": X})["forces"], -2 * X)


def test_a_script_that_differentiates_gives_what_it_gives_by_itself(tmp_path):
    with graphpipe.load(write(scripted(Forces()), tmp_path / "m.pt")) as model:
        got = model.infer({"positions": X})
        np.testing.assert_array_equal(got["forces"], -2 * X)
        assert got["energy"].shape == (2,)


def test_a_program_without_gradients_keeps_no_graph_of_its_weights():
    seen = []

    class Looks(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3, 1)

        def forward(self, x):
            y = self.linear(x)
            seen.append(y.grad_fn)
            return y

    with graphpipe.load(Looks()) as model:
        model.infer({"x": X})
    assert seen == [None]
