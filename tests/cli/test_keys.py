"""`graphpipe keys`: keys are made, listed and taken back; a file is replaced as a whole or not at all."""

from __future__ import annotations

import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from graphpipe.cli.keys import _change
from graphpipe.keyfile import digest_of, keys_in
from tests.serving import serving


def read(path):
    return {key.name: key for key in keys_in(path.read_text(), "here")}


def test_a_key_is_printed_once_and_kept_nowhere(graphpipe, folder):
    status, out, err = graphpipe("keys", "add", "--file", "k", "ci", "--scopes", "infer,metadata", "--expires", "30d")
    assert (status, err) == (0, "")
    key = out.split()[-1]
    assert re.fullmatch(r"gp_[A-Za-z0-9_-]{43}", key)
    assert key not in (folder / "k").read_text()
    made = read(folder / "k")["ci"]
    assert made.digest == digest_of(key.encode())
    assert (made.scopes, made.models) == ({"infer", "metadata"}, None)
    assert stat.S_IMODE((folder / "k").stat().st_mode) == 0o600
    graphpipe(
        "keys", "add", "--file", "k", "guest", "--scopes", "infer", "--models", "a,b c", "--expires", "2999-01-01"
    )
    status, out, err = graphpipe("keys", "list", "--file", "k")
    assert (status, err) == (0, "")
    assert out.splitlines()[0].split() == ["name", "scopes", "models", "expires"]
    assert out.splitlines()[2].split() == ["guest", "infer", "a,b", "c", "2999-01-01T00:00:00Z"]
    assert made.digest.hex() not in out


def test_what_is_added_and_revoked_leaves_the_rest_as_it_is(graphpipe, folder):
    path = folder / "k"
    path.write_text(f"# by hand\n  old  sha256:{'0' * 64}   infer  # why\n\nnew sha256:{'1' * 64} admin")
    path.chmod(0o640)
    before = path.read_text()
    assert graphpipe("keys", "add", "--file", "k", "ci", "--scopes", "metrics")[0] == 0
    assert path.read_text().startswith(f"{before}\nci sha256:")
    assert graphpipe("keys", "revoke", "--file", "k", "ci") == (0, "The key of ci is revoked.\n", "")
    assert path.read_text() == f"{before}\n"
    assert graphpipe("keys", "revoke", "--file", "k", "old")[0] == 0
    assert path.read_text() == f"# by hand\n\nnew sha256:{'1' * 64} admin\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640  # a server that runs as another user reads it
    assert not [name for name in os.listdir(folder) if name.startswith(".k")]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["add", "ci", "--scopes", "infer"], "has a key of ci already"),
        (["add", "a b", "--scopes", "infer"], "a name has 1 to 64"),
        (["add", "new", "--scopes", "fly"], "scopes are some of infer, metadata, metrics, admin"),
        (["add", "new", "--scopes", "infer", "--expires", "2001-01-01"], "is over already"),
        (["add", "new", "--scopes", "infer", "--expires", "soon"], "a time is 2027-01-01"),
        (["revoke", "nobody"], "has no key of nobody"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(graphpipe, folder, arguments, why):
    (folder / "k").write_text(f"ci sha256:{'0' * 64} infer\n")
    status, out, err = graphpipe("keys", *arguments, "--file", "k")
    assert (status, out) == (1, "")
    assert why in err
    assert (folder / "k").read_text() == f"ci sha256:{'0' * 64} infer\n"


def test_a_broken_file_is_not_added_to(graphpipe, folder):
    (folder / "k").write_text("broken\n")
    for command in (["add", "new", "--scopes", "infer"], ["revoke", "broken"], ["list"]):
        status, out, err = graphpipe("keys", *command, "--file", "k")
        assert (status, out) == (1, "")
        assert "k: line 1: expected a name" in err
    assert (folder / "k").read_text() == "broken\n"
    assert graphpipe("keys", "revoke", "x", "--file", "nowhere") == (1, "", "graphpipe: there is no file nowhere\n")
    assert not (folder / "nowhere").exists()


def test_nothing_is_lost_of_what_several_change_at_once(folder):
    def add(number):
        _change("k", lambda text: f"{text}c{number} sha256:{number:064x} infer\n")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert sorted(read(folder / "k")) == sorted(f"c{number}" for number in range(40))


def test_a_key_opens_a_server_to_the_commands(graphpipe, folder, monkeypatch):
    _, out, _ = graphpipe("keys", "add", "--file", "k", "ci", "--scopes", "infer,metadata")
    key = out.split()[-1]
    with serving("-m", "echo", "--api-key-file", folder / "k") as server:
        status, _, err = graphpipe("execute", server.url, "--input", "[1]")
        assert (status, "a key is missing" in err) == (1, True)
        assert graphpipe("execute", server.url, "--input", "[1]", "--api-key", key)[0] == 0
        monkeypatch.setenv("GRAPHPIPE_API_KEY", key)
        assert graphpipe("metadata", server.url)[0] == 0
