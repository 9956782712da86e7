"""A pipeline as users have it: stages in, a loaded model out."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from graphpipe.arguments import named_tensors, names, text
from graphpipe.backends.loaded import LoadedModel
from graphpipe.errors import LoadError
from graphpipe.pipeline.flow import Flow, StageOf
from graphpipe.pipeline.part import parts_of
from graphpipe.pipeline.stage import checked_name

__all__ = ["Pipeline"]


class Pipeline(LoadedModel):
    """Stages behind one another: what one gives under a name the next one takes under that name.

    ``stages`` is a list, or a table from names to stages: what ``graphpipe.load`` takes, models that are loaded, plain
    functions, objects that can be called, pipelines, or a Stage, which says more. What a stage takes and none before it
    gave is the pipeline's input; ``inputs`` names those, in order. ``outputs`` names what is answered: any values that
    stages give, unless it says something else those of the last one.

        pipeline = graphpipe.Pipeline([tokenize, "model.onnx", top_five])
        pipeline.infer({"text": ["hello world"]})

    Whatever a stage was loaded from here is closed with the pipeline; a model that was handed over is not. Raises
    LoadError for a stage that cannot be loaded, two of one name, what a stage takes and nobody gives, and what it cannot
    take as it is given.
    """

    model: Flow

    def __init__(
        self,
        stages: Sequence[Any] | Mapping[str, Any],
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
        name: str = "",
    ) -> None:
        called = checked_name(name) if name else "pipeline"
        parts = parts_of(stages)
        try:
            flow = Flow(parts, called, inputs, outputs)
        except LoadError as error:
            for part in parts:
                if part.is_ours:
                    part.model.close()
            raise LoadError(f"pipeline {called!r}: {error}") from None
        super().__init__(flow, called)

    @property
    def stages(self) -> tuple[StageOf, ...]:
        """The stages in their order: of each its name, its model, and what it takes and gives."""
        return self.model.stages

    def timed_infer(
        self,
        inputs: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        *,
        config: str | None = "",
        cast: bool = False,
    ) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
        """As ``infer``, one stage after another; with the outputs come the seconds that each stage took, by its name."""
        self._call_s(None, None)
        named = named_tensors(inputs, known=self.signature.input_names)
        asked = names(outputs, "outputs", gaps=False)
        plan, arrays = self._planned(list(named.values()), tuple(named), asked, cast)
        return self.model.timed_infer(plan.inputs(arrays), plan.outputs or None, config=text(config, "config"))

    def save(self, path: str | Path, *, code: Iterable[str | Path] = ()) -> Path:
        """Write the pipeline down, for ``graphpipe.load`` and ``graphpipe-serve``: into a file ``NAME.toml`` that names what
        its stages are where that is, or into a new folder that has all of it. ``code`` are files and folders of Python that
        its functions import, for a folder. Gives the file's path.

        Raises PackageError for a stage that no other process could find or load.
        """
        written: Path = importlib.import_module("graphpipe.package.pipelines").save(self.model, path, code)
        return written

    def __repr__(self) -> str:
        return f"<{self.name}: {' -> '.join(part.name for part in self.model.parts)}: {self.signature}>"
