"""Models at a URL: ``https://host/model.onnx`` is fetched into the user's cache folder, and loaded from there.

A URL whose path ends like a model's file is such a model; any other is a server's (``remote``). ``download:`` and
``remote:`` in front decide by hand.

Each URL has a folder in the cache: the file, a note of what the server called this version of it (its ETag), and while
a download is under way, its part. The next load asks the server only whether that version still holds. A download that
breaks off goes on where it stopped, now or at the next load, if the server still has the same version; a file is in its
place whole or not at all. Processes that want the same file wait for the one that fetches it.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import logging
import os
import re
import ssl
import string
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from graphpipe.errors import LoadError
from graphpipe.progress import Progress, readable_bytes
from graphpipe.sources.archive import is_archive, unpacked
from graphpipe.sources.pace import Pace
from graphpipe.sources.reach import OutOfReach, Reach
from graphpipe.version import __version__

__all__ = ["cache_folder", "check_sha256", "fetch", "file_name", "is_model_url"]

log = logging.getLogger("graphpipe.download")

# A URL that ends like this is a file to be had from there.
_MODEL_FILE = re.compile(
    r"\.(onnx|ort|pb|pbtxt|keras|h5|hdf5|pt|pth|pt2|torchscript|ts|zip|tar|tgz|tar\.gz)$",
    re.IGNORECASE,
)
_PIECE_BYTES = 1 << 20
# For each wait on the server, not for the whole.
_WAIT_S = 30
# How long before an answer its file must have last changed, so that the date names its bytes.
_STILL = timedelta(seconds=1)
_ATTEMPTS_MAX = 5


def is_model_url(source: str) -> bool:
    """Whether a source is a file to be downloaded."""
    if source.startswith("download:"):
        return True
    return source.startswith(("http://", "https://")) and _MODEL_FILE.search(_path(source)) is not None


def file_name(source: str) -> str:
    """The name of the file that a model's URL leads to, without its ending."""
    name = unquote(_path(source.removeprefix("download:"))).rpartition("/")[2]
    return _MODEL_FILE.sub("", name) or "model"


def fetch(
    url: str,
    sha256: str = "",
    bytes_max: int = 1 << 62,
    bound: str = "--download-bytes-max",
    *,
    timeout_s: float = 3600.0,
    anywhere: bool = False,
) -> Path:
    """The file at ``url``, on this machine; the folder, where the file is an archive.

    ``sha256`` is what it must have; with it, a file that is here already is not asked for again. More than
    ``bytes_max`` are not taken: ``bound`` is what says so. ``anywhere`` lets redirects lead to private addresses.

    Raises LoadError if it is not to be had, or is not what was asked for.
    """
    url = url.removeprefix("download:")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise LoadError(f"{_shown(url)}: cannot be downloaded: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LoadError(f"{_shown(url)}: cannot be downloaded; expected http://... or https://...")
    if parts.username is not None:
        raise LoadError("the URL of the model has a user name in it, which is not sent; leave it out")
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise LoadError(f"--model-sha256 is 64 hexadecimal digits; {sha256!r} came")
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", unquote(parts.path).rpartition("/")[2]).lstrip(".") or "model"
    slot = _Slot(cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:24], name)
    try:
        slot.folder.mkdir(parents=True, exist_ok=True)
        with _locked(slot.folder / "lock"):
            file = _Download(url, slot, sha256.lower(), bytes_max, bound, timeout_s, Reach(anywhere)).file()
            if not is_archive(file):
                return file
            try:
                return unpacked(file, bytes_max)
            except LoadError:
                # The next load fetches it again: it may have been mended, or was damaged here.
                slot.forget()
                raise
    except OSError as error:
        reason = f"cannot be kept in {slot.folder}: {error.strerror or error}"
        raise LoadError(f"{_shown(url)}: {reason}; XDG_CACHE_HOME chooses another place") from None


