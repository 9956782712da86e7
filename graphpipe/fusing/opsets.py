"""Parts written for different versions of ONNX, brought to the same one."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper, version_converter

from graphpipe.errors import LoadError
from graphpipe.fusing.graphs import operators
from graphpipe.fusing.part import Part
from graphpipe.words import first_line

__all__ = ["align", "ir_version"]


def align(parts: Sequence[Part]) -> dict[str, int]:
    """Bring all parts to the newest version that one of them has, of each domain, in place; and say which.

    An operator that did not change in between means the same in both, and needs no conversion. Raises LoadError where one
    did and it cannot be converted.
    """
    newest: dict[str, int] = {}
    for part in parts:
        for domain, version in part.opsets.items():
            newest[domain] = max(version, newest.get(domain, 0))
    for part in parts:
        used = operators(part.graph)
        for domain, version in part.opsets.items():
            wanted = newest[domain]
            changed = [
                name for of, name in sorted(used) if of == domain and not _is_same(name, domain, version, wanted)
            ]
            if version != wanted and changed:
                _convert(part, domain, wanted, changed)
        part.opsets = {domain: newest[domain] for domain in part.opsets}
        _write(part.model, part.opsets)
    return newest


def ir_version(parts: Sequence[Part], opsets: dict[str, int]) -> int:
    """The oldest format that can hold them all: more runtimes know it."""
    known = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return max(*(part.model.ir_version for part in parts), helper.find_min_ir_version_for(known, ignore_unknown=True))


def _is_same(operator: str, domain: str, version: int, other: int) -> bool:
    if version == other:
        return True
    try:
        schemas = [onnx.defs.get_schema(operator, each, domain) for each in (version, other)]
    except onnx.defs.SchemaError:
        return False
    return schemas[0].since_version == schemas[1].since_version


def _convert(part: Part, domain: str, wanted: int, changed: Sequence[str]) -> None:
    version = part.opsets[domain]
    trouble = (
        f"{part.source}: has opset {version} of {domain or 'ai.onnx'}, another part has {wanted}, and in between "
        f"{', '.join(changed)} changed"
    )
    if domain:
        raise LoadError(f"{trouble}; nothing converts that: export it with version {wanted}")
    try:
        converted = version_converter.convert_version(part.model, wanted)
    except Exception as error:
        raise LoadError(
            f"{trouble}; it cannot be converted: {first_line(error)}; export it with opset {wanted}"
        ) from None
    if set(part.takes) - {info.name for info in converted.graph.input} or list(part.gives) != [
        info.name for info in converted.graph.output
    ]:
        raise LoadError(f"{trouble}; its conversion lost inputs or outputs; export it with opset {wanted}")
    part.model = converted


def _write(model: onnx.ModelProto, opsets: dict[str, int]) -> None:
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in opsets.items())
