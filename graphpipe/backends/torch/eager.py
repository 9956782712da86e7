"""PyTorch modules as they are: handed over, or found as module:Class."""

from __future__ import annotations

import inspect
from typing import Any

from graphpipe.backends.load import LoadOptions
from graphpipe.backends.model import Model
from graphpipe.backends.torch.runtime import Placement, TorchModel, runtime
from graphpipe.errors import LoadError
from graphpipe.signature import Signature, TensorSpec

__all__ = ["open_module"]


def open_module(module: Any, name: str, options: LoadOptions) -> Model:
    """The model that a module is: it is put into eval mode, and moved if a device is asked for. Raises LoadError.

    Its inputs are the parameters of ``forward`` without a default, unless ``@graphpipe.model`` says more.
    """
    torch = runtime(name, options)
    placement = Placement.of(torch, name, options)
    declared = getattr(type(module).forward, "__graphpipe_signature__", None)
    parameters = inspect.signature(module.forward).parameters.values()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name != "kwargs" for p in parameters) and declared is None:
        raise LoadError(
            f"{name}: forward takes any number of tensors; name them: @graphpipe.model(inputs=...) on forward"
        )
    if declared is not None and declared.inputs is not None:
        inputs = declared.inputs
    else:
        named = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
        inputs = tuple(TensorSpec(p.name) for p in named)
    outputs = declared.outputs if declared is not None and declared.outputs is not None else ()
    try:
        signature = Signature(inputs, outputs, open_outputs=not outputs).with_defaults(options.inputs, options.outputs)
    except ValueError as error:
        raise LoadError(f"{name}: {error}") from None
    placed = placement.place(module.eval(), name)
    return TorchModel(
        signature,
        lambda tensors: placed(**tensors),
        placement,
        description=declared.description if declared is not None else f"PyTorch module {type(module).__name__}",
        function=module,
    )
