"""What TensorFlow calls the one signature that a model is served with, and what that signature is for."""

from __future__ import annotations

from graphpipe.backends.model import Model
from graphpipe.errors import InvalidRequest
from graphpipe.words import quoted

__all__ = ["CLASSIFY", "DEFAULT", "PREDICT", "REGRESS", "check_method", "check_name", "method_of", "name_of"]

DEFAULT = "serving_default"
CLASSIFY, PREDICT, REGRESS = (f"tensorflow/serving/{verb}" for verb in ("classify", "predict", "regress"))


def name_of(model: Model) -> str:
    """The name of the signature: a SavedModel's own, the usual one for all that have none."""
    return str(getattr(model, "signature_name", "") or DEFAULT)


def method_of(model: Model) -> str:
    """What the signature is for: one of these words, of which a SavedModel has one of its own."""
    return str(getattr(model, "method_name", "") or PREDICT)


def check_name(model: Model, name: str) -> None:
    """Raise InvalidRequest for a signature that the model is not served with. An empty name means the one that it is."""
    if name not in ("", DEFAULT, name_of(model)):
        raise InvalidRequest(
            f"there is no signature {quoted(name)}: a model is served with one of its signatures, and this one is "
            f"{name_of(model)!r}; the server's --signature chooses it"
        )


def check_method(model: Model, wanted: str) -> None:
    """Raise InvalidRequest for a signature that is for something else."""
    method = method_of(model)
    if method != wanted:
        verb = wanted.rpartition("/")[2]
        raise InvalidRequest(
            f"the model's signature is for {method!r}, and {wanted!r} is asked for: "
            + (
                f"call :{method.rpartition('/')[2]}"
                if method.startswith("tensorflow/serving/")
                else f"it has no :{verb}"
            )
        )
