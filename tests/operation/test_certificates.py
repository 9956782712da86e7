"""Certificates that are replaced while a server is under load, callers who have to show one, and what SIGHUP means then."""

from __future__ import annotations

import os
import re
import signal
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import trustme

import graphpipe
from graphpipe.errors import Unreachable
from tests.certificates import Files, of, served, trusting
from tests.operation.conftest import Serve, get, until
from tests.operation.test_workers import worker_pids
from tests.serving import Server

X = np.arange(3, dtype=np.float32)
AUTHORITY = trustme.CA()
TIMES = 20


def leaves() -> Iterator[trustme.LeafCert]:
    """Certificates of both kinds of key by turns."""
    for i in range(TIMES):
        kind = trustme.KeyType.RSA if i % 5 == 2 else trustme.KeyType.ECDSA
        yield AUTHORITY.issue_cert("127.0.0.1", key_type=kind)


@contextmanager
def under_load(url: str, tls: ssl.SSLContext) -> Iterator[None]:
    """Callers who keep their connection and callers who make one for each call: not one request may fail."""
    over, calls, failures = threading.Event(), [0, 0, 0, 0], list[BaseException]()

    def keeps(number: int) -> None:
        with graphpipe.Client(url, tls=tls) as client:
            while not over.wait(0.002):
                assert client.execute(X).tolist() == [0, 2, 4]
                calls[number] += 1

    def comes_anew(number: int) -> None:
        while not over.wait(0.002):
            with graphpipe.Client(url, tls=tls) as client:
                assert client.execute(X).tolist() == [0, 2, 4]
                calls[number] += 1

    def until_it_fails(call: Callable[[int], None], number: int) -> None:
        try:
            call(number)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=until_it_fails, args=(call, number))
        for number, call in enumerate((keeps, keeps, comes_anew, comes_anew))
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert min(calls) > TIMES


def is_served(server: Server, leaf: trustme.LeafCert) -> Callable[[], bool]:
    """Whether every worker has it: as many connections in a row as make it improbable that one was never asked."""
    times = 12 if worker_pids(server) else 1
    return lambda: all(served(server.url) == of(leaf) for _ in range(times))


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_twenty_certificates_one_after_another_cost_nobody_a_request(start: Serve, folder: Path, workers: str) -> None:
    """Seen by watching and asked for by SIGHUP, put there in each of the ways."""
    plain, links = Files(folder / "plain"), Files(folder / "links")
    first = AUTHORITY.issue_cert("127.0.0.1")
    plain.in_place(first)
    links.swap(first)
    files, ways = (plain, (plain.rename, plain.in_place)) if workers == "1" else (links, (links.swap, links.swap))
    server = start("double", "--workers", workers, *files.flags)
    everybody = worker_pids(server)
    with under_load(server.url, trusting(AUTHORITY)):
        for number, leaf in enumerate(leaves()):
            ways[number % 2](leaf)
            if number % 4:
                server.process.send_signal(signal.SIGHUP)
            until(is_served(server, leaf))
    assert worker_pids(server) == everybody
    assert "SIGHUP" not in server.log
    assert server.log.count("new connections have the certificate that is now in") >= TIMES
    assert "cannot use" not in server.log


def test_sighup_reads_at_once_says_what_is_wrong_and_ends_nobody(start: Serve, folder: Path) -> None:
    files = Files(folder / "tls")
    first = AUTHORITY.issue_cert("127.0.0.1")
    files.rename(first)
    server = start("double", "--workers", "2", *files.flags)
    everybody = [server.process.pid, *worker_pids(server)]
    files.key.write_bytes(b"nothing\n")
    for pid in everybody:  # as `pkill --signal HUP` does
        os.kill(pid, signal.SIGHUP)
    words = f"cannot use {files.cert} and {files.key} for TLS"
    until(lambda: words in server.log)
    assert is_served(server, first)()
    second = AUTHORITY.issue_cert("127.0.0.1")
    files.rename(second)
    server.process.send_signal(signal.SIGHUP)
    until(is_served(server, second))
    assert [server.process.pid, *worker_pids(server)] == everybody
    assert server.log.count(words) == 1  # of three processes, the one that watches the others says it


def test_who_answers_while_no_worker_is_up_has_the_new_certificate_too(start: Serve, folder: Path) -> None:
    files = Files(folder / "tls")
    files.rename(AUTHORITY.issue_cert("127.0.0.1"))
    server = start("slow_restart", "--workers", "2", *files.flags)
    (folder / "hold").touch()
    for pid in worker_pids(server):
        os.kill(pid, signal.SIGKILL)
    leaf = AUTHORITY.issue_cert("127.0.0.1")
    files.rename(leaf)
    until(lambda: _sees(server, leaf))
    (folder / "hold").unlink()
    with graphpipe.Client(server.url, tls=trusting(AUTHORITY)) as client:
        until(lambda: _is_answered(client))


def _sees(server: Server, leaf: trustme.LeafCert) -> bool:
    try:
        return served(server.url) == of(leaf)
    except OSError:
        return False


def _is_answered(client: graphpipe.Client) -> bool:
    try:
        return bool(client.execute(X).tolist() == [0, 2, 4])
    except graphpipe.GraphPipeError:
        return False


def test_probes_have_a_door_beside_the_one_that_wants_certificates(start: Serve, folder: Path) -> None:
    files = Files(folder / "tls")
    files.rename(AUTHORITY.issue_cert("127.0.0.1"))
    ca = folder / "ca.pem"
    ca.write_bytes(AUTHORITY.cert_pem.bytes())
    server = start("double", *files.flags, "--tls-client-ca", str(ca), "--metrics-listen", "127.0.0.1:0")
    until(lambda: "metrics" in server.log)
    (door,) = re.findall(r"http://127\.0\.0\.1:\d+", server.log)
    assert get(f"{door}/readyz")[0] == 200
    with graphpipe.Client(server.url, tls=trusting(AUTHORITY)) as client, pytest.raises(Unreachable):
        client.execute(X)
    own = trusting(AUTHORITY, AUTHORITY.issue_cert("a@b.org", common_name="alice"))
    with graphpipe.Client(server.url, tls=own) as client:
        assert client.execute(X).tolist() == [0, 2, 4]
