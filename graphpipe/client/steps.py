"""The calls of a client as steps: each yields what to send, and takes what was answered. Whoever has a socket drives
them.

So the blocking and the asynchronous client mean the same by the same call, and neither says it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TypeVar

from graphpipe.arguments import flag, named_tensors, names, one_name, tensors, text
from graphpipe.arrays import has_own_type
from graphpipe.client.address import Address
from graphpipe.client.calls import Array, Reply, fit, metadata_of, outputs_of
from graphpipe.errors import InvalidRequest
from graphpipe.wire import MetadataResponse, Segment
from graphpipe.wire.messages import encode_metadata_request, encode_request

__all__ = ["Calls", "Steps"]

T = TypeVar("T")

Steps = Generator[list[Segment], Reply, T]


class Calls:
    """The calls to one model. Its metadata is remembered between them."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._metadata: MetadataResponse | None = None

    def execute(
        self, value: object, input_name: str | None, output_name: str | None, config: str, cast: bool
    ) -> Steps[Array | list[Array]]:
        """One input: an array if there is one output, else a list of them."""
        asked = one_name(output_name, "output_name")
        outputs = yield from self._execute(
            [value], one_name(input_name, "input_name"), asked, text(config, "config"), flag(cast, "cast")
        )
        return outputs[0] if len(outputs) == 1 else outputs

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
        self, inputs: Mapping[str, object], outputs: Sequence[str] | None, config: str, cast: bool
    ) -> Steps[dict[str, Array]]:
        """Named inputs: named outputs, by asking for each by its name."""
        inputs, config, cast = named_tensors(inputs), text(config, "config"), flag(cast, "cast")
        if asked := names(outputs, "outputs", gaps=False):
            return (yield from self._infer(inputs, asked, config, cast))
        return (
            yield from self._with_metadata(
                lambda meta: self._infer(inputs, tuple(output.name for output in meta.outputs), config, cast)
            )
        )

    def metadata(self) -> Steps[MetadataResponse]:
        """What the model takes and gives, asked anew."""
        reply = yield [encode_metadata_request()]
        self._metadata = metadata_of(reply, self._address)
        return self._metadata

    def _execute(
        self, inputs: Sequence[object], names: tuple[str, ...], asked: tuple[str, ...], config: str, cast: bool
    ) -> Steps[list[Array]]:
        """Tensors under names, where "" is the default at its place; everything has been checked."""
        if not cast and all(map(has_own_type, inputs)):
            reply = yield encode_request(inputs, names, asked, config)
            return outputs_of(reply, self._address, len(asked))

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
