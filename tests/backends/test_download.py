"""A model at a URL: fetched once, asked after, resumed, and refused where it is no model."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.sources.web import cache_folder, fetch
from tests import onnx_graphs
from tests.serving import environment


class Site:
    """A web server by hand: ``answers`` follow one another, the last one for good; ``requests`` are the heads that came."""

    def __init__(self) -> None:
        self.requests: list[dict[str, str]] = []
        self.answers: list[Callable[[BaseHTTPRequestHandler], None]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
                answer = site.answers.pop(0) if len(site.answers) > 1 else site.answers[0]
                answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = False  # closing it waits for the answers under way
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def site(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    site = Site()
    yield site
    site.server.shutdown()
    site.server.server_close()


@pytest.fixture
def content(tmp_path):
    return onnx_graphs.scaled(tmp_path / "source.onnx", 3.0).read_bytes()


def file(content: bytes, etag: str = '"1"', status: int = 200, **headers: str):
    """Answers with a file, as a web server does that knows ranges and versions."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        if etag and request.headers.get("If-None-Match") == etag:
            request.send_response(304)
            request.end_headers()
            return
        start = 0
        if request.headers.get("If-Range") == etag and (asked := request.headers.get("Range", "")):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        request.send_response(206 if start else status)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        for name, value in {"ETag": etag, "Content-Length": str(len(content) - start), **headers}.items():
            if value:
                request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(content[start:])

    return answer


def broken_off(content: bytes, after: int, etag: str = '"1"'):
    """Promises a file, and hangs up in the middle of it."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("ETag", etag)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content[:after])

    return answer


def part(content: bytes, span: tuple[int, int], total: object = None, **headers: str):
    """Answers every request with a range, whatever was asked for; ``span`` is where it begins and ends, both included."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(206)
        body = content[span[0] : span[1] + 1]
        request.send_header("Content-Range", f"bytes {span[0]}-{span[1]}/{len(content) if total is None else total}")
        for name, value in {"ETag": '"1"', "Content-Length": str(len(body)), **headers}.items():
            if value:
                request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def status(code: int):
    return file(b"no", "", code)


def triples(model) -> bool:
    with model:
        x = np.ones((2, 4), np.float32)
        return bool((model.infer({"x": x})["y"] == 3 * x).all())


def test_a_model_at_a_url_is_loaded_under_the_name_of_its_file(site, content):
    site.answers = [file(content)]
    model = graphpipe.load(f"{site.url}/some/where/tripler%20v2.onnx?token=secret")
    assert model.name == "tripler v2"
    assert triples(model)


def test_the_second_load_only_asks_whether_the_file_still_holds(site, content):
    site.answers = [file(content)]
    for _ in range(2):
        assert triples(graphpipe.load(f"{site.url}/m.onnx"))
    assert site.requests[1]["if-none-match"] == '"1"'


def test_a_new_version_takes_the_place_of_the_old(site, content, tmp_path):
    site.answers = [file(onnx_graphs.scaled(tmp_path / "old.onnx", 2.0).read_bytes(), '"old"')]
    assert not triples(graphpipe.load(f"{site.url}/m.onnx"))
    site.answers = [file(content, '"new"')]
    assert triples(graphpipe.load(f"{site.url}/m.onnx"))


def test_without_an_etag_the_date_of_the_file_serves(site, content):
    site.answers = [file(content, "", Last_Modified="Sat, 21 Nov 2026 09:00:00 GMT")]
    for _ in range(2):
        assert triples(graphpipe.load(f"{site.url}/m.onnx"))
    assert site.requests[1]["if-modified-since"] == "Sat, 21 Nov 2026 09:00:00 GMT"


def test_a_download_that_breaks_off_goes_on_where_it_stopped(site, content):
    site.answers = [broken_off(content, 50), broken_off(content, 50, '"x"'), file(content)]
    site.answers[1] = file(content)
    assert triples(graphpipe.load(f"{site.url}/m.onnx"))
    assert site.requests[1]["range"] == "bytes=50-"
    assert site.requests[1]["if-range"] == '"1"'


