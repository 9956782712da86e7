"""A server that asks for keys or certificates is a model too: who we are to it comes from files, and goes nowhere else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trustme

import graphpipe
from graphpipe.backends import LoadOptions, open_model
from graphpipe.errors import InvalidRequest, LoadError, UpstreamFailed
from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from tests.canned import Caller, answer, canned
from tests.certificates import Files, chain_of, trusting
from tests.onnx_graphs import scaled
from tests.raw_http import call
from tests.serving import Server, run_to_end

Serve = Callable[..., Server]

X = np.arange(8, dtype=np.float32).reshape(2, 4)


class Keys:
    """An upstream's file of keys, and ours with one of them."""

    def __init__(self, folder: Path) -> None:
        self.theirs, self.ours = folder / "theirs", folder / "ours"

    def give(self, *scopes: str) -> str:
        """Another key is good, and no other; ours is as it was."""
        key = new_key()
        self._write(self.theirs, text_of(key_of("proxy", digest_of(key.encode()), scopes or ["infer", "metadata"])))
        return key

    def take(self, key: str) -> None:
        """This is our key from now on."""
        self._write(self.ours, key)

    def _write(self, path: Path, text: str) -> None:
        beside = path.with_suffix(".new")
        beside.write_text(f"{text}\n")
        beside.chmod(0o600)
        os.replace(beside, path)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    made = Keys(tmp_path)
    made.take(made.give())
    return made


@pytest.fixture
def upstream(serve: Serve, tmp_path: Path) -> Callable[..., Server]:
    model = scaled(tmp_path / "double.onnx", 2)
    # Idle connections over TLS are not waited for.
    return lambda *flags, **more: serve("-m", model, "--drain-timeout-s", "1", *flags, **more)


def is_answered(client: graphpipe.Client) -> bool:
    return np.array_equal(client.execute(X), X * 2)


def test_a_proxy_shows_its_key_and_none_of_its_callers_needs_one(
    upstream: Callable[..., Server], serve: Serve, keys: Keys
) -> None:
    first = upstream("--api-key-file", keys.theirs)
    proxy = serve("-m", first.url, "--upstream-api-key-file", keys.ours)
    with graphpipe.Client(proxy.url) as client:
        assert is_answered(client)
        assert [io.name for io in client.metadata().inputs] == ["x"]


@pytest.mark.parametrize("cached", [False, True])
def test_the_batcher_of_the_original_shows_it_too(
    upstream: Callable[..., Server], serve: Serve, keys: Keys, cached: bool, tmp_path: Path
) -> None:
    first = upstream("--api-key-file", keys.theirs)
    flags = ["--cache", "--cache-dir", tmp_path / "rows"] if cached else []
    batcher = serve(
        "--target-url", first.url, "-l", "127.0.0.1:0", "--timeout", "1", "--drain-grace-s", "0",
        *flags, "--upstream-api-key-file", keys.ours, code="from graphpipe.aliases import batcher; batcher()",
    )  # fmt: skip
    with graphpipe.Client(batcher.url) as client:
        for _ in range(3):
            assert is_answered(client)


def test_a_key_that_is_replaced_is_shown_without_a_restart_and_without_a_failed_request(
    upstream: Callable[..., Server], serve: Serve, keys: Keys
) -> None:
    first = upstream("--api-key-file", keys.theirs)
    proxy = serve("-m", first.url, "--upstream-api-key-file", keys.ours)
    with graphpipe.Client(proxy.url) as client, graphpipe.Client(first.url, timeout=10) as direct:
        for _ in range(3):
            keys.take(keys.give())
            key = keys.ours.read_text().strip()
            while True:  # until the upstream has read its own file
                try:
                    direct.metadata(headers={"Authorization": f"Bearer {key}"})
                    break
                except graphpipe.ServiceError:
                    pass
            assert is_answered(client)
        keys.ours.write_text("two words\n")
        os.utime(keys.ours, ns=(1, 1))
        assert is_answered(client)  # what is no key changes nothing
        keys.ours.unlink()
        assert is_answered(client)


def test_a_key_that_is_not_good_is_the_servers_fault_and_not_its_callers(
    upstream: Callable[..., Server], serve: Serve, keys: Keys
) -> None:
    first = upstream("--api-key-file", keys.theirs)
    proxy = serve("-m", first.url, "--upstream-api-key-file", keys.ours)
    with graphpipe.Client(proxy.url, api_key="the-callers-own") as client:
        assert is_answered(client)
        keys.take(keys.give("metadata"))
        until = time.monotonic() + 20
        while time.monotonic() < until:  # the files are looked at from time to time
            try:
                client.execute(X)
            except UpstreamFailed as refused:
                assert (refused.code, refused.http_status) == (12, 502)
                assert f"upstream {first.url} does not let this server in" in refused.message
                if "lacks the scope 'infer'" in refused.message:
                    break
        else:
            raise AssertionError("the key that lacks a scope was not refused")


