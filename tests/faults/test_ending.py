"""Signals and restarts while callers go on calling: what they see."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import graphpipe
from graphpipe import errors
from tests.faults.callers import Callers, until
from tests.faults.conftest import Fault, in_words
from tests.faults.servers import DOUBLE, X, is_ready, metric
from tests.serving import ROOT, Server, serving

GRACE = ("--drain-grace-s", "0.2")


# The rolling restart below is SIGTERM for one process.
@pytest.mark.parametrize(("how", "workers"), [(signal.SIGTERM, 2), (signal.SIGINT, 1)])
def test_a_signal_under_load_loses_no_request_that_was_begun(how: signal.Signals, workers: int, fault: Fault) -> None:
    with serving(*DOUBLE, *GRACE, "--workers", str(workers), cwd=ROOT) as server:
        with Callers([server.url], 4) as callers:
            callers.enough(50)
            assert server.stop(how) == 0
        # Afterwards nobody listens; until then every call that reached the server was answered.
        assert callers.wrong == 0
        assert set(callers.seen) <= {"ok", "Unreachable", "closed"}
    fault(f"{how.name} under load, {workers} worker{'s' * (workers > 1)}", f"{callers}; status 0")


def test_a_rolling_restart_of_two_servers_loses_no_request(fault: Fault) -> None:
    addresses = [f"127.0.0.1:{port}" for port in unlikely_ports(2)]

    def start(address: str) -> Server:
        return stack.enter_context(serving(*DOUBLE, *GRACE, listen=address, cwd=ROOT))

    with contextlib.ExitStack() as stack:
        with ThreadPoolExecutor() as pool:
            servers = list(pool.map(start, addresses))
        with Callers([server.url for server in servers], 4, patient=True) as callers:
            callers.enough(50)
            began = time.monotonic()
            for server, address in zip(servers, addresses, strict=True):
                assert server.stop() == 0
                start(address)
                callers.enough(50)
            seconds = time.monotonic() - began
    assert callers.wrong == 0
    assert set(callers.seen) == {"ok"}
    saw = f"{callers}, in {in_words(seconds)} of restarts"
    fault("a rolling restart of 2 servers under load, callers go to the other one", saw)


def unlikely_ports(count: int) -> list[int]:
    """Free ones that no outgoing connection gets by accident while their server is away."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            ports.append(port)
    return ports


def test_a_second_signal_ends_it_at_once(fault: Fault) -> None:
    patience = ("--drain-grace-s", "600", "--drain-timeout-s", "600")
    with serving(*DOUBLE, *patience, cwd=ROOT) as server:
        seen: list[errors.NoAnswer] = []

        def call() -> None:
            with pytest.raises(errors.NoAnswer) as caught:
                graphpipe.Client(server.url).execute(X, config="hang")
            seen.append(caught.value)

        caller = threading.Thread(target=call)
        caller.start()
        until(lambda: metric(server.url, 'graphpipe_longest_run_seconds{model="double"}') > 0)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not is_ready(server))
        began = time.monotonic()
        assert server.stop() == 0
        ended_s = time.monotonic() - began
        caller.join()
    assert "without an answer" in str(seen[0])
    fault(
        "a second SIGTERM while a request hangs, --drain-timeout-s 600",
        f"its caller: 1 closed before an answer; the server ends {in_words(ended_s)} after the second signal",
    )
