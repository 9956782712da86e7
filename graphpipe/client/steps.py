"""The calls of a client as steps: each yields what to send, and takes what was answered. Whoever has a socket drives
them.

So the blocking and the asynchronous client mean the same by the same call, and neither says it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from operator import index
from typing import Any, TypeVar

import numpy as np

from graphpipe.arguments import flag, named_tensors, names, one_input, one_tensor, some_outputs, tensors, text
from graphpipe.arrays import OutputsAs, has_own_type
from graphpipe.client.address import Address
from graphpipe.client.calls import Array, Reply, fit, metadata_of, outputs_of, signature_of
from graphpipe.client.memory import LARGE_FROM, Memory, Tensors, tensors_of
from graphpipe.errors import InvalidRequest
from graphpipe.forms import in_form
from graphpipe.frames import Frame, inputs_of, is_frame, tensor_of_one
from graphpipe.signature import Signature
from graphpipe.wire import MetadataResponse, Segment
from graphpipe.wire.messages import encode_metadata_request, encode_request
from graphpipe.words import quoted

__all__ = ["Calls", "Request", "Steps"]

T = TypeVar("T")

# What is many bytes need not be sent as such, if whoever has the socket knows of another way.
Request = list[Segment] | Tensors
Steps = Generator[Request, Reply, T]


class Calls:
    """The calls to one model. Its metadata is remembered between them.

    With ``memory`` large tensors are not made bytes of: they may be shown.
    """

    def __init__(self, address: Address, memory: Memory | None = None) -> None:
        self._address = address
        self._memory = memory
        self._metadata: MetadataResponse | None = None

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the model's inputs, as far as they are known without a call."""
        return () if self._metadata is None else tuple([each.name for each in self._metadata.inputs])

    def execute(
        self, value: object, input_name: str | None, output_name: object, config: str | None, cast: bool
    ) -> Steps[Array | list[Array]]:
        """One input: an array if there is one output, else a list of them. A list of names is answered with a list."""
        name, asked = one_input(input_name), some_outputs(output_name)
        config, cast = text(config, "config"), flag(cast, "cast")
        if is_frame(value):
            frame = value
            outputs = yield from self._with_metadata(
                lambda meta: self._execute(
                    [tensor_of_one(frame, signature_of(meta), name, cast)], name, asked, config, False
                )
            )
        else:
            outputs = yield from self._execute([one_tensor(value)], name, asked, config, cast)
        several = output_name is not None and not isinstance(output_name, str)
        return outputs if several or len(outputs) != 1 else outputs[0]

    def execute_multi(
        self,
        inputs: Sequence[object],
        input_names: Sequence[str | None] | None,
        output_names: Sequence[str | None] | None,
        config: str | None,
        cast: bool,
    ) -> Steps[list[Array]]:
        """Several inputs: the outputs in the order asked for."""
        asked = names(output_names, "output_names")
        return (
            yield from self._execute(
                tensors(inputs), names(input_names, "input_names"), asked, text(config, "config"), flag(cast, "cast")
            )
        )

    def infer(
        self,
        inputs: Mapping[str, object] | Frame,
        outputs: Sequence[str] | None,
        config: str | None,
        cast: bool,
        form: OutputsAs,
        as_frame: bool,
    ) -> Steps[Any]:
        """Named inputs, or a frame: named outputs, by asking for each by its name."""
        config, cast = text(config, "config"), flag(cast, "cast")
        asked, answered = names(outputs, "outputs", gaps=False), in_form(form, as_frame, inputs)
        found: dict[str, Array]
        if is_frame(inputs):
            frame = inputs
            found = yield from self._with_metadata(
                lambda meta: self._infer(
                    inputs_of(frame, signature_of(meta), cast), asked or _outputs(meta), config, False
                )
            )
            return answered(found)
        tensors = named_tensors(inputs, known=self.input_names)
        if asked:
            found = yield from self._infer(tensors, asked, config, cast)
        else:
            found = yield from self._with_metadata(lambda meta: self._infer(tensors, _outputs(meta), config, cast))
        return answered(found)

    def metadata(self) -> Steps[MetadataResponse]:
        """What the model takes and gives, asked anew."""
        reply = yield [encode_metadata_request()]
        self._metadata = metadata_of(reply, self._address)
        return self._metadata

    def empty(self, name: str, shape: int | Sequence[int], dtype: Any) -> Steps[Array]:
        """An array for the input called ``name``, whose elements are anything yet, in the type that the model takes unless
        one is said; in memory that can be shown, where there is some.

        Raises InvalidRequest if no type is said, here or by the model.
        """
        # x and x:0 are the same tensor to TensorFlow's callers.
        plain = text(name, "name").removesuffix(":0")
        dims = tuple(map(index, shape)) if isinstance(shape, Iterable) else (index(shape),)
        if dtype is None:
            signature = yield from self.signature()
            dtype = next((spec.dtype for spec in signature.inputs if spec.name.removesuffix(":0") == plain), None)
            if dtype is None:
                raise InvalidRequest(
                    f"the model does not say of which type an input {quoted(name)} is (it takes {signature}); say it: "
                    "dtype='float32'"
                )
        if self._memory is None:
            return np.empty(dims, dtype)
        return self._memory.empty(dims, np.dtype(dtype))

    def signature(self) -> Steps[Signature]:
        """What the model takes and gives, asked if nobody has."""
        return signature_of(self._metadata or (yield from self.metadata()))

    def _execute(
        self, inputs: Sequence[object], names: tuple[str, ...], asked: tuple[str, ...], config: str, cast: bool
    ) -> Steps[list[Array]]:
        """Tensors under names, where "" is the default at its place; everything has been checked."""
        if not cast and all(map(has_own_type, inputs)):
            memory = self._memory
            tensors = None if memory is None else memory.tensors(inputs, names, asked, config)
            reply = yield tensors or encode_request(inputs, names, asked, config)
            outputs = outputs_of(reply, self._address, len(asked))
            if memory is not None:
                if tensors is None and len(reply.body) >= LARGE_FROM:
                    tensors = tensors_of(inputs, names, asked, config)
                if tensors is not None:
                    memory.learn(tensors, outputs)
            return outputs

        def run(meta: MetadataResponse) -> Steps[list[Array]]:
            fitted = [fit(value, names[i] if i < len(names) else "", i, meta, cast) for i, value in enumerate(inputs)]
            return self._execute(fitted, names, asked, config, cast=False)

        return (yield from self._with_metadata(run))

    def _with_metadata(self, run: Callable[[MetadataResponse], Steps[T]]) -> Steps[T]:
        """What ``run`` does with the model's metadata; done again if what we remembered turns out to be old.

        Another model may have taken the place of the one we know; a request that was refused did not run.
        """
        remembered = self._metadata
        if remembered is None:
            return (yield from run((yield from self.metadata())))
        try:
            return (yield from run(remembered))
        except InvalidRequest:
            if (current := (yield from self.metadata())) == remembered:
                raise
        return (yield from run(current))

    def _infer(
        self, inputs: Mapping[str, object], outputs: tuple[str, ...], config: str, cast: bool
    ) -> Steps[dict[str, Array]]:
        values = yield from self._execute(list(inputs.values()), tuple(inputs), outputs, config, cast)
        # A model that does not say what it gives, a plain Python function say, has its answers numbered.
        return dict(zip(outputs or [f"output_{i}" for i in range(len(values))], values, strict=True))


def _outputs(meta: MetadataResponse) -> tuple[str, ...]:
    return tuple([output.name for output in meta.outputs])
