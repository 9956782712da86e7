"""Keys while a server runs: they come, go and end under load, with one worker and with several; and no log has one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe import errors
from graphpipe.cli.keys import _change
from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from graphpipe.wire import encode_request
from tests.operation.conftest import Serve, get, until
from tests.operation.test_workers import stop_all
from tests.raw_http import Wire, call, chunked, request
from tests.serving import Server, run_to_end

X = np.arange(3, dtype=np.float32)
BODY = b"".join(encode_request([X]))


class KeyFile:
    """A file of keys, and what they are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.secrets: dict[str, str] = {}
        self.lines: dict[str, str] = {}

    def add(self, name: str, *scopes: str) -> str:
        secret = self.secrets[name] = new_key()
        self.lines[name] = text_of(key_of(name, digest_of(secret.encode()), scopes or ["infer", "metadata"]))
        self.write()
        return secret

    def revoke(self, name: str) -> None:
        del self.lines[name]
        self.write()

    def write(self) -> None:
        _change(str(self.path), lambda text: "".join(f"{line}\n" for line in self.lines.values()))


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys")


def shown(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def statuses(wires: list[Wire], key: str) -> set[int]:
    """How each of some connections is answered, by the hot route and, every other one, by aiohttp."""
    return {
        wire.call("POST", "/", BODY, **shown(key), **({"te": "trailers"} if number % 2 else {})).status
        for number, wire in enumerate(wires)
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_keys_come_and_go_under_load_without_a_failed_request(start: Serve, keys: KeyFile, workers: int) -> None:
    first, second = keys.add("first"), keys.add("second")
    server = start("double", "--workers", str(workers), "--api-key-file", str(keys.path))
    failures: list[BaseException] = []
    over = threading.Event()

    def ask() -> None:
        try:
            with graphpipe.Client(server.url, api_key=first) as client:
                while not over.is_set():
                    assert np.array_equal(client.execute(X), X * 2)
        except BaseException as error:
            failures.append(error)

    callers = [threading.Thread(target=ask) for _ in range(2)]
    for caller in callers:
        caller.start()
    wires = [Wire(server.url) for _ in range(12)]
    try:
        assert statuses(wires, second) == {200}
        for number in range(4):
            key = keys.add(f"more-{number}")
            until(lambda key=key: statuses(wires, key) == {200})  # type: ignore[misc]
        keys.revoke("second")
        until(lambda: statuses(wires, second) == {401})
        keys.path.write_text("broken\n")
        until(lambda: server.log.count("keys that were read before stay in force") == workers)
        assert statuses(wires, key) == {200}
        assert statuses(wires, second) == {401}
    finally:
        over.set()
        for caller in callers:
            caller.join()
        for wire in wires:
            wire.__exit__()
    assert failures == []


def test_no_key_is_in_any_log(start: Serve, keys: KeyFile) -> None:
    good, weak = keys.add("ci"), keys.add("weak", "metrics")
    server = start("double refuses_zeros", "--api-key-file", str(keys.path), "-vv", "--access-lines-per-s", "1000")
    stranger = new_key()
    for key in (good, weak, stranger):
        for te in ({}, {"te": "trailers"}):
            for path in ("/", "/models/refuses_zeros", "/models/nobody", "/v2/x", "/metrics", f"/?key={key}"):
                for body in (BODY, b"garbage"):
                    call(server.url, "POST", path, body, **shown(key), **te)
                call(server.url, "GET", path, **shown(key), **te)
        call(server.url, "POST", "/", BODY, authorization=f"Basic {key}")
        with Wire(server.url) as wire:
            wire.send(request("POST", "/", chunked(BODY), **shown(key), transfer_encoding="chunked"))
            wire.answer()
        with Wire(server.url) as wire:
            wire.send(f"POST / HTTP/1.1\r\nAuthorization: Bearer {key}\r\nBad\x01Name: 1\r\n\r\n".encode())
            wire.answer()
        with Wire(server.url) as wire:
            wire.send(f"Authorization: Bearer {key}\r\n\r\n".encode())
            wire.answer()
    keys.path.write_text(f"{good}\nci {good} infer\n")
    until(lambda: "stay in force" in server.log)
    said = server.log + server.said
    assert "caller=ci" in said
    for key in (good, weak, stranger):
        assert key not in said
        assert digest_of(key.encode()).hex() not in said


def test_access_lines_have_the_caller(start: Serve, keys: KeyFile) -> None:
    good, weak = keys.add("ci"), keys.add("weak", "metrics")
    server = start("double", "--api-key-file", str(keys.path), "--log-format", "json")
    for key, te in ((good, {}), (weak, {}), (new_key(), {}), (good, {"te": "trailers"}), (weak, {"te": "trailers"})):
        call(server.url, "POST", "/", BODY, **shown(key), **te)

    def lines() -> list[tuple[int, str]]:
        records = [json.loads(line) for line in server.log.splitlines(keepends=True) if line.endswith("\n")]
        return [(each["status"], each["caller"]) for each in records if each["logger"] == "graphpipe.access"]

    until(lambda: len(lines()) == 5)
    assert lines() == [(200, "ci"), (403, "weak"), (401, ""), (200, "ci"), (403, "weak")]


def test_clients_hear_what_their_key_is_missing(start: Serve, keys: KeyFile) -> None:
    keys.add("infer", "infer")
    server = start("double", "--api-key-file", str(keys.path))
    for key, kind, ask in (
        (None, errors.Unauthenticated, lambda client: client.execute(X)),
        ("wrong", errors.Unauthenticated, lambda client: client.execute(X)),
        (keys.secrets["infer"], errors.Forbidden, lambda client: client.metadata()),
    ):
        with graphpipe.Client(server.url, api_key=key) as client, pytest.raises(kind, match="key"):
            ask(client)
    with graphpipe.Client(server.url, api_key=keys.secrets["infer"]) as client:
        assert np.array_equal(client.execute(X), X * 2)


def test_metrics_on_an_address_of_their_own_need_no_key(start: Serve, keys: KeyFile) -> None:
    keys.add("weak")
    server = start("double", "--api-key-file", str(keys.path), "--metrics-listen", "127.0.0.1:0")
    until(lambda: "metrics at " in server.log)
    side = server.log.partition("metrics at ")[2].split("/metrics")[0]
    assert get(f"{side}/metrics")[0] == 200
    assert "models: ok" in get(f"{side}/readyz?verbose")[1]
    assert get(f"{side}/models")[0] == 404
    assert get(f"{server.url}/metrics")[0] == 401


def test_while_no_worker_is_up_nobody_gets_metrics_where_keys_are_asked_for(start: Serve, keys: KeyFile) -> None:
    keys.add("weak")
    server = start("double", "--workers", "2", "--api-key-file", str(keys.path))
    stop_all(server)
    until(lambda: get(f"{server.url}/readyz")[0] == 503)
    assert get(f"{server.url}/livez")[0] == 200
    assert get(f"{server.url}/metrics")[0] in (401, 503)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_does_not_start_with_keys_that_it_cannot_read(tmp_path: Path, workers: str) -> None:
    path = tmp_path / "keys"
    for text, why in ((f"# c\nci {new_key()} infer\n", "line 2: the second word"), (None, "No such file or directory")):
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        ended = run_to_end("-m", "echo", "--workers", workers, "--api-key-file", path, "--listen", "127.0.0.1:0")
        assert ended.returncode == 1
        (line,) = ended.stderr.splitlines()
        assert f"--api-key-file {path}: " in line
        assert why in line
        assert "gp_" not in line


def test_a_file_that_everybody_may_read_is_a_warning(start: Serve, keys: KeyFile) -> None:
    keys.add("ci")
    is_warned: Callable[[Server], bool] = lambda server: "is open to everybody on this machine" in server.log  # noqa: E731
    assert not is_warned(start("double", "--api-key-file", str(keys.path)))
    keys.path.chmod(0o644)
    server = start("double", "--api-key-file", str(keys.path))
    until(lambda: is_warned(server))
