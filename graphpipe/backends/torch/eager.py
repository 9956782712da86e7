"""PyTorch modules as they are: handed over, or found as module:Class."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Sequence
from typing import Any

from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.torch.runtime import Placement, TorchModel, runtime
from graphpipe.errors import LoadError
from graphpipe.signature import Signature, TensorSpec

__all__ = ["open_module"]

# An annotation that could not be resolved, but says that much.
_TENSOR_OR_NONE = re.compile(r"(?:\w+\.)*(?:Optional\[)?(?:None \| ?)?(?:\w+\.)*\w*Tensor\]?(?: ?\| ?None)?")
_OF_GRADIENTS = {"grad", "backward", "requires_grad", "requires_grad_", "enable_grad", "set_grad_enabled"}
_OF_GRADIENTS |= {"is_grad_enabled", "autograd", "jacobian", "hessian", "jacrev", "jacfwd", "vjp", "jvp"}


def open_module(module: Any, name: str, options: LoadOptions) -> Model:
    """The model that a module is: it is put into eval mode, and moved if a device is asked for. Raises LoadError.

    Its inputs are the parameters of ``forward``, unless ``@graphpipe.model`` says more: those without a default, and
    those for a tensor that may be left out.
    """
    torch = runtime(name, options)
    placement = Placement.of(torch, name, options)
    declared = getattr(type(module).forward, "__graphpipe_signature__", None)
    required, optional = _parameters(torch, module, name, declared)
    if declared is not None and declared.inputs is not None:
        inputs = declared.inputs
    else:
        inputs = tuple(TensorSpec(parameter) for parameter in (*required, *optional))
        if not inputs:
            raise LoadError(
                f"{name}: forward takes no tensors; name its inputs: @graphpipe.model(inputs=...) on forward"
            )
    outputs = declared.outputs if declared is not None and declared.outputs is not None else ()
    try:
        signature = Signature(
            inputs,
            outputs,
            default_inputs=tuple(spec.name for spec in inputs if spec.name not in optional) or _main(module, inputs),
            open_outputs=not outputs,
            any_inputs=not required,
        ).with_defaults(options.inputs, options.outputs)
    except ValueError as error:
        raise LoadError(f"{name}: {error}") from None
    placed = placement.place(module.eval(), name)
    return TorchModel(
        signature,
        lambda tensors: placed(**tensors),
        placement,
        description=declared.description if declared is not None else f"PyTorch module {type(module).__name__}",
        # x.sub_(mean), ReLU(inplace=True): nothing says beforehand whether its code writes into what it is given.
        written=frozenset(spec.name for spec in inputs),
        differentiates=_differentiates(module),
        function=module,
    )


def _parameters(torch: Any, module: Any, name: str, declared: Any) -> tuple[list[str], list[str]]:
    """The parameters of forward that have to be given, and the tensors that may be left out."""
    parameters = inspect.signature(module.forward).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters) and declared is None:
        raise LoadError(
            f"{name}: forward takes any number of tensors; name them: @graphpipe.model(inputs=...) on forward"
        )
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    try:
        hints = typing.get_type_hints(module.forward)
    except Exception:
        hints = {}  # annotations are made for people too
    required = [p.name for p in named if p.default is p.empty]
    optional = [
        p.name
        for p in named
        if p.default is not p.empty and _may_be_tensor(torch, p.default, hints.get(p.name, p.annotation))
    ]
    if not required and not optional and any(p.kind is p.VAR_KEYWORD for p in parameters) and declared is None:
        raise LoadError(
            f"{name}: forward takes tensors by any name; name them: @graphpipe.model(inputs=...) on forward"
        )
    return required, optional


def _may_be_tensor(torch: Any, default: Any, hint: Any) -> bool:
    """Whether a parameter with a default is for a tensor: an annotation says so, or its default leaves it open."""
    if hint is inspect.Parameter.empty:
        return default is None or isinstance(default, torch.Tensor)
    if isinstance(hint, str):
        return bool(_TENSOR_OR_NONE.fullmatch(hint))
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _may_be_tensor(torch, default, typing.get_args(hint)[0])
    if origin in (typing.Union, types.UnionType):
        return any(_may_be_tensor(torch, default, each) for each in typing.get_args(hint))
    # torch.LongTensor and its like are no subclasses, but of a type of their own.
    return isinstance(hint, type(torch.FloatTensor)) or (isinstance(hint, type) and issubclass(hint, torch.Tensor))


def _main(module: Any, inputs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """What an unnamed tensor is where none has to be given: what the module calls its main input, else the first."""
    main = getattr(module, "main_input_name", None)
    return next(((spec.name,) for spec in inputs if spec.name == main), (inputs[0].name,))


def _differentiates(module: Any) -> bool:
    """Whether forward, or what it calls of the module, its parts and the code beside them, speaks of gradients.

    Such a program runs with gradients, as it does by itself; without, most programs are quicker.
    """
    todo = [(type(part), getattr(type(part), "forward", None)) for part in module.modules()]
    seen: set[Any] = set()
    while todo:
        owner, function = todo.pop()
        while function is not None:  # a decorator's function, and the one that it wraps
            code = getattr(function, "__code__", None)
            if code is None or code in seen or function.__module__.startswith("torch."):
                break
            seen.add(code)
            for name in _names(code):
                if name in _OF_GRADIENTS:
                    return True
                for called in (getattr(owner, name, None), function.__globals__.get(name)):
                    todo.append((owner, getattr(called, "__func__", called)))
            function = getattr(function, "__wrapped__", None)
    return False


def _names(code: types.CodeType) -> set[str]:
    """The names that code uses, functions inside it included."""
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*inner)