def test_rows_that_one_key_was_answered_are_not_given_for_another(
    upstream: Callable[..., Server], serve: Serve, keys: Keys, tmp_path: Path
) -> None:
    first = upstream("--api-key-file", keys.theirs)
    flags = ("-m", f"m={first.url}", "--cache", "--cache-dir", tmp_path / "rows", "--upstream-api-key-file", keys.ours)
    proxy = serve(*flags)
    with graphpipe.Client(proxy.url) as client:
        for _ in range(3):
            assert is_answered(client)
        may_infer = keys.ours.read_text().strip()
        keys.take(keys.give("metadata"))
        first.stop()  # with the file that was replaced, as another would have it
    upstream("--api-key-file", keys.theirs, listen=f"127.0.0.1:{first.port}")
    for server in (proxy, None):
        if server is None:
            proxy.stop()
            server = serve(*flags)
        with graphpipe.Client(server.url) as client:
            with pytest.raises(UpstreamFailed, match="lacks the scope"):
                client.execute(X)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "rows").rglob("*") if path.is_file())
    assert may_infer.encode() not in stored
    assert digest_of(may_infer.encode()) not in stored


def test_the_key_is_in_no_log_no_error_and_on_no_page(
    upstream: Callable[..., Server], serve: Serve, keys: Keys
) -> None:
    first = upstream("--api-key-file", keys.theirs)
    flags = ("-m", first.url, "--upstream-api-key-file", keys.ours, "-vv", "--debug", "--log-values")
    proxy = serve(*flags, tracebacks=True)
    key = keys.ours.read_text().strip()
    said = []
    with graphpipe.Client(proxy.url) as client:
        assert is_answered(client)
        for path in ("/models", "/metrics", "/readyz?verbose", "/"):
            said.append(call(proxy.url, "GET", path).text)
        with pytest.raises(InvalidRequest) as refused:
            client.execute(X.astype(int))
        first.stop()
        with pytest.raises(UpstreamFailed) as gone:
            client.execute(X)
    printed = run_to_end(*flags, "--print-config")
    said += [str(refused.value), str(gone.value), printed.stdout, printed.stderr, proxy.log, proxy.said]
    assert not [text for text in said if key in text]


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "500 Oops", "418 I am a teapot", "broken"])
def test_an_upstream_that_sends_back_what_it_was_sent_gives_no_key_away(tmp_path: Path, status: str) -> None:
    key = new_key()
    (tmp_path / "key").write_text(key)
    options = LoadOptions(upstream_api_key_file=str(tmp_path / "key"))
    asked = []

    def repeats(caller: Caller) -> None:
        head = caller.read_head()
        asked.append(head)
        caller.send(head if status == "broken" else answer(head, status, "Connection: close"))

    with canned(repeats) as server, pytest.raises(LoadError) as refused:
        open_model(server.url, options)
    assert key.encode() in asked[0]
    error: BaseException | None = refused.value
    while error is not None:
        assert key not in f"{error!r} {error}"
        error = error.__cause__ or error.__context__


def test_a_proxy_shows_its_certificate_and_takes_up_another(
    upstream: Callable[..., Server], serve: Serve, tmp_path: Path
) -> None:
    servers, callers = trustme.CA(), trustme.CA()
    theirs, ours = Files(tmp_path / "theirs"), Files(tmp_path / "ours")
    theirs.in_place(servers.issue_cert("127.0.0.1"))
    ours.in_place(callers.issue_cert("a@b.org", common_name="proxy"))
    for name, authority in (("servers.pem", servers), ("callers.pem", callers)):
        (tmp_path / name).write_bytes(authority.cert_pem.bytes())
    first = upstream(*theirs.flags, "--tls-client-ca", tmp_path / "callers.pem")
    assert first.url.startswith("https:")
    tls = (
        "--upstream-tls-ca", tmp_path / "servers.pem", "--upstream-tls-cert", ours.cert, "--upstream-tls-key", ours.key,
    )  # fmt: skip
    proxy = serve("-m", first.url, *tls)
    batcher = serve("--target-url", first.url, "-l", "127.0.0.1:0", "--timeout", "1", *tls, "--drain-grace-s", "0",
                    code="from graphpipe.aliases import batcher; batcher()")  # fmt: skip
    with graphpipe.Client(proxy.url) as client, graphpipe.Client(batcher.url) as rows:
        assert is_answered(client)
        assert is_answered(rows)
        # Both sides get new authorities and new certificates, one after the other.
        more = trustme.CA()
        first.stop()
        theirs.in_place(more.issue_cert("127.0.0.1"))
        (tmp_path / "callers.pem").write_bytes(more.cert_pem.bytes())
        upstream(*theirs.flags, "--tls-client-ca", tmp_path / "callers.pem", listen=f"127.0.0.1:{first.port}")
        for each in (client, rows):
            with pytest.raises(UpstreamFailed, match="its certificate is not trusted"):
                each.execute(X)
        (tmp_path / "servers.pem").write_bytes(more.cert_pem.bytes())
        with pytest.raises(UpstreamFailed, match="wants a certificate of the caller that it trusts"):
            client.execute(X)
        ours.rename(more.issue_cert("a@b.org", common_name="proxy"))
        for each in (client, rows):
            assert is_answered(each)


