"""The numbers of a server whose models come and go, and the page that shows them."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import graphpipe
from graphpipe.errors import LoadError
from graphpipe.server.life.app import App
from graphpipe.server.life.listener import bind, url_of
from graphpipe.server.life.standin import StandIn
from graphpipe.server.models.wiring import build
from graphpipe.server.numbers.counters import NAMES_MAX, Counters
from graphpipe.server.numbers.families import FAMILIES
from graphpipe.server.numbers.metrics import Metrics
from graphpipe.server.settings.values import ModelSettings, Settings
from tests.front.servers import Echo, Function, InProcess, in_process
from tests.raw_http import call
from tests.serving import ROOT, environment

X = np.zeros(3, np.float32)


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(page: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """A page as Prometheus's own library reads it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def sample(server: InProcess, name: str, **labels: str) -> float:
    return samples(get(f"{server.url}/metrics")[1]).get((name, frozenset(labels.items())), 0)


async def page_of(counters: Counters) -> str:
    async with Metrics(counters).page() as page:
        return b"".join(page.parts).decode()


# --- models come and go ---


def doubling() -> Function:
    return Function(lambda inputs: {"y": inputs["x"] * 2})


def put(server: InProcess, name: str, **settings: Any) -> None:
    """Serve one more model, or another one in place of the one of this name."""
    service = build([(ModelSettings(name, "", threads=1, warmup=0, **settings), doubling())], server.app.counters)[0]
    server.ask(lambda: server.app.directory.put(service))


def calls(server: InProcess, name: str, count: int) -> None:
    with graphpipe.Client(f"{server.url}/models/{name}") as client:
        for _ in range(count):
            client.execute(X)


def test_a_model_that_is_put_later_is_counted_and_one_that_comes_again_goes_on_where_it_was():
    with in_process({"first": doubling()}) as server:
        put(server, "late")
        calls(server, "late", 3)
        ok = {"code": "200", "protocol": "graphpipe"}
        assert sample(server, "graphpipe_requests_total", model="late", **ok) == 3
        assert sample(server, "graphpipe_rows_total", model="late") == 9
        before = server.app.directory.find("late")
        put(server, "late", batch_rows_max=8)
        assert server.app.directory.find("late") is not before
        calls(server, "late", 2)
        assert sample(server, "graphpipe_requests_total", model="late", **ok) == 5
        assert sample(server, "graphpipe_batch_requests_total", model="late") == 2
        put(server, "late", batch_rows_max=8)
        calls(server, "late", 1)
        # The stage that counted the first two is gone; what it counted is not.
        assert sample(server, "graphpipe_batch_requests_total", model="late") == 3
        assert sample(server, "graphpipe_requests_total", model="first", **ok) == 0


class Stage:
    """Counts for itself."""

    def __init__(self, **numbers: float) -> None:
        self.is_now = numbers

    def numbers(self) -> Mapping[str, float]:
        return {f"graphpipe_{name}": number for name, number in self.is_now.items()}


def test_while_one_model_takes_anothers_place_both_are_seen_and_then_the_new_one_alone():
    counters = Counters()
    meter = counters.meter("m")
    old = Stage(queue_requests=2, longest_run_seconds=7, batch_requests=10)
    new = Stage(queue_requests=1, longest_run_seconds=1, batch_requests=1)
    meter.follow(old.numbers)
    meter.follow(new.numbers)
    assert counters.total("graphpipe_queue_requests", "m") == 3
    assert counters.total("graphpipe_longest_run_seconds", "m") == 7
    assert counters.total("graphpipe_batch_requests", "m") == 11
    old.is_now["batch_requests"] = 12  # the last it did
    meter.leave(old.numbers)
    assert counters.total("graphpipe_queue_requests", "m") == 1
    assert counters.total("graphpipe_longest_run_seconds", "m") == 1
    assert counters.total("graphpipe_batch_requests", "m") == 13
    meter.gauge("graphpipe_model_load_seconds", 5)
    meter.leave(new.numbers)
    for gauge in ("queue_requests", "longest_run_seconds", "model_load_seconds"):
        assert counters.total(f"graphpipe_{gauge}", "m") == 0
    assert counters.total("graphpipe_batch_requests", "m") == 13


# --- workers ---


