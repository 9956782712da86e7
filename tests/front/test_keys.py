"""Keys: who may do what, the same on every way in; and that nobody learns what is not his."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpipe.backends.echo import Echo
from graphpipe.errors import LoadError
from graphpipe.keyfile import Key, digest_of, key_of, keys_in, new_key, text_of
from graphpipe.server.http.control import Control
from graphpipe.server.http.keys import OPEN, SCOPE_OF, Keys
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.settings.values import Settings
from graphpipe.server.state import State
from graphpipe.wire import decode_infer_response, encode_request
from graphpipe.wire.messages import encode_metadata_request
from tests.front.servers import InProcess, in_process
from tests.raw_http import Answer, Wire, chunked

BODY = b"".join(encode_request([np.arange(6, dtype=np.float32)]))
QUESTION = encode_metadata_request()
SECRET = {name: new_key() for name in ("full", "infer", "metadata", "metrics", "admin", "only-b", "over")}
WAYS = ("hot", "odd", "chunked", "expect", "HTTP/1.0", "unix")


def line(name: str, **more: Any) -> str:
    scopes = more.pop("scopes", ["infer", "metadata"])
    return text_of(key_of(name, digest_of(SECRET[name].encode()), scopes, **more)) + "\n"


LINES = "".join(
    (
        "# comments are allowed\n\n",
        line("full", scopes=["infer", "metadata", "metrics"]),
        *(line(name, scopes=[name]) for name in ("infer", "metadata", "metrics", "admin")),
        line("only-b", models=["b"]),
        line("over", expires=1.0),
    )
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(LINES)
    return path


@pytest.fixture(scope="module")
def servers(file: Path) -> Iterator[dict[str, InProcess]]:
    settings: dict[str, Any] = {"api_key_file": str(file), "body_bytes_max": 1 << 20}
    with (
        in_process({"a": Echo(), "b": Echo()}, **settings) as tcp,
        in_process({"a": Echo(), "b": Echo()}, listen=f"unix:{file}.sock", **settings) as unix,
    ):
        yield {way: unix if way == "unix" else tcp for way in WAYS}


def asked(way: str, path: str, body: bytes, *fields: str) -> bytes:
    """An inference's bytes, with these fields."""
    lines = [f"POST {path} HTTP/1.1", "Host: h", *fields]
    if way == "HTTP/1.0":
        lines[0] = f"POST {path} HTTP/1.0"
        lines.append("Connection: keep-alive")
    if way == "odd":
        lines.append("TE: trailers")
    lines.append("Transfer-Encoding: chunked" if way == "chunked" else f"Content-Length: {len(body)}")
    if way == "expect":
        lines.append("Expect: 100-continue")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head + {"chunked": chunked(body), "expect": b""}.get(way, body)


def call(server: InProcess, way: str, path: str, body: bytes, *fields: str) -> Answer:
    with Wire(server.url, 10) as wire:
        wire.send(asked(way, path, body, *fields))
        answer = wire.answer()
        if way == "expect" and answer.status == 100:
            wire.send(body)
            answer = wire.answer()
        return answer


def get(server: InProcess, path: str, name: str = "", method: str = "GET") -> Answer:
    with Wire(server.url, 10) as wire:
        return wire.call(method, path, **({"authorization": bearer(name).split(": ")[1]} if name else {}))


def bearer(name: str) -> str:
    return f"Authorization: Bearer {SECRET[name]}"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "path", "body", "want"),
    [
        ("full", "/", BODY, 200),
        ("full", "/models/b", QUESTION, 200),
        ("full", "/models/nobody", BODY, 404),
        ("infer", "/models/b", BODY, 200),
        ("infer", "/", QUESTION, 403),
        ("metadata", "/", BODY, 403),
        ("metadata", "/", BODY * 100, 403),
        ("metrics", "/", BODY, 403),
        ("admin", "/models/nobody", BODY, 403),
        ("only-b", "/models/b", BODY, 200),
        ("only-b", "/models/a", BODY, 403),
        ("only-b", "/models/nobody", BODY, 403),
        ("only-b", "/v2/whatever", BODY, 403),
        ("only-b", "/", BODY, 403),
        ("over", "/", BODY, 401),
    ],
)
def test_a_key_is_good_for_its_scopes_and_models_on_every_way_in(
    servers: dict[str, InProcess], way: str, name: str, path: str, body: bytes, want: int
) -> None:
    answer = call(servers[way], way, path, body, bearer(name))
    assert answer.status == want, answer.text
    assert answer.headers.get("www-authenticate") == ("Bearer" if want == 401 else None)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "chunked"])