def check_sha256(source: str, sha256: str) -> None:
    """Raise LoadError unless the file that a source is has this digest."""
    try:
        with open(source, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LoadError(f"{source}: --model-sha256 is for models that are one file: {error.strerror}") from None
    if digest != sha256.lower():
        raise LoadError(f"{source}: its sha256 is {digest}, but --model-sha256 says {sha256.lower()}")


def cache_folder() -> Path:
    """Where downloaded models are kept. Raises LoadError if there is no place for them."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if base.startswith("~"):
        raise LoadError(
            "this user has no home folder to keep downloaded models in; name a folder: XDG_CACHE_HOME=FOLDER"
        )
    return Path(base, "graphpipe", "models")


@dataclass(frozen=True, slots=True)
class _Note:
    """What a server said of the file that it sent: enough to ask whether it is still the same."""

    url: str
    etag: str = ""
    last_modified: str = ""
    date: str = ""
    total: int | None = None
    sha256: str = ""

    @classmethod
    def of(cls, url: str, headers: Message, total: int | None) -> _Note:
        """What the head of an answer with the whole file says."""
        return cls(url, headers.get("ETag", ""), headers.get("Last-Modified", ""), headers.get("Date", ""), total)

    @classmethod
    def read(cls, path: Path) -> _Note | None:
        """The note in a file, or None if there is none that can be read."""
        try:
            return cls(**json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Put the note in its place as a whole."""
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(asdict(self), indent=1), "utf-8")
        beside.replace(path)

    @property
    def strong(self) -> str:
        """What names exactly these bytes, fit for If-Range; empty if there is nothing.

        A date does only if the file had lain still by then: within its second it may have changed once more.
        """
        if self.etag:
            return "" if self.etag.startswith("W/") else self.etag
        try:
            age = parsedate_to_datetime(self.date) - parsedate_to_datetime(self.last_modified)
        except (ValueError, TypeError):
            return ""
        return self.last_modified if age >= _STILL else ""

    def goes_on(self, headers: Message, have: int) -> bool:
        """Whether the answer with these headers is the rest of this file, all of it, behind ``have`` bytes."""
        validator = headers.get("ETag" if self.etag else "Last-Modified", "")
        span = re.fullmatch(r"\s*bytes\s+(\d+)-(\d+)/(\d+)\s*", headers.get("Content-Range", ""))
        if span is None or not self.strong or validator != self.strong:
            return False
        first, last, total = map(int, span.groups())
        length = headers.get("Content-Length", "")
        return (
            first == have
            and last == total - 1
            and self.total in (None, total)
            and (not length or length == str(total - have))
        )


@dataclass(frozen=True, slots=True)
class _Slot:
    """The places of one URL in the cache."""

    folder: Path
    name: str

    @property
    def file(self) -> Path:
        return self.folder / self.name

    @property
    def note(self) -> Path:
        return self.folder / "note.json"

    @property
    def part(self) -> Path:
        return self.folder / f"{self.name}.part"

    @property
    def part_note(self) -> Path:
        return self.folder / "part.json"

    def forget(self) -> None:
        """Remove the file, so that the next load fetches it anew."""
        self.note.unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)


class _Broken(Exception):
    """The connection ended before the file did; another attempt may go on from there."""