def test_a_download_goes_on_at_the_next_load_too(site, content):
    site.answers = [broken_off(content, 50), status(503)]
    with pytest.raises(graphpipe.LoadError, match="503"):
        graphpipe.load(f"{site.url}/m.onnx")
    site.answers = [file(content)]
    assert triples(graphpipe.load(f"{site.url}/m.onnx"))
    assert site.requests[-1]["range"] == "bytes=50-"


def test_a_part_of_another_version_is_thrown_away(site, content):
    site.answers = [broken_off(b"\0" * len(content), 50, '"old"'), file(content, '"new"')]
    assert triples(graphpipe.load(f"{site.url}/m.onnx"))


def test_a_weak_etag_names_no_bytes_to_go_on_from(site, content):
    site.answers = [broken_off(content, 50, 'W/"1"'), file(content, 'W/"1"')]
    assert triples(graphpipe.load(f"{site.url}/m.onnx"))
    assert "range" not in site.requests[1]


def odd_ranges():
    """What servers say to a request for the rest behind byte 50, and what is wrong with it."""
    last = len(CONTENT) - 1
    old = bytes(len(CONTENT))  # of another version
    yield "another version", part(old, (50, last), ETag='"2"')
    yield "no version", part(old, (50, last), ETag="")
    yield "a weak version", part(old, (50, last), ETag='W/"1"')
    yield "a short range", part(CONTENT, (50, last - 10))
    yield "from before", part(CONTENT, (40, last))
    yield "from behind", part(CONTENT, (60, last))
    yield "another total", part(old + b"more", (50, last + 4))
    yield "an end before the total", part(CONTENT, (50, last), total=last + 100)
    yield "an unknown total", part(CONTENT, (50, last), total="*")
    yield "no range", part(CONTENT, (50, last), Content_Range="")
    yield "junk", part(CONTENT, (50, last), total="x")
    yield "a length of its own", part(CONTENT, (50, last), Content_Length=str(len(CONTENT)))
    yield "several ranges", part(CONTENT, (50, last), total="x", Content_Type="multipart/byteranges; boundary=x")
    yield "not satisfiable", status(416)


CONTENT = onnx_graphs.scaled(Path(tempfile.mkdtemp(), "m.onnx"), 3.0).read_bytes()


@pytest.mark.parametrize("odd", [pytest.param(answer, id=name) for name, answer in odd_ranges()])
def test_a_range_that_is_not_the_rest_of_the_same_file_begins_it_anew(site, odd):
    site.answers = [broken_off(CONTENT, 50), odd, file(CONTENT)]
    url = f"{site.url}/m.onnx"
    assert triples(graphpipe.load(url))
    assert fetch(url).read_bytes() == CONTENT
    assert [request.get("range") for request in site.requests[:3]] == [None, "bytes=50-", None]


def test_what_was_asked_for_whole_and_comes_as_a_range_is_not_taken(site):
    site.answers = [part(CONTENT, (0, len(CONTENT) - 20))]
    with pytest.raises(graphpipe.LoadError, match="another range"):
        graphpipe.load(f"{site.url}/m.onnx")


def test_a_rest_that_breaks_off_goes_on_from_there(site):
    def breaks_off_again(request: BaseHTTPRequestHandler) -> None:
        request.send_response(206)
        request.send_header("ETag", '"1"')
        request.send_header("Content-Range", f"bytes 50-{len(CONTENT) - 1}/{len(CONTENT)}")
        request.end_headers()
        request.wfile.write(CONTENT[50:70])

    site.answers = [broken_off(CONTENT, 50), breaks_off_again, file(CONTENT)]
    assert fetch(f"{site.url}/m.onnx").read_bytes() == CONTENT
    assert site.requests[2]["range"] == "bytes=70-"


def test_a_server_that_knows_no_ranges_sends_it_whole(site):
    site.answers = [broken_off(CONTENT, 50), file(CONTENT, "")]
    assert fetch(f"{site.url}/m.onnx").read_bytes() == CONTENT


