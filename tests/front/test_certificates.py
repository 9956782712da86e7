"""TLS on both event loops: certificates that are replaced, callers who have to show one, versions that are too old."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
import uvloop

import graphpipe
from graphpipe.errors import Unreachable
from graphpipe.server.http.tls import caller_in
from graphpipe.server.life.certificates import Certificates
from graphpipe.server.life.listener import BindError
from graphpipe.wire import encode_request
from tests.certificates import Files, chain_of, of, served, trusting
from tests.front.servers import InProcess, in_process
from tests.operation.conftest import until
from tests.raw_http import Wire, connect

X = np.arange(3, dtype=np.float32)
AUTHORITY = trustme.CA()
OTHERS = trustme.CA(key_type=trustme.KeyType.RSA)


@pytest.fixture(scope="module", params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def loop_factory(request: pytest.FixtureRequest) -> Any:
    return request.param


class Reloading:
    """A server, and the files that it is to look at."""

    def __init__(self, server: InProcess, files: Files, certificates: Certificates) -> None:
        self.server = server
        self.url = server.url
        self.files = files
        self.certificates = certificates

    def serves(self, leaf: trustme.LeafCert) -> bool:
        return served(self.url) == of(leaf)

    def looks(self, times: int) -> None:
        """Have the server look at its files so often."""
        for _ in range(times):
            self.server.ask(self.certificates.look)
            idle(self.certificates)


@pytest.fixture
def reloading(loop_factory: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Reloading]:
    caplog.set_level(logging.INFO)
    files = Files(tmp_path / "tls")
    files.in_place(AUTHORITY.issue_cert("127.0.0.1"))
    certificates = Certificates(str(files.cert), str(files.key))
    with in_process(loop_factory=loop_factory, tls=certificates.context, access_lines_per_s=10_000) as server:
        yield Reloading(server, files, certificates)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "graphpipe.server.life"]


def test_a_new_pair_is_for_new_connections_and_old_ones_go_on(
    reloading: Reloading, caplog: pytest.LogCaptureFixture
) -> None:
    reloading.server.app.looks.append(reloading.certificates.look)  # as every server does
    with graphpipe.Client(reloading.url, tls=trusting(AUTHORITY)) as client:
        client.execute(X)
        # Of the other kind of key: a context that was loaded twice would go on with the old one for some.
        leaf = AUTHORITY.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)
        reloading.files.rename(leaf)
        until(lambda: reloading.serves(leaf))
        client.execute(X)
    assert len({record.access.peer for record in caplog.records if record.name == "graphpipe.access"}) == 1  # type: ignore[attr-defined]
    files = reloading.files
    assert said(caplog) == [f"new connections have the certificate that is now in {files.cert} and {files.key}"]


def test_half_of_a_pair_is_waited_for_and_not_a_word_is_said(
    reloading: Reloading, caplog: pytest.LogCaptureFixture
) -> None:
    before, leaf = served(reloading.url), AUTHORITY.issue_cert("127.0.0.1")
    whole = chain_of(leaf)
    reloading.files.cert.write_bytes(whole[:-100])
    reloading.looks(4)
    assert served(reloading.url) == before
    reloading.files.cert.write_bytes(whole)
    reloading.looks(4)
    assert served(reloading.url) == before  # its key is yet to come
    reloading.files.key.write_bytes(leaf.private_key_pem.bytes())
    reloading.looks(2)
    assert reloading.serves(leaf)
    assert len(said(caplog)) == 1


def wrong(kind: str, files: Files) -> str:
    """Put something there that is of no use, and give the words for it."""
    if kind == "key":
        files.key.write_bytes(AUTHORITY.issue_cert("127.0.0.1").private_key_pem.bytes())
        return "the key is not the certificate's"
    if kind == "expired":
        files.in_place(AUTHORITY.issue_cert("127.0.0.1", not_after=datetime.now(UTC) - timedelta(hours=1)))
        return "its certificate has expired"
    if kind == "early":
        later = datetime.now(UTC) + timedelta(hours=1)
        files.in_place(AUTHORITY.issue_cert("127.0.0.1", not_before=later))
        return "its certificate is not valid yet"
    if kind == "cut":
        files.cert.write_bytes(files.cert.read_bytes()[:-100])
        return "PEM lib"
    if kind == "encrypted":
        from cryptography.hazmat.primitives import serialization as to

        leaf = AUTHORITY.issue_cert("127.0.0.1")
        key = to.load_pem_private_key(leaf.private_key_pem.bytes(), None)
        files.in_place(leaf)
        files.key.write_bytes(
            key.private_bytes(to.Encoding.PEM, to.PrivateFormat.PKCS8, to.BestAvailableEncryption(b"secret"))
        )
        return "the key is encrypted"
    if kind == "pipe":
        files.key.unlink()
        os.mkfifo(files.key)
        return "it is no file"
    files.key.unlink()
    return "No such file"


@pytest.mark.parametrize("kind", ["key", "expired", "early", "cut", "encrypted", "pipe", "gone"])
def test_what_cannot_be_used_leaves_the_certificate_before_and_is_said_once(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    files = Files(tmp_path)
    files.in_place(AUTHORITY.issue_cert("127.0.0.1"))
    certificates = Certificates(str(files.cert), str(files.key))
    current = certificates.context.current
    words = wrong(kind, files)
    if kind == "pipe":
        certificates.reload()
        idle(certificates)
    for _ in range(200):
        certificates.look()
        idle(certificates)
    assert certificates.context.current is current
    (line,) = said(caplog)
    assert words in line
    assert str(files.cert) in line
    assert line.endswith("; the certificate before it stays")
    assert "\n" not in line
    certificates.reload()  # who asks is not told again either: it is what was said
    idle(certificates)
    if kind != "pipe":
        files.rename(AUTHORITY.issue_cert("127.0.0.1"))
        for _ in range(3):
            certificates.look()
            idle(certificates)
        assert certificates.context.current is not current


def idle(certificates: Certificates) -> None:
    with certificates._reading:
        pass


@pytest.mark.parametrize("kind", ["key", "cut", "encrypted", "gone"])
def test_a_server_does_not_start_with_what_cannot_be_used(tmp_path: Path, kind: str) -> None:
    files = Files(tmp_path)
    files.in_place(AUTHORITY.issue_cert("127.0.0.1"))
    words = wrong(kind, files)
    with pytest.raises(BindError, match=f"cannot use {files.cert} and {files.key} for TLS: .*{words}"):
        Certificates(str(files.cert), str(files.key))


def test_a_server_starts_with_a_certificate_that_has_expired_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = Files(tmp_path)
    wrong("expired", files)
    Certificates(str(files.cert), str(files.key))
    assert said(caplog) == [f"{files.cert}: its certificate has expired; callers will refuse it"]


def test_a_certificate_that_becomes_valid_is_taken_then(tmp_path: Path) -> None:
    """Nobody touches the files again."""
    files = Files(tmp_path)
    files.in_place(AUTHORITY.issue_cert("127.0.0.1"))
    certificates = Certificates(str(files.cert), str(files.key))
    current = certificates.context.current
    leaf = AUTHORITY.issue_cert("127.0.0.1", not_before=datetime.now(UTC) + timedelta(seconds=1.5))
    files.rename(leaf)
    for _ in range(3):
        certificates.look()
        idle(certificates)
    assert certificates.context.current is current

    def is_taken() -> bool:
        certificates.look()
        idle(certificates)
        return certificates.context.current is not current

    until(is_taken)


# --- callers who have to show one --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mutual(loop_factory: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reloading]:
    folder = tmp_path_factory.mktemp("mutual")
    files = Files(folder)
    files.in_place(AUTHORITY.issue_cert("127.0.0.1"))
    (folder / "ca.pem").write_bytes(AUTHORITY.cert_pem.bytes())
    certificates = Certificates(str(files.cert), str(files.key), str(folder / "ca.pem"))
    with in_process(loop_factory=loop_factory, tls=certificates.context, access_lines_per_s=10_000) as server:
        yield Reloading(server, files, certificates)


def both(url: str, tls: ssl.SSLContext) -> list[Any]:
    """What the two clients of Python get."""
    found: list[Any] = []

    async def call() -> Any:
        async with graphpipe.AsyncClient(url, tls=tls) as client:
            return await client.execute(X)

    try:
        with graphpipe.Client(url, tls=tls) as client:
            found.append(client.execute(X))
    except graphpipe.GraphPipeError as error:
        found.append(error)
    try:
        found.append(asyncio.run(call()))
    except graphpipe.GraphPipeError as error:
        found.append(error)
    return found


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_caller_with_the_right_certificate_is_let_in_on_both_clients(
    mutual: Reloading, version: ssl.TLSVersion
) -> None:
    tls = trusting(AUTHORITY, AUTHORITY.issue_cert("a@b.org", common_name="alice"))
    tls.maximum_version = version
    for answer in both(mutual.url, tls):
        assert answer.tolist() == X.tolist()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("own", ["none", "a stranger's", "expired"])
def test_a_caller_without_a_certificate_or_with_a_wrong_one_is_refused_and_told_why(
    mutual: Reloading, own: str, version: ssl.TLSVersion, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    leaf = None
    if own == "a stranger's":
        leaf = OTHERS.issue_cert("a@b.org", common_name="alice")
    elif own == "expired":
        leaf = AUTHORITY.issue_cert("a@b.org", not_after=datetime.now(UTC) - timedelta(days=1))
    tls = trusting(AUTHORITY, leaf)
    tls.maximum_version = version
    for error in both(mutual.url, tls):
        assert isinstance(error, Unreachable), error
        assert re.search("it (wants|may want) a certificate of the caller that it trusts", str(error))
    until(lambda: "a caller is refused at the TLS handshake: " in caplog.text)


def test_health_checks_need_a_certificate_as_everything_else_does(mutual: Reloading) -> None:
    with pytest.raises((OSError, AssertionError)), Wire(mutual.url, 10, trusting(AUTHORITY)) as wire:
        wire.call("GET", "/livez")
    own = trusting(AUTHORITY, AUTHORITY.issue_cert("probe"))
    with Wire(mutual.url, 10, own) as wire:
        assert wire.call("GET", "/livez").status == 200


def test_authorities_are_replaced_like_certificates(mutual: Reloading, caplog: pytest.LogCaptureFixture) -> None:
    path = mutual.files.folder / "ca.pem"
    ours, theirs = AUTHORITY.cert_pem.bytes(), OTHERS.cert_pem.bytes()
    old = trusting(AUTHORITY, AUTHORITY.issue_cert("a@b.org"))
    new = trusting(AUTHORITY, OTHERS.issue_cert("a@b.org"))
    try:
        path.write_bytes(b"nothing\n")
        mutual.looks(20)
        words = f"cannot use {path} for callers' certificates (--tls-client-ca): it has no certificate in PEM"
        assert said(caplog) == [f"{words}; the certificate before it stays"]
        assert both(mutual.url, old)[0].tolist() == X.tolist()
        path.write_bytes(ours + theirs)
        mutual.looks(2)
        assert both(mutual.url, new)[0].tolist() == X.tolist()
        assert both(mutual.url, old)[0].tolist() == X.tolist()
        path.write_bytes(theirs)
        mutual.looks(2)
        assert isinstance(both(mutual.url, old)[0], Unreachable)
        assert both(mutual.url, new)[0].tolist() == X.tolist()
    finally:
        path.write_bytes(ours)
        mutual.looks(2)


def test_a_session_is_not_resumed_without_a_certificate(mutual: Reloading) -> None:
    """A ticket stands for the certificate that it was given for: the server knows it again."""
    own = trusting(AUTHORITY, AUTHORITY.issue_cert("a@b.org", common_name="alice"))
    own.maximum_version = ssl.TLSVersion.TLSv1_2
    with Wire(mutual.url, 10, own) as wire:
        assert wire.call("GET", "/livez").status == 200
        assert isinstance(wire.socket, ssl.SSLSocket)
        session = wire.socket.session
    with own.wrap_socket(connect(mutual.url, 10), server_hostname="127.0.0.1", session=session) as resumed:
        resumed.sendall(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b" 200 " in resumed.recv(1000)


# --- what a caller is called -------------------------------------------------------------------------------------------


def names_of_callers(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.access.caller for record in caplog.records if record.name == "graphpipe.access"]  # type: ignore[attr-defined]


ODD = {
    "alice": ("alice", "caller=alice"),
    "alice smith": ("alice smith", 'caller="alice smith"'),
    "bob\n00:00:00 INFO graphpipe.access: 200": (
        r"bob\n00:00:00 INFO graphpipe.access: 200",
        r'caller="bob\\n00:00:00 INFO graphpipe.access: 200"',
    ),
    "bob id=7 caller=eve": ("bob id=7 caller=eve", 'caller="bob id=7 caller=eve"'),
    'say "hi"': ('say "hi"', r'caller="say \"hi\""'),
    "\u202egnp.\x1b[31m": (r"\u202egnp.\x1b[31m", r'caller="\\u202egnp.\\x1b[31m"'),
    "Zoë 🦊": ("Zoë 🦊", 'caller="Zoë 🦊"'),
}


@pytest.mark.parametrize("name", ODD)
def test_the_name_in_a_caller_s_certificate_is_in_his_access_lines_however_odd_it_is(
    mutual: Reloading, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO)
    tls = trusting(AUTHORITY, AUTHORITY.issue_cert("a@b.org", common_name=name))
    with Wire(mutual.url, 10, tls) as wire:
        body = b"".join(encode_request([X]))
        assert wire.call("POST", "/", body, x_request_id="r").status == 200  # the hot route
        assert wire.call("POST", "/%61", body).status == 200  # aiohttp
        assert wire.call("POST", "/", body).status == 200  # aiohttp has the connection now
        assert wire.call("POST", "/models/nobody", body).status == 404
    said, line = ODD[name]
    until(lambda: len(names_of_callers(caplog)) == 4)
    assert names_of_callers(caplog) == [said] * 4
    lines = [record.getMessage() for record in caplog.records if record.name == "graphpipe.access"]
    assert lines[0].endswith(f" id=r {line}")
    assert all(one.endswith(f" {line}") and "\n" not in one for one in lines)


def test_a_caller_of_whom_nothing_is_to_be_shown_has_no_name(
    reloading: Reloading, caplog: pytest.LogCaptureFixture
) -> None:
    """One who has a certificate, too: nobody has asked for it or looked at it."""
    tls = trusting(AUTHORITY, OTHERS.issue_cert("a@b.org", common_name="alice"))
    with graphpipe.Client(reloading.url, tls=tls) as client:
        client.execute(X)
    until(lambda: names_of_callers(caplog) == [""])


SUBJECT = ((("countryName", "DE"),), (("organizationName", "A, B + C"), ("organizationalUnitName", "#1 ")))


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        (None, ""),
        ({}, ""),
        ({"subject": ((("commonName", "a"),),), "subjectAltName": (("DNS", "b"),)}, "a"),
        ({"subject": ((("commonName", ""),),), "subjectAltName": (("DNS", "b"),)}, "b"),
        ({"subject": (), "subjectAltName": (("DirName", ()), ("URI", "spiffe://c/d"), ("DNS", "e"))}, "spiffe://c/d"),
        ({"subject": SUBJECT}, r"O=A\, B \+ C+OU=\#1\ ,C=DE"),
        ({"subject": (), "serialNumber": "0A"}, "serial 0A"),
    ],
)
def test_a_caller_is_called_by_the_common_name_or_another_or_the_whole_subject(certificate: Any, name: str) -> None:
    assert caller_in(certificate) == name


def test_no_two_long_names_are_one() -> None:
    names = {caller_in({"subject": ((("commonName", "x" * 5000 + end),),)}) for end in ("", "a", "b")}
    assert len(names) == 3
    assert all(len(name) == 100 for name in names)


# --- versions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_versions_of_tls_before_1_2_are_refused(mutual: Reloading, version: ssl.TLSVersion) -> None:
    old = trusting(AUTHORITY, AUTHORITY.issue_cert("a@b.org"))
    old.set_ciphers("DEFAULT:@SECLEVEL=0")  # or this side would not offer them
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = version
    with pytest.raises(ssl.SSLError, match="(?i)protocol.version"):
        Wire(mutual.url, 10, old)


def test_nothing_is_compressed(mutual: Reloading) -> None:
    own = trusting(AUTHORITY, AUTHORITY.issue_cert("a@b.org"))
    own.options &= ~ssl.OP_NO_COMPRESSION
    with Wire(mutual.url, 10, own) as wire:
        assert isinstance(wire.socket, ssl.SSLSocket)
        assert wire.socket.compression() is None
