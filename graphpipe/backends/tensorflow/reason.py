"""Why TensorFlow or Keras cannot load a model, in one line.

Keras tells what it was building, then how that is configured, and the reason after that; TensorFlow gives its advice to
people who write Python. What users meet most is said in words of ours, which name what is missing and the way out;
the rest is the frameworks' own line that holds the reason.
"""

from __future__ import annotations

import re

from graphpipe.words import first_line

__all__ = ["reason"]

_SAVED_MODEL = "save the model as a SavedModel instead, which needs no code: model.export(folder)"
# In the order in which they are looked for. {0} is what the first group found.
_KNOWN = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (
            r"Op type not registered '([^']+)'",
            "Op type not registered '{0}', so this TensorFlow has no such operator; load the library that has it: "
            "--custom-ops FILE",
        ),
        (
            r"(?:Could not locate (?:class|function)|Unknown (?:layer|object|\w+ function)):? '([^']+)'",
            f"it needs '{{0}}', which is not a part of Keras, and a Keras file does not hold its code; {_SAVED_MODEL}",
        ),
        (
            r"`?Lambda`? layer",
            f"it has a Lambda layer, and Python code in a file is not run; {_SAVED_MODEL}; if it is yours: --trust-model",
        ),
        (
            r"(Unrecognized keyword arguments passed to [^:]+: .{1,120})",
            "{0}; another version of Keras wrote this file: save it again with Keras 3, or as a SavedModel: "
            "model.export(folder)",
        ),
        (r"accessible `?\.keras`? zip file", "it is no .keras file, or only a part of one"),
        (r"No model config found", "it holds weights alone; save the whole model: model.save(file)"),
    )
)


def reason(error: BaseException) -> str:
    """What an error at load says, in one line."""
    # What Keras tells before is about the object around it.
    text = str(error).rpartition("Exception encountered: ")[2]
    for pattern, words in _KNOWN:
        found = pattern.search(text)
        if found:
            return words.format(*(" ".join(group.split()) for group in found.groups()))
    return first_line(Exception(text)) if text.strip() else first_line(error)