@pytest.mark.parametrize(("seconds_before", "range_asked"), [(3600, "bytes=50-"), (0, None)])
def test_a_date_names_the_bytes_only_if_the_file_had_lain_still(site, seconds_before, range_asked):
    changed = formatdate(time.time() - seconds_before, usegmt=True)

    def breaks_off(request: BaseHTTPRequestHandler) -> None:
        request.send_response_only(200)
        request.send_header("Date", formatdate(time.time() - 1, usegmt=True) if seconds_before else changed)
        request.send_header("Last-Modified", changed)
        request.send_header("Content-Length", str(len(CONTENT)))
        request.end_headers()
        request.wfile.write(CONTENT[:50])

    site.answers = [breaks_off, file(CONTENT, "", Last_Modified=changed)]
    assert fetch(f"{site.url}/m.onnx").read_bytes() == CONTENT
    assert site.requests[1].get("range") == range_asked


def test_a_note_that_was_written_before_its_first_byte_goes_with_no_older_part(site, monkeypatch):
    """The process ends between the two: what lies there must not be taken for the new version's beginning."""
    site.answers = [broken_off(bytes(len(CONTENT)), 50, '"old"'), status(503)]
    with pytest.raises(graphpipe.LoadError, match="503"):
        fetch(f"{site.url}/m.onnx")
    real = Path.open

    def full(path: Path, *args, **kwargs):
        if path.name.endswith(".part") and args[:1] in (("ab",), ("wb",)):
            raise OSError(28, "No space left on device")
        return real(path, *args, **kwargs)

    site.answers = [file(CONTENT)]
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.raises(graphpipe.LoadError, match="No space left"):
            fetch(f"{site.url}/m.onnx")
    assert fetch(f"{site.url}/m.onnx").read_bytes() == CONTENT


def test_processes_that_fetch_one_file_at_once_get_it_whole(site):
    site.answers = [broken_off(CONTENT, 50), file(CONTENT)]
    code = "import sys; from graphpipe.sources.web import fetch; print(len(fetch(sys.argv[1]).read_bytes()))"
    command = [sys.executable, "-c", code, f"{site.url}/m.onnx"]
    more = {"XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"], "no_proxy": "127.0.0.1"}
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(**more)) for _ in range(3)]
    assert [int(process.communicate(timeout=60)[0]) for process in processes] == [len(CONTENT)] * 3
    assert len([request for request in site.requests if "if-none-match" not in request]) == 2


def test_a_file_that_never_comes_whole_is_said_to_be_truncated(site, content):
    site.answers = [broken_off(content, 50)]
    with pytest.raises(graphpipe.LoadError, match=r"ended after 50 of \d+ bytes"):
        graphpipe.load(f"{site.url}/m.onnx")


def test_the_digest_is_checked_and_spares_the_next_question(site, content):
    site.answers = [file(content)]
    right, wrong = hashlib.sha256(content).hexdigest(), "0" * 64
    with pytest.raises(graphpipe.LoadError, match=f"its sha256 is {right}, but --model-sha256 says {wrong}"):
        graphpipe.load(f"{site.url}/m.onnx", model_sha256=wrong)
    for _ in range(2):
        assert triples(graphpipe.load(f"{site.url}/m.onnx", model_sha256=right.upper()))
    assert len(site.requests) == 2
    # The file that is here is not the one that is wanted now.
    with pytest.raises(graphpipe.LoadError, match="its sha256 is"):
        graphpipe.load(f"{site.url}/m.onnx", model_sha256=wrong)


def test_the_digest_of_a_local_file_is_checked_too(tmp_path, content):
    right = hashlib.sha256(content).hexdigest()
    assert triples(graphpipe.load(tmp_path / "source.onnx", model_sha256=right))
    with pytest.raises(graphpipe.LoadError, match="its sha256 is"):
        graphpipe.load(tmp_path / "source.onnx", model_sha256="0" * 64)
    with pytest.raises(graphpipe.LoadError, match="models that are one file"):
        graphpipe.load("echo", model_sha256=right)


