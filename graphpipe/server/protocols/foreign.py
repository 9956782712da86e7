r"""What came instead of a GraphPipe message, and what to do then: the first bytes of a body, or a path, to words.

For the way that has failed already: nothing is looked at here before a body turned out to be no message, or a path nobody's.
First bytes are believed, never a Content-Type: curl says ``application/x-www-form-urlencoded`` to everything. Of what came
nothing is repeated. A path comes by here only where its protocol is not spoken (--protocols).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["ForeignPath", "body_words", "path_words"]

# As much of a body is looked at.
_HEAD_BYTES = 512

_COMMAND = "graphpipe execute URL --input"
_CALL = "in Python: graphpipe.remote.execute(URL, {})"
_ONLY = "this version takes no other body"

# How to send what came.
_SEND = f"{_COMMAND} {{}}, or {_CALL}"
_ROWS = f"send it with: {_SEND.format('rows.json', 'rows')}"
_PICTURE = f"send it with: {_SEND.format('photo.jpg', 'pixels')}"
_TEXT = f"send text with: {_SEND.format('text:hello', 'array')} (numbers with --input '[[1, 2, 3]]')"
_ARRAY = f"read it and send arrays, {_CALL.format('array')}"
_PLAIN = f"send the message uncompressed; to send an array: {_SEND.format('x.npy', 'array')}"
_GZIP = f"say so with Content-Encoding: gzip, or {_PLAIN}"
_NPY = f"send it with: {_SEND.format('x.npy', 'array')}"
_NPZ = f"send an array of an .npz with: {_SEND.format('x.npz:key', 'array')}"
_FORM = f"send what the form holds with: {_SEND.format('FILE', 'array')}"

# First bytes that are one thing's alone, or nearly.
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"\xff\xd8\xff", "a JPEG picture", _PICTURE),
    (b"\x89PNG", "a PNG picture", _PICTURE),
    (b"GIF87a", "a GIF picture", _PICTURE),
    (b"GIF89a", "a GIF picture", _PICTURE),
    (b"II*\0", "a TIFF picture", _PICTURE),
    (b"MM\0*", "a TIFF picture", _PICTURE),
    (b"\x1f\x8b", "compressed by gzip", _GZIP),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", _PLAIN),
    (b"BZh", "compressed by bzip2", _PLAIN),
    (b"\xfd7zXZ", "compressed by xz", _PLAIN),
    (b"\x93NUMPY", "an array in a .npy file", _NPY),
    (b"PK\x03\x04", "a zip archive (.npz, .pt, .keras and others are such)", _NPZ),
    (b"PK\x05\x06", "an empty zip archive", _NPZ),
    (b"PAR1", "a Parquet file", _ARRAY),
    (b"ARROW1", "an Arrow file", _ARRAY),
    (b"\xff\xff\xff\xff", "an Arrow stream", _ARRAY),
    (b"\x89HDF", "an HDF5 file", _ARRAY),
    (b"%PDF-", "a PDF document", _ARRAY),
)
_FIRST = tuple(magic for magic, _, _ in _MAGIC)

# What takes more than a comparison. The first that finds itself is it. A message begins with a small number in four bytes,
# and one that is damaged is to be called nothing else: two of these begin like one, but for the zeros.
_PATTERNS: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "a WebP picture", _PICTURE),
    (re.compile(rb"BM.{4}\0{4}", re.DOTALL), "a BMP picture", _PICTURE),
    (re.compile(rb".{4}ftyp(?:avif|hei[cfx]|mif1)", re.DOTALL), "an AVIF or HEIC picture", _PICTURE),
    (re.compile(rb"RIFF.{4}WAVE", re.DOTALL), "a WAV recording", _ARRAY),
    (re.compile(rb"\x78[\x01\x9c\xda](?!\0\0)"), "compressed by zlib (deflate)", _PLAIN),
    (re.compile(rb"\x80[\x02-\x05](?!\0\0)"), "a pickle", f"nobody unpickles it here; {_ARRAY}"),
    (re.compile(rb".{5}\0{3}\{\s*\"", re.DOTALL), "a safetensors file", _ARRAY),
    (
        re.compile(rb"(?:\r\n)?--[^\r\n]{1,200}\r?\n(?:[^\r\n]+\r?\n)*?Content-Disposition:", re.IGNORECASE),
        "a form in parts (multipart, as curl -F sends it)",
        _FORM,
    ),
    (re.compile(rb"\s*<(?:!doctype|html|head|body)\b", re.IGNORECASE), "an HTML page", _TEXT),
    (re.compile(rb"\s*<\?xml\b"), "XML", _TEXT),
)
# What text has between what is printed.
_BETWEEN = "\r\n\t\f\ufeff"
_BOM = b"\xef\xbb\xbf"
_JSON = re.compile(rb"\s*(?:\{\s*(?:\"|\}|\Z)|\[\s*(?:[\[{\"\]0-9-]|true|false|null|\Z))")
_FORM_FIELDS = re.compile(rb"[A-Za-z0-9_.%+*\[\]-]{1,200}=[\x21-\x7e]*")
# What is in JSON, and whose way of putting it that is.
_JSON_OF = (
    (b'"instances"', "as TF-Serving takes it at /v1/models/NAME:predict"),
    (b'"datatype"', "as Triton and KServe take it at /v2/models/NAME/infer"),
)


class ForeignPath(NamedTuple):
    """A path of another protocol: words about it, and the name of the model that it asks for, or none."""

    words: str
    model: str


def body_words(body: memoryview | bytes) -> str:
    """What a body is that is no message, and how to mend it: one line. Empty if nobody knows what it is."""
    head = bytes(body[:_HEAD_BYTES])
    if not head:
        return (
            f"the body is empty, and a GraphPipe message is expected; send one with: {_SEND.format('x.npy', 'array')}"
        )
    what, how = _found(head, whole=len(body) <= _HEAD_BYTES) or ("", "")
    return f"the body is {what}, not a GraphPipe message, and {_ONLY}; {how}" if what else ""


def _found(head: bytes, *, whole: bool) -> tuple[str, str] | None:
    if head.startswith(_FIRST):
        return next((what, how) for magic, what, how in _MAGIC if head.startswith(magic))
    for pattern, what, how in _PATTERNS:
        if pattern.match(head):
            return what, how
    text = head.removeprefix(_BOM)
    if _JSON.match(text):
        whose = next((f", {whose}" for key, whose in _JSON_OF if key in text), "")
        return f"JSON{whose}", _ROWS
    if _FORM_FIELDS.fullmatch(text):
        return "the fields of a form (as curl -d a=b sends them)", _FORM
    return ("plain text", _TEXT) if _is_text(head, whole=whole) else None


def _is_text(head: bytes, *, whole: bool) -> bool:
    """Whether these bytes are words or numbers to read. A message has a NUL in its first ones, and text has none."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if whole or error.start < len(head) - 3:  # else the cut went through a character
            return False
        text = head[: error.start].decode()
    for char in _BETWEEN:
        text = text.replace(char, "")
    return text.isprintable()