class _Download:
    """One file on its way here."""

    def __init__(
        self, url: str, slot: _Slot, sha256: str, bytes_max: int, bound: str, timeout_s: float, reach: Reach
    ) -> None:
        self._url = url
        self._slot = slot
        self._sha256 = sha256
        self._bytes_max = bytes_max
        self._bound = bound
        self._until = time.monotonic() + timeout_s
        self._reach = reach
        # And proxies as the environment names them; no files, no FTP, no data in the URL itself.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _Redirects(reach),
            *reach.handlers(),
        ):
            self._opener.add_handler(handler)

    def file(self) -> Path:
        """The file: the one that is here, if the server says that it still holds, or a new one."""
        slot = self._slot
        note = _Note.read(slot.note) if slot.file.is_file() else None
        if note is not None and self._sha256 and note.sha256 == self._sha256:
            return slot.file
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            pace = Pace(self._reach.cut, self._until)
            try:
                with pace:
                    return self._attempt(note, pace)
            except _Broken as caught:
                error = _Broken(pace.said) if pace.said else caught
                if pace.is_over:
                    raise LoadError(f"{_shown(self._url)}: {error}") from None
                if attempt == _ATTEMPTS_MAX:
                    if note is not None and not self._sha256:
                        log.warning("%s: %s; the file of an earlier download is used", _shown(self._url), error)
                        return slot.file
                    raise LoadError(f"{_shown(self._url)}: {error}") from None
            finally:
                self._reach.let_go()
        raise AssertionError

    def _attempt(self, note: _Note | None, pace: Pace) -> Path:
        part_note = _Note.read(self._slot.part_note)
        have = self._slot.part.stat().st_size if self._slot.part.is_file() else 0
        resuming = bool(have and part_note is not None and part_note.strong)
        headers: dict[str, str] = {}
        if resuming and part_note is not None:
            headers |= {"Range": f"bytes={have}-", "If-Range": part_note.strong}
        elif note is not None and (note.etag or note.last_modified):
            headers |= {"If-None-Match": note.etag} if note.etag else {"If-Modified-Since": note.last_modified}
        answer = self._ask(headers)
        if answer is None:
            return self._still_holds()
        with answer:
            if answer.status in (200, 203):
                have, part_note = 0, None
            elif answer.status != 206:
                raise LoadError(f"{_shown(self._url)}: the server answered {answer.status} {_line(answer.reason)}")
            elif not resuming or part_note is None or not part_note.goes_on(answer.headers, have):
                self._forget_part()
                raise _Broken("the server sent another range, or of another version, than was asked for")
            self._take(answer, have, part_note, pace)
        return self._put_in_place()

    def _ask(self, headers: Mapping[str, str]) -> Any:
        """The server's answer, or None where it says that the file here still holds."""
        headers = {"User-Agent": f"graphpipe/{__version__}", "Accept-Encoding": "identity", **headers}
        request = urllib.request.Request(quote(self._url, safe=string.punctuation), headers=headers)
        self._reach.redirected = False
        try:
            return self._opener.open(request, timeout=_WAIT_S)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 304 and {"If-None-Match", "If-Modified-Since"} & headers.keys():
                    return None
                if error.code == 416:
                    self._forget_part()
                    raise _Broken("the server no longer has the file that was being downloaded") from None
                if error.code in (429, 500, 502, 503, 504):
                    raise _Broken(f"the server answered {error.code} {_line(error.reason)}") from None
                if error.code in (301, 302, 303, 307, 308):
                    raise LoadError(f"{_shown(self._url)}: redirects in a circle, or too often") from None
                raise LoadError(
                    f"{_shown(self._url)}: the server answered {error.code} {_line(error.reason)}"
                ) from None
        except urllib.error.URLError as error:
            raise _Broken(f"no connection: {_line(error.reason)}") from None
        except OutOfReach as error:
            raise LoadError(f"{_shown(self._url)}: {error}") from None
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(f"no answer: {_said(error)}") from None

    def _still_holds(self) -> Path:
        note = _Note.read(self._slot.note)
        if self._sha256 and note is not None and note.sha256 != self._sha256:
            raise LoadError(self._wrong_digest(note.sha256))
        return self._slot.file

    def _take(self, answer: Any, have: int, note: _Note | None, pace: Pace) -> None:
        """Receive the body behind the ``have`` bytes of it that are here already, which ``note`` is about."""
        headers: Message = answer.headers
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise LoadError(f"{_shown(self._url)}: the server sends it compressed, which was not asked for")
        # A range says how long the whole is, whether or not it says how long it is itself.
        said = (
            headers.get("Content-Length", "") if note is None else headers["Content-Range"].rpartition("/")[2].strip()
        )
        total = int(said) if said.isdigit() else None
        if total is not None and total > self._bytes_max:
            raise LoadError(self._too_large(total))
        if headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise LoadError(self._no_model("a web page"))
        if note is None:
            # In this order, whenever it ends in between: a part without a note is begun anew, and never is there a note
            # of one version beside the part of another.
            self._slot.part.unlink(missing_ok=True)
            _Note.of(self._url, headers, total).write(self._slot.part_note)
        try:
            with self._slot.part.open("ab" if have else "wb") as file, Progress(self._slot.name) as progress:
                self._receive(answer, file, have, total, progress, pace)
        except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
            raise _Broken(f"the download broke off: {_said(error)}") from None

    def _receive(
        self, answer: Any, file: IO[bytes], done: int, total: int | None, progress: Progress, pace: Pace
    ) -> None:
        # What has come, and not only when there is a piece full of it: a minute's count is at stake.
        while (total is None or done < total) and (piece := answer.read1(_PIECE_BYTES)):
            if not done and (what := _no_model_at_all(piece)):
                raise LoadError(self._no_model(what))
            done += len(piece)
            if done > self._bytes_max:
                raise LoadError(self._too_large(done))
            file.write(piece)
            pace.done += len(piece)
            progress.update(done, total)
        if pace.said:
            raise _Broken(pace.said)  # the end that was read is that of the connection, not of the file
        if total is not None and done < total:
            raise _Broken(f"the download ended after {done} of {total} bytes")
        if not done:
            raise LoadError(f"{_shown(self._url)}: the file is empty")
        file.flush()
        os.fsync(file.fileno())

    def _put_in_place(self) -> Path:
        slot = self._slot
        with slot.part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if self._sha256 and digest != self._sha256:
            self._forget_part()
            raise LoadError(self._wrong_digest(digest))
        note = _Note.read(slot.part_note) or _Note(self._url)
        slot.note.unlink(missing_ok=True)  # never a note beside another version's file
        slot.part.replace(slot.file)
        replace(note, sha256=digest).write(slot.note)
        slot.part_note.unlink(missing_ok=True)
        return slot.file

    def _forget_part(self) -> None:
        self._slot.part.unlink(missing_ok=True)
        self._slot.part_note.unlink(missing_ok=True)

    def _too_large(self, count: int) -> str:
        return (
            f"{_shown(self._url)}: {readable_bytes(count)} or more; at most {readable_bytes(self._bytes_max)} are taken "
            f"({self._bound})"
        )

    def _no_model(self, what: str) -> str:
        page = "use the link to the file itself ('raw' or 'download')"
        hint = page if what == "a web page" else "fetch the file itself"
        return f"{_shown(self._url)}: this is {what}, not a model; {hint}"

    def _wrong_digest(self, digest: str) -> str:
        return f"{_shown(self._url)}: its sha256 is {digest}, but --model-sha256 says {self._sha256}"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never out of https, and nowhere but to http."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage
    ) -> Any:
        """The answer to the request that is sent instead. Raises LoadError where none can be."""
        if problem := _not_followed(req.full_url, headers.get("Location") or headers.get("URI")):
            fp.close()
            raise LoadError(f"{_shown(req.full_url)}: redirects {problem}")
        self._reach.redirected = True
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _not_followed(url: str, location: str | None) -> str:
    """Why a redirect is not followed; empty if it is."""
    if not location:
        return "without saying where to"
    try:
        to = urlsplit(urljoin(url, location))
        _ = to.port
    except ValueError:
        return f"to {_line(_shown(location))!r}, which is no URL"
    if to.username is not None:
        return "to a URL with a user name in it, which is not followed"
    downgraded = to.scheme == "http" and urlsplit(url).scheme == "https"
    if to.scheme not in ("http", "https") or not to.hostname or downgraded:
        return f"to {_line(_shown(location))}, which is not followed"
    return ""


def _no_model_at_all(first: bytes) -> str:
    """What a file that begins like this is instead of a model; empty where it may be one."""
    start = first[:200].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    return ""


def _said(error: Exception) -> str:
    return _line(error) or type(error).__name__


def _line(words: object) -> str:
    """What a server, or a library, says, fit for one line."""
    return " ".join(str(words).split())[:200]


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:  # not a URL, which fetch says
        return url.partition("?")[0]


def _shown(url: str) -> str:
    """A URL for messages and logs: what is behind the question mark may be a key."""
    return url.partition("?")[0]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Have a file's lock; wait for whoever has it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
