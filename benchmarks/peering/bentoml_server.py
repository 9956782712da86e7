"""BentoML: a service whose methods take and give numpy arrays, as JSON on the wire.

MODELS=FOLDER bentoml serve bentoml_server:Rows --port P --host 127.0.0.1
"""

import bentoml
import numpy as np
from models import CALLS_AT_ONCE, Model


@bentoml.service(workers=CALLS_AT_ONCE, traffic={"timeout": 600}, logging={"access": {"enabled": False}})
class Rows:
    """Both models, in each of two processes."""

    def __init__(self) -> None:
        self.models = {name: Model(name) for name in ("identity", "squeezenet")}

    @bentoml.api
    def identity(self, x: np.ndarray) -> np.ndarray:
        return self.models["identity"](x.astype(np.float32))

    @bentoml.api
    def squeezenet(self, x: np.ndarray) -> np.ndarray:
        return self.models["squeezenet"](x.astype(np.float32))