def path_words(parts: tuple[str, ...]) -> ForeignPath | None:
    """Whose path this is, by its segments, and what to do here; None for one that is nobody's known."""
    for matches, whose, here in _PATHS:
        if matches(parts):
            model = parts[2].partition(":")[0] if parts[1:2] == ("models",) and len(parts) > 2 else ""
            return ForeignPath(f"that is a path of {whose}, which this server does not speak: {here}", model)
    return None


_CALLS = f"call with: {_SEND.format('x.npy', 'array')}"
_TF_SERVING, _TRITON = "TF-Serving's REST API", "Triton's and KServe's (v2)"
_Matches = Callable[[tuple[str, ...]], bool]
_PATHS: tuple[tuple[_Matches, str, str], ...] = (
    (lambda parts: parts[:2] == ("v1", "models") and len(parts) > 2, _TF_SERVING, _CALLS),
    (lambda parts: parts[0] == "v1", "another API (v1)", _CALLS),
    (lambda parts: parts[:2] == ("v2", "health"), _TRITON, "ask GET /livez or GET /readyz"),
    (lambda parts: parts in (("v2",), ("v2", "")), _TRITON, "GET /models says what is served"),
    (lambda parts: parts[0] == "v2" and parts[-1] == "ready", _TRITON, "ask GET /readyz?verbose"),
    (lambda parts: parts[0] == "v2", _TRITON, _CALLS),
)