def test_two_workers_count_into_one_table_and_one_that_is_started_again_goes_on():
    fd = Counters.memory_for(2)
    try:
        first, second, looks_on = Counters((), 0, fd), Counters((), 1, fd), Counters((), None, fd)
        second.meter("b").answered(200, 0.01)  # a name that the first has not come upon
        for counters, times in ((first, 2), (second, 40)):
            for _ in range(times):
                counters.meter("a").answered(200, 0.01)
                counters.meter("a").answered(503, 0.0)
            counters.gauge("graphpipe_connections", times)
            counters.publish()
        assert looks_on.names() == first.names() == ["", "b", "a"]
        page = samples(asyncio.run(page_of(looks_on)))
        for code in ("200", "503"):
            labels = frozenset({"model": "a", "code": code, "protocol": "graphpipe"}.items())
            assert page["graphpipe_requests_total", labels] == 42
        assert page["graphpipe_request_duration_seconds_count", frozenset({("model", "a")})] == 84
        assert page["graphpipe_connections", frozenset()] == 42
        # The second dies, and another takes its row.
        looks_on.forget_gauges_of(1)
        assert looks_on.total("graphpipe_connections") == 2
        again = Counters((), 1, fd)
        again.meter("b").answered(200, 0.01)
        again.publish()
        assert first.total("graphpipe_request_duration_seconds", "b") == 2
        assert first.total("graphpipe_request_duration_seconds", "a") == 84
    finally:
        os.close(fd)


def test_processes_that_come_upon_the_same_names_at_once_give_them_the_same_places():
    work = """
import sys
from graphpipe.server.numbers.counters import Counters
row, fd = map(int, sys.argv[1:])
counters = Counters((), row, fd)
print("up", flush=True)
sys.stdin.readline()
for i in range(300) if row else reversed(range(300)):
    counters.meter(f"m{i}").answered(200, 0.01)
counters.publish()
"""
    fd = Counters.memory_for(2)
    try:
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", work, str(row), str(fd)],
                cwd=ROOT, env=environment(), pass_fds=[fd], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )
            for row in range(2)
        ]  # fmt: skip
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"up\n"
        for worker in workers:
            worker.communicate(b"go\n", timeout=60)
            assert worker.returncode == 0
        counters = Counters((), None, fd)
        assert len(counters.names()) == 301
        assert all(counters.total("graphpipe_request_duration_seconds", f"m{i}") == 2 for i in range(300))
    finally:
        os.close(fd)


def test_a_table_that_is_full_says_so_and_counts_on_for_the_names_that_it_has():
    counters = Counters(f"m{i}" for i in range(NAMES_MAX - 1))
    with pytest.raises(LoadError, match=f"'one more' cannot be counted: this server has had {NAMES_MAX - 1} names"):
        counters.meter("one more")
    counters.meter("m7").answered(200, 0.01)
    assert counters.total("graphpipe_request_duration_seconds", "m7") == 1
    with pytest.raises(LoadError, match="name may have 510 bytes"):
        Counters().meter("x" * 511)


# --- the page ---


def test_the_page_is_what_prometheus_reads_whatever_a_model_is_called():
    names = ["m", 'a"b\\c', "two\nlines", "100%s {} é", "\udc80"]
    counters = Counters(names)
    for number, name in enumerate(names, 1):
        for _ in range(number):
            counters.meter(name).answered(200, 0.003)
            counters.meter(name).answered(418, 100.0)
            counters.meter(name).batched(3)
        counters.meter(name).described(200)
    text = asyncio.run(page_of(counters))
    page = samples(text)
    for number, name in enumerate(names, 1):
        shown = name.encode("utf-8", "replace").decode()

        def at(sample: str, shown: str = shown, **labels: str) -> float:
            return page[f"graphpipe_{sample}", frozenset({"model": shown, **labels}.items())]

        assert at("requests_total", code="200", protocol="graphpipe") == number
        assert at("requests_total", code="other", protocol="graphpipe") == number
        assert at("requests_total", code="200", protocol="json") == 1
        assert at("request_duration_seconds_count") == 2 * number
        assert at("request_duration_seconds_sum") == pytest.approx(100.003 * number)
        assert at("request_duration_seconds_bucket", le="0.0025") == 0
        assert at("request_duration_seconds_bucket", le="0.005") == number
        assert at("request_duration_seconds_bucket", le="30.0") == number
        assert at("request_duration_seconds_bucket", le="+Inf") == 2 * number
        assert at("batch_rows_sum") == 3 * number
    assert page["graphpipe_workers", frozenset()] == 1
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    for family in FAMILIES:
        kind = "counter" if family.kind == "by_code" else family.kind
        assert kinds[family.name + "_total" * (kind == "counter")] == kind
    assert text.endswith("\n")


def test_many_durations_are_sorted_into_the_same_buckets_as_few():
    few, many = Counters(), Counters()
    for i in range(500):
        for counters in (few, many):
            counters.meter("m").answered(200, i / 128)  # sums are exact
        few.publish()
    assert asyncio.run(page_of(few)) == asyncio.run(page_of(many))