def test_too_large_a_file_is_not_begun_or_not_finished(site, content):
    site.answers = [file(content)]
    with pytest.raises(graphpipe.LoadError, match=r"at most 100 B are taken \(--download-bytes-max\)"):
        graphpipe.load(f"{site.url}/m.onnx", download_bytes_max=100)
    site.answers = [file(content, Content_Length="")]
    with pytest.raises(graphpipe.LoadError, match="at most 100 B are taken"):
        graphpipe.load(f"{site.url}/m.onnx", download_bytes_max=100)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (status(404), "404 Not Found"),
        (status(403), "403 Forbidden"),
        (file(b"<!DOCTYPE html><html>", Content_Type="text/html"), "a web page, not a model; use the link"),
        (file(b"\n<html><body>", Content_Type="application/octet-stream"), "a web page, not a model"),
        (file(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"), "a Git LFS pointer, not a model"),
        (file(b""), "the file is empty"),
        (file(b"gzip", Content_Encoding="gzip"), "compressed"),
        (file(b"neither this nor that"), "is no whole ONNX file"),
        (
            file(b"", status=302, Location="ftp://example.org/m"),
            "redirects to ftp://example.org/m, which is not followed",
        ),
        (
            file(b"", status=302, Location="file:///etc/passwd"),
            "redirects to file:///etc/passwd, which is not followed",
        ),
        (file(b"", status=307, Location=""), "redirects without saying where to"),
        (file(b"", status=301, Location="http://[::1"), "redirects to 'http://.*, which is no URL"),
        (file(b"", status=301, Location="http://h:port/"), "redirects to 'http://h:port/', which is no URL"),
        (file(b"", status=308, Location="http://me:secret@h/"), "a user name in it, which is not followed"),
        (file(b"", status=302, Location="/m.onnx?key=secret"), "redirects in a circle, or too often"),
        (file(b"", status=303, Location="?again"), "redirects in a circle, or too often"),
        (file(b"x", "", 202), "the server answered 202 Accepted"),
        (file(b"", "", 204), "the server answered 204"),
        (file(b"", "", 304), "the server answered 304 Not Modified"),
    ],
)
def test_what_is_no_model_is_told_apart(site, answer, message):
    site.answers = [answer]
    with pytest.raises(graphpipe.LoadError, match=message) as error:
        graphpipe.load(f"{site.url}/m.onnx?key=secret")
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_redirect_is_followed(site, content):
    site.answers = [file(b"", status=302, Location="/elsewhere/m.onnx"), file(content)]
    assert triples(graphpipe.load(f"{site.url}/m.onnx"))


def test_nobody_there_is_said_and_an_earlier_download_used(site, content, caplog):
    site.answers = [file(content)]
    url = f"{site.url}/m.onnx"
    assert triples(graphpipe.load(url))
    site.server.shutdown()
    site.server.server_close()
    assert triples(graphpipe.load(url))
    assert "the file of an earlier download is used" in caplog.text
    with pytest.raises(graphpipe.LoadError, match="no connection"):
        graphpipe.load(f"{site.url}/other.onnx")


def test_downloads_go_through_the_proxy_that_the_environment_names(site, content, monkeypatch):
    site.answers = [file(content)]
    monkeypatch.setenv("http_proxy", site.url)
    monkeypatch.delenv("no_proxy")
    assert triples(graphpipe.load("http://models.invalid/m.onnx"))
    assert site.requests[0]["path"] == "http://models.invalid/m.onnx"


def test_download_in_front_makes_any_url_a_file_and_remote_any_a_server(site, content, serve):
    site.answers = [file(content)]
    assert triples(graphpipe.load(f"download:{site.url}/model.onnx"))
    with pytest.raises(graphpipe.LoadError, match="not a kind of model"):
        graphpipe.load(f"download:{site.url}/models/latest")
    server = serve("-m", "m.onnx=echo")
    with graphpipe.load(f"remote:{server.url}/models/m.onnx") as model:
        assert [output.shape for output in model.infer({"x": np.ones(2)}).values()] == [(2,)]