def test_a_certificate_and_its_key_may_be_in_one_file_and_python_says_it_with_the_same_names(
    upstream: Callable[..., Server], tmp_path: Path
) -> None:
    authority = trustme.CA()
    theirs = Files(tmp_path / "theirs")
    theirs.in_place(authority.issue_cert("127.0.0.1"))
    ca, both = tmp_path / "ca.pem", tmp_path / "both.pem"
    ca.write_bytes(authority.cert_pem.bytes())
    leaf = authority.issue_cert("a@b.org")
    both.write_bytes(leaf.private_key_pem.bytes() + chain_of(leaf))
    server = upstream(*theirs.flags, "--tls-client-ca", ca)
    with graphpipe.load(server.url, upstream_tls_ca=ca, upstream_tls_cert=both) as model:
        assert np.array_equal(model.infer({"x": X})["y"], X * 2)
    with pytest.raises(LoadError, match=r"wants a certificate .*--upstream-tls-cert"):
        graphpipe.load(server.url, upstream_tls_ca=ca)
    with graphpipe.Client(server.url, tls=trusting(authority, leaf)) as client:
        assert is_answered(client)


def test_what_cannot_be_shown_is_refused_in_one_line_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"ci sha256:{'0' * 64} infer\n")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "secret").write_bytes(b"\xff\x00secret")
    (tmp_path / "pem").write_text("no certificate\n")
    url, secured = "http://127.0.0.1:1", "https://127.0.0.1:1"
    for source, said, words in (
        (url, {"upstream_api_key_file": "list"}, "expected a key as `graphpipe keys add` prints it"),
        (url, {"upstream_api_key_file": "empty"}, "expected a key"),
        (url, {"upstream_api_key_file": "secret"}, "expected a key"),
        (url, {"upstream_api_key_file": "nowhere"}, "No such file or directory"),
        (secured, {"upstream_tls_ca": "pem"}, "it has no certificate in PEM"),
        (secured, {"upstream_tls_ca": "nowhere"}, "No such file or directory"),
        (secured, {"upstream_tls_cert": "pem"}, "it has no certificate and key in PEM"),
        (secured, {"upstream_tls_key": "pem"}, "does nothing without --upstream-tls-cert"),
        (url, {"upstream_tls_ca": "pem"}, "it is for models that are servers at https://"),
        ("echo", {"upstream_api_key_file": "list"}, "it is for models that are other servers"),
    ):
        with pytest.raises(LoadError) as refused:
            graphpipe.load(source, **{name: str(tmp_path / value) for name, value in said.items()})  # type: ignore[arg-type]
        message = str(refused.value)
        assert words in message, message
        assert "\n" not in message
        assert "secret\x00" not in message
        assert "sha256" not in message
    done = run_to_end("-m", secured, "--upstream-tls-key", tmp_path / "pem")
    assert (done.returncode, "does nothing without --upstream-tls-cert" in done.stderr) == (2, True), done.stderr


def test_an_upstream_that_asks_for_a_key_says_how_it_is_given(upstream: Callable[..., Server], keys: Keys) -> None:
    first = upstream("--api-key-file", keys.theirs)
    done = run_to_end("-m", first.url)
    assert done.returncode == 1
    assert "a key is missing" in done.stderr
    assert "--upstream-api-key-file names the file that has it" in done.stderr
    # The key of a shell is its user's, for the servers that he names; a server sends it nowhere.
    done = run_to_end("-m", first.url, env={"GRAPHPIPE_API_KEY": keys.ours.read_text().strip()})
    assert "a key is missing" in done.stderr