def many_models(count: int) -> dict[str, Any]:
    return {f"model{i}": Echo() for i in range(count)}


def test_the_loop_turns_while_a_page_of_a_hundred_models_is_made():
    with in_process(many_models(100)) as server:
        for service in server.ask(lambda: [*server.app.directory]):
            for number in range(30):
                service.meter.answered(200, 0.001 * number)
                service.meter.ran(0.001, 0.01)
                service.meter.encoded(1, 0.0001)
        metrics, turns = Metrics(server.app.counters), 0

        async def scrape() -> int:
            nonlocal turns

            async def make() -> int:
                async with metrics.page() as page:
                    return page.length

            making = asyncio.ensure_future(make())
            while not making.done():
                turns += 1
                await asyncio.sleep(0)
            return making.result()

        length = asyncio.run_coroutine_threadsafe(scrape(), server.loop).result(30)
        assert length > 300_000
        assert turns >= 5
        assert len(get(f"{server.url}/metrics")[1]) >= length


def test_who_asks_at_once_shares_a_page_and_one_who_leaves_takes_it_from_nobody():
    async def scrapes() -> None:
        metrics = Metrics(Counters(f"m{i}" for i in range(200)))

        async def scrape() -> object:
            async with metrics.page() as page:
                return page

        impatient = asyncio.create_task(scrape())
        others = [asyncio.create_task(scrape()) for _ in range(20)]
        await asyncio.sleep(0)
        impatient.cancel()
        pages = await asyncio.gather(*others)
        assert len(set(map(id, pages))) == 1
        assert await scrape() is not pages[0]

    asyncio.run(scrapes())


def test_readers_who_take_nothing_keep_eight_pages_at_most_and_nobody_waits_for_them():
    async def scrapes() -> None:
        metrics = Metrics(Counters(["m"]))
        held = [metrics.page() for _ in range(30)]
        pages = [await page.__aenter__() for page in held]
        assert len(set(map(id, pages))) == 8
        assert set(map(id, pages[8:])) == {id(pages[7])}
        for page in held:
            await page.__aexit__(None, None, None)
        assert (await metrics.page().__aenter__()) not in pages

    asyncio.run(scrapes())


# --- where it is ---


def test_with_an_address_of_their_own_the_metrics_leave_the_public_one_and_health_is_on_both():
    async def live() -> None:
        listener, side = bind("127.0.0.1:0"), bind("127.0.0.1:0")
        app = App([(ModelSettings("m", "", warmup=0), Echo())], Settings(drain_grace_s=0.0, metrics_listen="private"))
        await app.start(listener, None, side)
        public, private = url_of(listener, tls=False), url_of(side, tls=False)

        async def at(url: str) -> tuple[int, str]:
            return await asyncio.to_thread(get, url)

        assert (await at(f"{private}/metrics"))[0] == 200
        status, words = await at(f"{public}/metrics")
        assert status == 404
        assert "--metrics-listen" in words
        assert private.rpartition(":")[2].strip("/") not in words  # nobody is told where
        for url in (public, private):
            assert await at(f"{url}/livez") == (200, "ok\n")
            assert await at(f"{url}/readyz") == (200, "ok\n")
        app.state.begin_drain()
        await app.finish()

    asyncio.run(asyncio.wait_for(live(), 60))


@pytest.mark.parametrize("apart", [False, True])
def test_while_no_worker_is_up_the_metrics_are_where_they_are_otherwise(apart: bool):
    async def live() -> None:
        sockets: dict[socket.socket, None] = {bind("127.0.0.1:0"): None}
        if apart:
            sockets[bind("127.0.0.1:0")] = None
        for listening in sockets:
            listening.listen()
        stand_in = StandIn(sockets, Counters(["m"]), [*sockets][-1])
        stand_in.answer(True)
        statuses = [
            [
                (await asyncio.to_thread(get, f"{url_of(listening, tls=False)}{path}"))[0]
                for path in ("/metrics", "/livez")
            ]
            for listening in sockets
        ]
        public = url_of(next(iter(sockets)), tls=False)
        for first in ("GET /livez", "POST /"):
            answer = await asyncio.to_thread(call, public, *first.split(), x_request_id="a-1")
            assert answer.headers["x-request-id"] == "a-1"
        stand_in.answer(False)
        for listening in sockets:
            listening.close()
        assert statuses == ([[503, 200], [200, 200]] if apart else [[200, 200]])

    asyncio.run(asyncio.wait_for(live(), 60))