def test_a_key_for_metadata_asks_for_it(servers: dict[str, InProcess], way: str) -> None:
    assert call(servers[way], way, "/models/a", QUESTION, bearer("metadata")).status == 200


HOSTILE = {
    "none": (),
    "unknown": (f"Authorization: Bearer {new_key()}",),
    "very long": ("Authorization: Bearer " + "a" * 12_000,),
    "empty": ("Authorization:",),
    "no key": ("Authorization: Bearer",),
    "spaces alone": ("Authorization: Bearer    ",),
    "another scheme": (f"Authorization: Basic {SECRET['full']}",),
    "no scheme": (f"Authorization: {SECRET['full']}",),
    "two words": (f"Authorization: Bearer {SECRET['full']} x",),
    "a space within": (f"Authorization: Bearer {SECRET['full'][:9]} {SECRET['full'][9:]}",),
    "quoted": (f'Authorization: Bearer "{SECRET["full"]}"',),
    "not ASCII": ("Authorization: Bearer \xe9\xff\xfe" + "\xe4" * 40,),
    "a bit of one": (f"Authorization: Bearer {SECRET['full'][:-1]}",),
    "two fields": (bearer("full"), bearer("full")),
    "two fields, one of them empty": (bearer("full"), "authorization:"),
    "in another field": (f"X-Api-Key: {SECRET['full']}",),
    "for a proxy": (f"Proxy-Authorization: Bearer {SECRET['full']}",),
    "its hash": (f"Authorization: Bearer {digest_of(SECRET['full'].encode()).hex()}",),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fields", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_key_opens_nothing_and_is_told_nothing(
    servers: dict[str, InProcess], way: str, fields: tuple[str, ...]
) -> None:
    answers = [call(servers[way], way, path, BODY, *fields) for path in ("/", "/models/b", "/models/nobody", "/v2/x")]
    assert {answer.status for answer in answers} == {401}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    said = json.loads(answers.pop().body)["error"]  # in the form of the protocol whose path it is
    assert {answer.text for answer in answers} == {f"{said}\n"}
    assert not any(word in answers[0].text for word in (SECRET["full"], "'a'", "'b'", "/models"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", ["bearer {}", "BEARER {}", "Bearer   {}", "Bearer {}\t ", "\tBearer {}"])
def test_a_key_may_be_written_as_http_lets_it_be(servers: dict[str, InProcess], way: str, how: str) -> None:
    field = f"aUTHORIZATION: {how.format(SECRET['full'])}"
    assert call(servers[way], way, "/", BODY, field).status == 200


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fields", [(), (bearer("only-b"),)], ids=["no key", "another's model"])
def test_a_refusal_does_not_wait_for_the_body(servers: dict[str, InProcess], way: str, fields: tuple[str, ...]) -> None:
    whole = asked(way, "/models/a", b"a" * 500_000, *fields)
    with Wire(servers[way].url, 10) as wire:
        wire.send(whole[: whole.index(b"\r\n\r\n") + 4])
        assert wire.answer().status == (403 if fields else 401)


def test_a_model_that_is_not_his_and_one_that_is_not_there_look_alike(servers: dict[str, InProcess]) -> None:
    for way in WAYS:
        for path in ("/models/{}", "/models/{}/"):
            for names in (("a", "nobody"), ("%61", "nobod%79")):
                answers = [call(servers[way], way, path.format(name), BODY, bearer("only-b")) for name in names]
                assert len({(answer.status, answer.body, *sorted(answer.headers)) for answer in answers}) == 1
    for method in ("GET", "HEAD", "PUT", "OPTIONS"):
        answers = [get(servers["hot"], f"/models/{name}", "only-b", method) for name in ("a", "nobody")]
        assert {answer.status for answer in answers} == {403}
        assert len({answer.body for answer in answers}) == 1


def test_health_checks_are_open_and_say_nothing_of_models(servers: dict[str, InProcess]) -> None:
    for page in OPEN:
        for name in ("", "over", "infer"):
            answer = get(servers["hot"], f"/{'/'.join(page)}?verbose", name)
            assert (answer.status, "model" in answer.text) == (200, False)
    assert "models: ok" in get(servers["hot"], "/readyz?verbose", "metrics").text


@pytest.mark.parametrize("page", SCOPE_OF)
def test_a_page_is_for_keys_with_its_scope(servers: dict[str, InProcess], page: tuple[str, ...]) -> None:
    path = f"/{'/'.join(page)}"
    for method in ("GET", "POST", "OPTIONS", "PUT"):
        assert get(servers["hot"], path, "", method).status == 401
        assert get(servers["hot"], path, "over", method).status == 401
        for name in ("infer", "metadata", "metrics", "admin"):
            if name != SCOPE_OF[page]:
                assert get(servers["hot"], path, name, method).status == 403
    assert get(servers["hot"], path, SCOPE_OF[page]).status == (405 if page[-1] == "shutdown" else 200)


def test_every_page_is_open_or_has_a_scope() -> None:
    dialect: Any = None
    control = Control(dialect, Settings(enable_shutdown=True), State(), Counters())
    of_others = {page for page in OPEN if page[0] == "v2"}
    assert set(control.pages()) == (OPEN - of_others) | set(SCOPE_OF)


def test_a_list_of_models_has_those_that_the_key_may_use(servers: dict[str, InProcess]) -> None:
    assert '"a"' not in get(servers["hot"], "/models", "only-b").text
    assert '"b"' in get(servers["hot"], "/models", "only-b").text
    assert '"a"' in get(servers["hot"], "/models", "metadata").text


def test_the_end_takes_the_scope_admin(file: Path) -> None:
    with in_process(api_key_file=str(file), enable_shutdown=True) as server:
        for name in ("", "full", "over"):
            with Wire(server.url) as wire:
                fields = {"authorization": f"Bearer {SECRET[name]}"} if name else {}
                assert wire.call("POST", "/control/shutdown", b"", **fields).status in (401, 403)
        assert not server.app.state.draining
        with Wire(server.url) as wire:
            assert wire.call("POST", "/control/shutdown", b"", authorization=f"Bearer {SECRET['admin']}").status == 200


def test_an_error_is_a_message_for_who_asks_for_one(servers: dict[str, InProcess]) -> None:
    for fields, code in (((), 8), ((bearer("metrics"),), 9)):
        for way in WAYS:
            answer = call(servers[way], way, "/", BODY, "Accept: application/vnd.graphpipe", *fields)
            assert [error.code for error in decode_infer_response(answer.body).errors] == [code]


def test_a_refused_request_leaves_the_connection_to_the_next_one(servers: dict[str, InProcess]) -> None:
    for way in ("hot", "odd", "HTTP/1.0", "unix"):
        with Wire(servers[way].url) as wire:
            for fields, want in (((), 401), ((bearer("full"),), 200), ((bearer("only-b"),), 403)) * 3:
                wire.send(asked(way, "/", BODY, *fields))
                assert wire.answer().status == want


def test_heads_of_a_thousand_callers_are_remembered_and_those_of_strangers_are_not(tmp_path: Path) -> None:
    secrets = [new_key() for _ in range(1000)]
    keys = [key_of(f"caller-{n}", digest_of(key.encode()), ["infer"]) for n, key in enumerate(secrets)]
    (tmp_path / "keys").write_text("".join(f"{text_of(key)}\n" for key in keys))
    with in_process(api_key_file=str(tmp_path / "keys")) as server, Wire(server.url) as wire:
        for _ in range(2):
            for key in secrets:
                wire.send(asked("hot", "/", BODY, f"Authorization: Bearer {key}"))
                assert wire.answer().status == 200
        assert server.ask(lambda: len(server.app.hub.requests)) == 1000
        for _ in range(2):
            for n in range(3000):
                wire.send(asked("hot", "/", BODY, f"Authorization: Bearer {'a' * 40}{n}"))
                assert wire.answer().status == 401
        assert server.ask(lambda: len(server.app.hub.requests)) == 1000


def test_a_key_ends_while_its_connection_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(line("full", expires=float(int(time.time()) + 3)))
    with in_process(api_key_file=str(path)) as server, Wire(server.url) as hot, Wire(server.url) as odd:
        seen = []
        for way, wire in (("hot", hot), ("odd", odd)):
            wire.send(asked(way, "/", BODY, bearer("full")))
            seen.append(wire.answer().status)
        assert seen == [200, 200]
        until(lambda: server.ask(lambda: not server.app.keys._expiries))
        for way, wire in (("hot", hot), ("odd", odd)):
            wire.send(asked(way, "/", BODY, bearer("full")))
            assert wire.answer().status == 401


def test_a_file_that_is_broken_leaves_the_keys_as_they_were(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys"
    path.write_text(line("full"))
    with in_process(api_key_file=str(path)) as server:
        for broken in (f"{line('full')}{SECRET['infer']}\n", None, "\udcff"):
            if broken is None:
                path.unlink()
            else:
                path.write_bytes(broken.encode("utf-8", "surrogateescape"))
            until(lambda: len(caplog.messages) == 1)
            (said,) = caplog.messages
            assert "the keys that were read before stay in force" in said
            assert "\n" not in said
            assert SECRET["infer"] not in said
            assert call(server, "hot", "/", BODY, bearer("full")).status == 200
            caplog.clear()
        path.write_text(line("infer"))
        until(lambda: call(server, "hot", "/", BODY, bearer("infer")).status == 200)
        assert call(server, "hot", "/", BODY, bearer("full")).status == 401


def test_a_file_that_changes_twice_within_a_tick_of_its_clock_is_read_twice(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(line("full"))
    with in_process(api_key_file=str(path)) as server:
        first = os.stat(path)
        with path.open("r+") as same:  # the same file, size and time
            same.write(line("full").replace("full", "fool"))
        os.utime(path, ns=(first.st_mtime_ns, first.st_mtime_ns))
        until(lambda: server.ask(lambda: "fool" in server.app.keys._text))


BROKEN = {
    "one\n": "line 1: expected a name, sha256:HASH and scopes",
    f"# c\n\na {new_key()} infer\n": "line 3: the second word is not sha256:",
    f"a sha256:{'0' * 64} fly\n": "line 1: scopes are some of",
    f"a sha256:{'0' * 64} infer models=\n": "line 1: models are names",
    f"a sha256:{'0' * 64} infer expires=30d\n": "line 1: expires=TIME is a date or a time",
    f"a sha256:{'0' * 64} infer expires=soon\n": "line 1: a time is 2027-01-01",
    f"a sha256:{'0' * 64} infer until=2027-01-01\n": "line 1: behind the scopes come",
    f"a/b sha256:{'0' * 64} infer\n": "line 1: a name has",
    f"a sha256:{'0' * 64} infer\nb sha256:{'0' * 64} infer\n": "line 2: line 1 has the same key",
    f"a sha256:{'0' * 64} infer\na sha256:{'1' * 64} infer\n": "line 2: line 1 has the same name",
}


@pytest.mark.parametrize(("text", "why"), BROKEN.items(), ids=BROKEN.values())
def test_a_broken_line_is_named_and_not_shown(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(LoadError) as caught:
        Keys(str(tmp_path / "keys"), Counters())
    assert why in str(caught.value)
    assert "gp_" not in str(caught.value)


def test_a_line_says_what_the_key_says() -> None:
    for key in (
        Key("a", b"1" * 32, frozenset(("infer",))),
        Key("a.b@c-d_e", b"1" * 32, frozenset(("infer", "admin")), frozenset(("a b", "ü,%=", "#1")), 1_800_000_000.0),
    ):
        assert keys_in(text_of(key), "here") == [key]


def test_callers_are_counted_by_name_and_no_more_than_so_many_are_told_apart() -> None:
    counters = Counters(["m"])
    for number in range(300):
        counters.caller(f"caller-{number}").requests += 2
    counters.publish()
    names = [name for name in counters.names() if name.startswith("\0")]
    assert len(names) == 257
    assert counters.total("graphpipe_caller_requests", "\0caller-0") == 2
    assert counters.total("graphpipe_caller_requests", "\0(others)") == 2 * 44


def test_metrics_have_what_each_caller_asked(servers: dict[str, InProcess]) -> None:
    def counted(family: str, name: str) -> float:
        found = [
            text.rpartition(" ")[2]
            for text in get(servers["hot"], "/metrics", "metrics").text.splitlines()
            if text.startswith(f'{family}{{caller="{name}"}}')
        ]
        return float(found[0])

    names = ("graphpipe_caller_requests_total", "graphpipe_caller_errors_total")
    before = [counted(family, "only-b") for family in names]
    for way in ("hot", "odd"):
        assert call(servers[way], way, "/models/b", BODY, bearer("only-b")).status == 200
        assert call(servers[way], way, "/models/a", BODY, bearer("only-b")).status == 403
    assert [counted(family, "only-b") for family in names] == [before[0] + 4, before[1] + 2]
    page = get(servers["hot"], "/metrics", "metrics").text
    assert 'model="only-b"' not in page
    assert 'caller="a"' not in page


def until(holds: Any) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it never did"
        time.sleep(0.02)
