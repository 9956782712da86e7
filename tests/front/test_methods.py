"""Which methods a path of another protocol has: said the same on every way in, and nothing besides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from graphpipe.backends.echo import Echo
from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from tests.front.servers import InProcess, Way, in_process
from tests.raw_http import Answer, Wire

WAYS = ("hot", "odd", "HTTP/1.0", "unix", "passing", "tls")
READ, ASKED = "GET, HEAD, OPTIONS", "OPTIONS, POST"
PATHS = {
    "/v2": READ,
    "/v2/": READ,
    "/v2/health/live": READ,
    "/v2/health/ready": READ,
    "/v2/models/stats": READ,
    "/v2/repository/index": ASKED,
    "/v2/models/echo": READ,
    "/v2/models/echo/ready": READ,
    "/v2/models/echo/config": READ,
    "/v2/models/echo/versions/1/stats": READ,
    "/v2/models/echo/infer": ASKED,
    "/v2/models/echo/versions/1/infer": ASKED,
    "/v1/models": READ,
    "/v1/models/echo": READ,
    "/v1/models/echo/metadata": READ,
    "/v1/models/echo/versions/1": READ,
    "/v1/models/echo:predict": ASKED,
    "/v1/models/echo/versions/1:classify": ASKED,
    "/x/../v2/models/echo/infer": ASKED,
}


def ask(ways: dict[str, Way], way: str, method: str, path: str) -> Answer:
    version = "1.0" if way == "HTTP/1.0" else "1.1"
    more = "TE: trailers\r\n" if way == "odd" else ""
    with ways[way].wire() as wire:
        wire.send(f"{method} {path} HTTP/{version}\r\nHost: h\r\n{more}Content-Length: 0\r\n\r\n".encode())
        return wire.answer(to_head=method == "HEAD")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", PATHS)
def test_a_path_says_its_own_methods_to_whoever_asks_and_to_whoever_uses_another(
    ways: dict[str, Way], path: str, way: str
) -> None:
    answer = ask(ways, way, "OPTIONS", path)
    assert (answer.status, answer.headers["allow"], answer.body) == (204, PATHS[path], b"")
    for method in ("PUT", "DELETE", "PATCH", "POST" if PATHS[path] == READ else "GET"):
        answer = ask(ways, way, method, path)
        assert (answer.status, answer.headers["allow"]) == (405, PATHS[path])
        assert f"{method} is not served here; use {'GET' if PATHS[path] == READ else 'POST'}" in answer.text


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "GET", "POST", "HEAD"])
@pytest.mark.parametrize("path", ["/v2/nothing", "/v2/models/echo/nothing", "/v2/models", "/v1", "/v1/nothing"])
def test_a_path_that_is_nobody_s_is_not_found_by_any_method(
    ways: dict[str, Way], path: str, method: str, way: str
) -> None:
    answer = ask(ways, way, method, path)
    assert (answer.status, "allow" in answer.headers) == (404, False)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[InProcess, dict[str, str]]]:
    secrets = {name: new_key() for name in ("only-b", "metrics")}
    path: Path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(
        text_of(key_of("only-b", digest_of(secrets["only-b"].encode()), ["infer", "metadata"], models=["b"]))
        + "\n"
        + text_of(key_of("metrics", digest_of(secrets["metrics"].encode()), ["metrics"]))
        + "\n"
    )
    with in_process({"a": Echo(), "b": Echo()}, api_key_file=str(path)) as running:
        yield running, secrets


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    [
        "/models/{}",
        "/v2/models/{}",
        "/v2/models/{}/infer",
        "/v2/models/{}/ready",
        "/v2/models/{}/versions/1/infer",
        "/v2/models/{}/nothing",
        "/v1/models/{}",
        "/v1/models/{}:predict",
        "/v1/models/{}/metadata",
        "/v1/models/{}/versions/1:predict",
        "/v1/models/{}/nothing",
    ],
)
@pytest.mark.parametrize("odd", [False, True])
def test_no_method_tells_a_key_whether_a_model_is_there_that_is_not_its_own(
    locked: tuple[InProcess, dict[str, str]], path: str, method: str, odd: bool
) -> None:
    server, secrets = locked
    for name in ("only-b", "metrics", ""):
        fields = {"authorization": f"Bearer {secrets[name]}"} if name else {}
        if odd:
            fields["te"] = "trailers"
        said = []
        for model in ("a", "nobody"):
            with Wire(server.url, 10) as wire:
                body = b"" if method in ("POST", "PUT") else None
                answer = wire.call(method, path.format(model), body, **fields)
            text = answer.body.replace(b"nobody", b"a")
            said.append((answer.status, answer.headers.get("allow"), text))
        assert said[0] == said[1]
        assert name or said[0][0] == 401
