"""Which outputs of a TensorFlow function are computed anew by each call, as far as its graph tells.

TensorFlow counts who holds a tensor's memory, and tells nobody. An output may be a variable or a constant of the graph:
the memory is the model's then, and TensorFlow says no more than that one must not write to it. So the graph is followed
from an output back to the operator that made the tensor. Only operators that always make a new one, out of an input of
the call, are trusted; what is not known here is not computed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

__all__ = ["computed", "keeps_inputs"]

# They give new memory, or that of an operand which nobody else will look at.
_COMPUTERS = """
    Abs Add AddV2 ArgMax ArgMin AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3 BiasAdd Ceil Conv2D
    Conv2DBackpropInput Conv3D Cos DepthwiseConv2dNative Div DivNoNan Einsum Elu Equal Erf Exp Expm1 Floor FloorDiv
    FusedBatchNormV3 GatherV2 Greater GreaterEqual LeakyRelu Less LessEqual Log Log1p LogSoftmax LogicalAnd LogicalNot
    LogicalOr MatMul MaxPool MaxPool3D Maximum Minimum Mul Neg NotEqual OneHot Pow RealDiv Relu Relu6 ResourceGather
    Round Rsqrt Selu Sigmoid Sign Sin Softmax Softplus Softsign Sqrt Square SquaredDifference Sub Tanh
"""
# They may give their first operand as it is, in another shape, or a part of it ...
_PASSERS = """
    All Any BroadcastTo Cast CheckNumerics EnsureShape ExpandDims Identity Max Mean Min Pad PadV2 PreventGradient Prod
    Reshape ReverseV2 Slice Snapshot Squeeze StopGradient StridedSlice Sum Tile Transpose
"""
# ... or any of their operands.
_CHOOSE = {"AddN": slice(None), "ConcatV2": slice(-1), "Pack": slice(None), "SelectV2": slice(1, None)}
_COMPUTE, _PASS = frozenset(_COMPUTERS.split()), frozenset(_PASSERS.split())
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def computed(function: Any, names: Collection[str]) -> frozenset[str]:
    """The ``names``, which are those of the flat outputs of a ConcreteFunction, whose tensors each call makes anew, or
    takes from an input.
    """
    outputs = list(function.outputs)
    if len(outputs) != len(names):
        return frozenset()
    definition = function.graph.as_graph_def()
    library = {each.signature.name: each for each in definition.library.function}
    captured = {tensor.op.name for tensor in function.captured_inputs if hasattr(tensor, "op")}
    captured |= {tensor.op.name for _, tensor in function.graph.captures}
    inputs = {tensor.op.name for tensor in function.inputs} - captured
    graph = _Graph({node.name: node for node in definition.node}, inputs, library)
    return frozenset(
        name
        for name, tensor in zip(names, outputs, strict=True)
        # Where all sizes are known TensorFlow may find out that the result is a constant: x * 0.
        if not tensor.shape.is_fully_defined() and graph.is_computed(tensor.name)
    )


def keeps_inputs(function: Any) -> bool:
    """Whether the function may hold its inputs' memory when it has come back: a variable that is assigned to does."""
    definition = function.graph.as_graph_def()
    nodes = [*definition.node, *(node for each in definition.library.function for node in each.node_def)]
    return any(word in node.op for node in nodes for word in ("Assign", "Enqueue", "Insert", "PyFunc", "Stage"))


class _Graph:
    """A graph or the body of a function; ``inputs`` are the nodes that stand for inputs of the call."""

    def __init__(self, nodes: Mapping[str, Any], inputs: Collection[str], library: Mapping[str, Any]) -> None:
        self._nodes = nodes
        self._inputs = inputs
        self._library = library

    def is_computed(self, reference: str) -> bool:
        """Whether this tensor is made anew by each call, or is a part of an input."""
        name, index = _parts(reference)
        if name in self._inputs:
            return True
        node = self._nodes.get(name)
        if node is None:
            return False
        operands = list(_operands(node))
        if node.op in _COMPUTE:
            return any(map(self._follows_from_inputs, operands))
        if node.op in _PASS:
            return self.is_computed(operands[0])
        if node.op == "IdentityN":
            return self.is_computed(operands[index])
        if node.op in _CHOOSE:
            return all(map(self.is_computed, operands[_CHOOSE[node.op]]))
        body = self._library.get(node.attr["f"].func.name) if node.op in _CALLS else None
        if body is None or any("Xla" in key and value.b for key, value in body.attr.items()):
            return False
        arguments = [argument.name for argument in body.signature.input_arg]
        inner = {name for name, operand in zip(arguments, operands, strict=True) if self._follows_from_inputs(operand)}
        results = [body.ret[argument.name] for argument in body.signature.output_arg]
        return _Graph({each.name: each for each in body.node_def}, inner, self._library).is_computed(results[index])

    def _follows_from_inputs(self, reference: str) -> bool:
        seen: set[str] = set()
        waiting = [reference]
        while waiting:
            name, _ = _parts(waiting.pop())
            if name in self._inputs:
                return True
            if name not in seen and name in self._nodes:
                seen.add(name)
                waiting += _operands(self._nodes[name])
        return False


def _operands(node: Any) -> Iterator[str]:
    return (each for each in node.input if not each.startswith("^"))


def _parts(reference: str) -> tuple[str, int]:
    """The node of ``node``, ``node:1`` and ``node:output:1``, and which of its tensors it is."""
    name, _, rest = reference.partition(":")
    last = rest.rpartition(":")[2]
    return name, int(last) if last.isdigit() else 0