def test_many_at_once_fetch_it_once(site, content):
    site.answers = [file(content)]
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(triples(graphpipe.load(f"{site.url}/m.onnx")))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4
    assert len([request for request in site.requests if "if-none-match" not in request]) == 1


def test_a_server_serves_a_model_at_a_url(site, content, serve):
    site.answers = [file(content)]
    server = serve("-m", f"{site.url}/tripler.onnx", "--model-sha256", hashlib.sha256(content).hexdigest(),
                   env={"XDG_CACHE_HOME": str(cache_folder().parents[1])})  # fmt: skip
    x = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(graphpipe.remote.execute(f"{server.url}/models/tripler", x), 3 * x)


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive_is_unpacked_and_what_it_holds_is_the_model(site, content, tmp_path, kind):
    (tmp_path / "in" / "folder").mkdir(parents=True)
    (tmp_path / "in" / "folder" / "m.onnx").write_bytes(content)
    form = {"tar.gz": "gztar", "zip": "zip"}[kind]
    archive = shutil.make_archive(str(tmp_path / "archive"), form, tmp_path / "in" / "folder")
    site.answers = [file(Path(archive).read_bytes())]
    for _ in range(2):
        model = graphpipe.load(f"{site.url}/tripler.{kind}")
        assert model.name == "tripler"
        assert triples(model)
    site.answers = [file(b"no archive at all")]
    with pytest.raises(graphpipe.LoadError, match="cannot be unpacked"):
        graphpipe.load(f"{site.url}/third.{kind}")


def test_an_archive_writes_nothing_outside_its_folder(site, tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.add(__file__, "../../evil.onnx")
    site.answers = [file((tmp_path / "evil.tar").read_bytes())]
    with pytest.raises(graphpipe.LoadError, match="cannot be unpacked"):
        graphpipe.load(f"{site.url}/evil.tar")


def zipped(*files: tuple[str, bytes], **options) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return packed.getvalue()


def encrypted(*files: tuple[str, bytes]) -> bytes:
    """As zip tools mark what has a password: in each member's head, and in the directory."""
    packed = bytearray(zipped(*files))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(mark) + place] |= 1
    return bytes(packed)


def tarred(*members: tuple[str, bytes] | tarfile.TarInfo, mode: str = "w:gz") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member, io.BytesIO(bytes(min(member.size, 1 << 20))))
                continue
            head = tarfile.TarInfo(member[0])
            head.size = len(member[1])
            archive.addfile(head, io.BytesIO(member[1]))
    return packed.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    head = tarfile.TarInfo(name)
    head.type, head.linkname = kind, target
    return head


def flipped(packed: bytes, place: int) -> bytes:
    return packed[:place] + bytes([packed[place] ^ 0xFF]) + packed[place + 1 :]


NOISE = np.random.default_rng(0).bytes(5000)
ARCHIVES = {
    "a truncated zip": ("zip", zipped(("m.onnx", NOISE))[:-30], "not a zip file"),
    "a damaged zip": ("zip", flipped(zipped(("m.onnx", NOISE)), 2000), "."),
    "an encrypted zip": ("zip", encrypted(("m.onnx", NOISE)), "it is encrypted"),
    "a zip that leads out": ("zip", zipped(("../../evil.onnx", b"x")), "'../../evil.onnx' leads out"),
    "a zip with an absolute path": ("zip", zipped(("/tmp/evil.onnx", b"x")), "leads out of its folder"),
    "a zip with backslashes": ("zip", zipped(("a\\..\\..\\evil", b"x")), "leads out of its folder"),
    "an empty zip": ("zip", zipped(), "it holds no file"),
    "a tar of one name twice": ("tar", tarred(("a", b"1"), ("./a", b"2"), mode="w"), "holds './a' twice"),
    "a truncated tar.gz": ("tar.gz", tarred(("m.onnx", NOISE))[:-1000], "."),
    "a tar.gz without its checksum": ("tar.gz", tarred(("m.onnx", NOISE))[:-8], "."),
    "a damaged tar.gz": ("tar.gz", flipped(tarred(("m.onnx", NOISE)), 2500), "."),
    "a tar.gz of another checksum": ("tar.gz", flipped(tarred(("m.onnx", NOISE)), -6), "."),
    "a truncated tar": ("tar", tarred(("m.onnx", NOISE), mode="w")[:3000], "."),
    "a tar with a device": ("tar", tarred(special("null", tarfile.CHRTYPE), ("a", b"1"), mode="w"), "null"),
    "a tar with a pipe": ("tar", tarred(special("pipe", tarfile.FIFOTYPE), ("a", b"1"), mode="w"), "pipe"),
    "a tar with a link out": ("tar", tarred(special("l", tarfile.SYMTYPE, "/etc"), ("a", b"1"), mode="w"), "."),
    "a tar with a hard link out": ("tar", tarred(special("l", tarfile.LNKTYPE, "../x"), mode="w"), "."),
    "an empty tar": ("tar", tarred(mode="w"), "it holds no file"),
    "a file where a folder is": ("tar", tarred(("a", b"1"), ("a/b", b"2"), mode="w"), "."),
}


