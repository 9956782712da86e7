"""The commands call servers over TLS: whom they believe, and what they show, is in files that they are told."""

from __future__ import annotations

import json

import pytest
import trustme

from tests.certificates import Files, chain_of
from tests.serving import serving


@pytest.fixture
def files(folder):
    """An authority's file, a certificate's and its key's, and both in one."""
    authority = trustme.CA()
    leaf = authority.issue_cert("a@b.org", common_name="alice")
    (folder / "ca.pem").write_bytes(authority.cert_pem.bytes())
    ours = Files(folder / "ours")
    ours.in_place(leaf)
    (folder / "both.pem").write_bytes(leaf.private_key_pem.bytes() + chain_of(leaf))
    theirs = Files(folder / "theirs")
    theirs.in_place(authority.issue_cert("127.0.0.1"))
    return ours, theirs


@pytest.fixture
def secured(folder, files):
    """The URL of a server that wants a certificate."""
    flags = (*files[1].flags, "--tls-client-ca", folder / "ca.pem", "--drain-timeout-s", "1")
    with serving("-m", "echo", *flags) as server:
        yield server.url


def test_a_certificate_opens_a_server_to_the_commands(graphpipe, files, secured):
    ours = ("--tls-ca", "ca.pem", "--tls-cert", files[0].cert, "--tls-key", files[0].key)
    status, out, err = graphpipe("execute", secured, "--input", "[1]", "--json", *ours)
    assert status == 0, err
    assert [output["data"] for output in json.loads(out).values()] == [[1]]
    status, out, err = graphpipe("metadata", secured, "--tls-ca", "ca.pem", "--tls-cert", "both.pem")
    assert (status, "echo" in out) == (0, True), err
    bench = ("--shape", "input=2", "--seconds", "0.3", "--warm-up", "0", "--input", "[1, 2]", "--json")
    status, out, err = graphpipe("bench", secured, *bench[2:], *ours)
    assert status == 0, err
    assert json.loads(out)


def test_without_one_it_is_said_what_the_server_wants(graphpipe, secured):
    for command in (["execute", secured, "--input", "[1]"], ["metadata", secured]):
        status, _, err = graphpipe(*command, "--tls-ca", "ca.pem")
        assert (status, "it wants a certificate of the caller" in err) == (1, True), err
        assert "--tls-cert" in err
        status, _, err = graphpipe(*command)
        assert (status, "its certificate is not trusted" in err) == (1, True), err
        assert "--tls-ca" in err


@pytest.mark.parametrize(
    ("url", "said", "words"),
    [
        ("https://127.0.0.1:1", ["--tls-key", "ours/tls.key"], "--tls-key does nothing without --tls-cert"),
        (
            "https://127.0.0.1:1",
            ["--tls-cert", "ours/tls.crt"],
            "--tls-cert ours/tls.crt: it has no certificate and key",
        ),
        ("https://127.0.0.1:1", ["--tls-cert", "nowhere"], "--tls-cert nowhere: No such file or directory"),
        ("https://127.0.0.1:1", ["--tls-ca", "digit.npy"], "--tls-ca digit.npy: it has no certificate in PEM"),
        ("http://127.0.0.1:1", ["--tls-ca", "ca.pem"], "are for a URL that begins with https://"),
    ],
)
def test_files_that_are_of_no_use_are_named_in_one_line(graphpipe, files, url, said, words):
    for command in (["execute", url, "--input", "[1]"], ["metadata", url], ["bench", url, "--seconds", "1"]):
        status, out, err = graphpipe(*command, *said)
        assert (status, out) == (1, "")
        assert words in err
        assert err.count("\n") == 1
