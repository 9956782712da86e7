"""Which gRPC services there are."""

from __future__ import annotations

from graphpipe.server.models.directory import Directory
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.protocols import health
from graphpipe.server.protocols.health import HealthRpcs
from graphpipe.server.protocols.open_inference import rpcs as open_inference
from graphpipe.server.protocols.open_inference.rpcs import OpenInferenceRpcs
from graphpipe.server.protocols.protocol import Rpcs
from graphpipe.server.protocols.room import Room
from graphpipe.server.protocols.tensorflow_serving import rpcs as tensorflow_serving
from graphpipe.server.protocols.tensorflow_serving.rpcs import TensorFlowServingRpcs
from graphpipe.server.settings.values import Settings
from graphpipe.server.state import State

__all__ = ["rpcs_of"]


def rpcs_of(settings: Settings, directory: Directory, state: State, counters: Counters, room: Room) -> dict[str, Rpcs]:
    """Those that the settings have, by ``package.Service``. ``room`` is there for what is larger than it came."""
    if "grpc" not in settings.protocols:
        return {}
    found: dict[str, Rpcs] = {}
    if "open-inference" in settings.protocols:
        found[open_inference.SERVICE] = OpenInferenceRpcs(directory, state, counters, settings.strings_max, room)
    if "tensorflow-serving" in settings.protocols:
        rpcs = TensorFlowServingRpcs(directory, settings.strings_max, room)
        found |= dict.fromkeys(tensorflow_serving.SERVICES, rpcs)
    found[health.SERVICE] = HealthRpcs(directory, state, frozenset(found))
    return found