def unusable(packed: bytes, kind: str, site, message: str) -> None:
    site.answers = [file(packed)]
    url = f"{site.url}/m.{kind}"
    with pytest.raises(graphpipe.LoadError, match=message) as error:
        fetch(url, bytes_max=1 << 20)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"m.{kind}: ")
    assert {place.name for place in cache_folder().rglob("*") if place.is_file()} == {"lock"}


@pytest.mark.parametrize(("kind", "packed", "message"), ARCHIVES.values(), ids=ARCHIVES)
def test_an_archive_that_cannot_be_used_is_said_in_one_line_and_leaves_nothing_behind(site, kind, packed, message):
    unusable(packed, kind, site, f"cannot be unpacked: .*{message}")


def test_an_archive_that_was_damaged_is_fetched_again_and_used_when_it_is_mended(site):
    url = f"{site.url}/m.zip"
    site.answers = [file(zipped(("m.onnx", CONTENT))[:-30], '"1"')]
    with pytest.raises(graphpipe.LoadError, match="cannot be unpacked"):
        graphpipe.load(url)
    site.answers = [file(zipped(("m.onnx", CONTENT)), '"1"')]
    assert triples(graphpipe.load(url))


@pytest.mark.slow
def test_an_archive_that_grows_without_end_is_not_unpacked(site):
    zeros = bytes(2 << 20)
    unusable(zipped(("m", zeros)), "zip", site, "at most 1048576 are unpacked")
    unusable(tarred(("m", zeros)), "tgz", site, "at most 1048576 are unpacked")
    unusable(gzip.compress(b"".join(heads(100_001)), 1), "tgz", site, "more than 100000 files")


def heads(count: int) -> Iterator[bytes]:
    """A tar of so many empty files: one head with another name and checksum each, far quicker than tarfile writes them."""
    head = bytearray(tarfile.TarInfo("000000").tobuf(tarfile.USTAR_FORMAT))
    without_name = int(head[148:154], 8) - sum(head[:6])
    for number in range(count):
        head[:6] = name = b"%06d" % number
        head[148:154] = b"%06o" % (without_name + sum(name))
        yield bytes(head)
    yield bytes(1024)


def test_a_cache_folder_that_cannot_be_written_is_named(site, content, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    site.answers = [file(content)]
    with pytest.raises(graphpipe.LoadError, match="XDG_CACHE_HOME chooses another place"):
        graphpipe.load(f"{site.url}/m.onnx")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("download:ftp://example.org/m.onnx", "expected http"),
        ("http://[::1/m.onnx", "cannot be downloaded: Invalid IPv6 URL"),
        ("download:http://[::1/m.onnx", "cannot be downloaded: Invalid IPv6 URL"),
        ("http://127.0.0.1:port/m.onnx", "nonnumeric port"),
        ("https://user:password@example.org/m.onnx", "user name"),
    ],
)
def test_urls_that_are_not_fetched(url, message):
    with pytest.raises(graphpipe.LoadError, match=message) as error:
        graphpipe.load(url)
    assert "password" not in str(error.value)
