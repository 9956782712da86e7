"""Whatever happens to the cache's file: it opens, and no row is wrong."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from graphpipe.server.stages.cache import file as file_module
from graphpipe.server.stages.cache import store as store_module
from graphpipe.server.stages.cache.file import StoreUnavailable
from graphpipe.server.stages.cache.store import RowStore, remove, store_folder
from tests.serving import environment

MIB = 1 << 20


@contextlib.contextmanager
def opened(folder: Path, bytes_max: int = 8 * MIB):
    store = RowStore.open(folder, bytes_max)
    try:
        yield store
    finally:
        store.close()


def key(number: int) -> bytes:
    return random.Random(number).randbytes(64)


def value(number: int) -> bytes:
    """What belongs under a key: anybody can tell whether it is right."""
    size = 10 + number * 37 % 5000
    return (b"%d " % number * size)[:size]


def rows(numbers) -> list[tuple[bytes, bytes]]:
    return [(key(number), value(number)) for number in numbers]


def read(store: RowStore, numbers) -> dict[int, bytes]:
    """Those of the rows that are there."""
    with store.reading() as reading:
        found = dict(zip(numbers, reading.get([key(number) for number in numbers]), strict=True))
        return {number: bytes(data) for number, data in found.items() if data is not None}


def test_what_is_written_is_read_until_it_is_cleared(tmp_path):
    with opened(tmp_path) as store:
        store.write(rows(range(100)))
        assert read(store, range(200)) == {number: value(number) for number in range(100)}
    with opened(tmp_path) as store:
        assert len(read(store, range(200))) == 100
        assert store.clear() == 100
        assert read(store, range(200)) == {}


def test_the_limit_is_held_and_what_is_used_stays(tmp_path):
    favourites = range(10)
    evicted = 0
    with opened(tmp_path, 2 * MIB) as store:
        store.write(rows(favourites))
        for start in range(10, 6000, 100):
            evicted += store.write(rows(range(start, start + 100))).evicted
            with store.reading() as reading:
                assert None not in reading.get([key(number) for number in favourites])
            store.write([], reading.old)
            counts = store.counts()
            assert counts.bytes <= 2 * MIB
            assert counts.file_bytes <= 2 * MIB, start
        assert evicted > 4000
        assert evicted + counts.rows == 6010
        found = read(store, range(6010))
        assert found == {number: value(number) for number in found}
        assert len(found) == counts.rows


def test_a_row_that_would_evict_all_others_is_not_kept(tmp_path):
    with opened(tmp_path, 2 * MIB) as store:
        assert store.fits(60_000)
        assert not store.fits(100_000)


_WRITER = """
import sys
from pathlib import Path
from tests.rows.test_store import RowStore, rows, MIB
store = RowStore.open(Path(sys.argv[1]), 4 * MIB)
print("open", flush=True)
start = int(sys.argv[2])
while True:
    store.write(rows(range(start, start + 50)), [key for key, _ in rows(range(max(0, start - 500), start))])
    start += 50
    print(start, flush=True)
"""


def test_a_writer_killed_ten_times_leaves_a_cache_that_opens_and_no_row_that_is_wrong(tmp_path):
    start = 0
    for round_number in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path), str(start)],
            stdout=subprocess.PIPE,
            env=environment(),
            cwd=ROOT,
        )
        with process:
            assert process.stdout.readline() == b"open\n"
            written = [int(process.stdout.readline()) for _ in range(2 + round_number % 3)]
            os.kill(process.pid, signal.SIGKILL)
        start = written[-1]
        with opened(tmp_path, 4 * MIB) as store:
            found = read(store, range(start + 500))
            assert found == {number: value(number) for number in found}
            # What was committed last is there, and that is no less than the disk had been told when the kill came. The
            # writer may have gone far ahead since; what came before is dropped then.
            newest = max(found)
            assert newest >= start - 1
            assert set(range(newest - 49, newest + 1)) <= found.keys()


ROOT = Path(__file__).parents[2]


def _overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


DAMAGES = {
    "garbage": lambda path: path.write_bytes(os.urandom(path.stat().st_size)),
    "emptied": lambda path: path.write_bytes(b""),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut to a page": lambda path: os.truncate(path, 4096),
    "text": lambda path: path.write_text("not a cache"),
    "a zeroed middle": lambda path: _overwrite(path, path.stat().st_size // 3, bytes(path.stat().st_size // 3)),
    "noise from page 2 on": lambda path: _overwrite(path, 8192, random.Random(1).randbytes(path.stat().st_size - 8192)),
    "noise on every tenth page": lambda path: [
        _overwrite(path, at, random.Random(at).randbytes(4096)) for at in range(8192, path.stat().st_size - 4096, 40960)
    ],
    "one flipped bit in every page": lambda path: [
        _overwrite(path, at + 999, bytes([path.read_bytes()[at + 999] ^ 4]))
        for at in range(8192, path.stat().st_size - 4096, 4096)
    ],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_a_fresh_start_or_holds_right_rows_only(tmp_path, caplog, damage):
    with opened(tmp_path, 4 * MIB) as store:
        store.write(rows(range(500)))
    DAMAGES[damage](tmp_path / "data.mdb")
    with opened(tmp_path, 4 * MIB) as store:
        found = read(store, range(500))
        assert found == {number: value(number) for number in found}
        store.write(rows(range(500, 600)))
        assert len(read(store, range(500, 600))) == 100
    if not found:
        assert "starts anew" in caplog.text


def test_a_value_that_was_changed_on_disk_is_not_answered(tmp_path):
    with opened(tmp_path) as store:
        store.write([(b"a" * 64, b"the right answer" * 500)])
        # As it would look if one page were rotten while the process runs.
        file = (tmp_path / "data.mdb").read_bytes()
        _overwrite(tmp_path / "data.mdb", file.index(b"the right answer"), b"the wrong answer")
        with store.reading() as reading:
            assert reading.get([b"a" * 64]) == [None]
            assert reading.bad == 1


def test_a_value_found_under_another_key_is_not_answered(tmp_path):
    with opened(tmp_path) as store:
        store.write([(b"a" * 64, b"one"), (b"b" * 64, b"two")])
        with store._environment.begin(write=True) as transaction:
            generation = store._generations[0]
            transaction.put(b"a" * 64, transaction.get(b"b" * 64, db=generation), db=generation)
        with store.reading() as reading:
            assert reading.get([b"a" * 64]) == [None]
            assert bytes(reading.get([b"b" * 64])[0]) == b"two"


def test_a_file_of_another_version_is_a_fresh_start(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(file_module, "_FORMAT", b"graphpipe rows 1")
    with opened(tmp_path) as store:
        store.write(rows(range(10)))
    monkeypatch.undo()
    with opened(tmp_path) as store:
        assert read(store, range(10)) == {}
        store.write(rows(range(10)))
        assert len(read(store, range(10))) == 10
    assert "another version" in caplog.text


def test_a_file_that_another_version_has_open_is_left_alone(tmp_path):
    older = "file_module._FORMAT = b'graphpipe rows 1'"
    with _elsewhere(tmp_path, older), pytest.raises(StoreUnavailable, match="another version"):
        RowStore.open(tmp_path, MIB)


def test_a_folder_that_is_locked_for_good_is_no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "_LOCK_TIMEOUT_S", 0.1)
    program = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "in-use")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        holder.stdout.readline()
        with pytest.raises(StoreUnavailable, match="locked"):
            RowStore.open(tmp_path, MIB)
        holder.stdin.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_folder_that_may_not_be_written_is_no_cache(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreUnavailable, match="denied"):
        RowStore.open(tmp_path / "rows", MIB)


def test_a_folder_that_cannot_be_is_no_cache(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable):
        RowStore.open(tmp_path / "file" / "rows", MIB)


_ELSEWHERE = """
import sys
from pathlib import Path
from graphpipe.server.stages.cache import file as file_module
from tests.rows.test_store import *
{prepare}
store = RowStore.open(Path(sys.argv[1]), MIB)
print("open", flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


@contextlib.contextmanager
def _elsewhere(folder: Path, prepare: str = ""):
    """Another process with the store open; gives a function that evaluates there."""
    process = subprocess.Popen(
        [sys.executable, "-c", _ELSEWHERE.format(prepare=prepare), str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), cwd=ROOT, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout.readline() == "open\n"

        def do(expression: str) -> str:
            process.stdin.write(expression + "\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        yield do
        process.stdin.close()


def test_processes_share_one_store(tmp_path):
    with _elsewhere(tmp_path) as elsewhere, opened(tmp_path, MIB) as store:
        elsewhere("store.write(rows(range(10)))")
        assert len(read(store, range(10))) == 10
        store.write(rows(range(10, 20)))
        assert elsewhere("len(read(store, range(20)))") == "20"
        for start in range(100, 4000, 100):  # through several changes of generations, from both sides
            store.write(rows(range(start, start + 20)))
            elsewhere(f"store.write(rows(range({start} + 20, {start} + 40)))")
            mine, theirs = (
                read(store, range(start, start + 40)),
                elsewhere(f"len(read(store, range({start}, {start} + 40)))"),
            )
            assert len(mine) == int(theirs) == 40
        assert store.counts().bytes <= MIB


def test_the_limit_of_those_who_are_there_holds_for_who_comes_later(tmp_path, caplog):
    with _elsewhere(tmp_path) as elsewhere:
        with opened(tmp_path, 64 * MIB) as store:
            assert store.bytes_max == MIB
            assert elsewhere("len(read(store, range(20)))") == "0"
        assert "which holds instead" in caplog.text
    with opened(tmp_path, 64 * MIB) as store:
        assert store.bytes_max == 64 * MIB


def test_a_store_is_one_object_in_a_process_and_closed_with_its_last_user(tmp_path):
    first, second = RowStore.open(tmp_path, MIB), RowStore.open(tmp_path / ".." / tmp_path.name, MIB)
    assert first is second
    first.close()
    second.write(rows(range(3)))
    assert len(read(second, range(3))) == 3
    second.close()
    with opened(tmp_path, MIB) as third:
        assert third is not first


def test_a_full_disk_is_an_error_of_writing_and_not_of_reading(tmp_path):
    program = f"""
import resource, signal, lmdb
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from tests.rows.test_store import *
store = RowStore.open(Path({str(tmp_path)!r}), 64 * MIB)
store.write(rows(range(100)))
resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, 2 * MIB))
try:
    for start in range(100, 20000, 1000):
        store.write(rows(range(start, start + 1000)))
except lmdb.Error as error:
    print("failed")
found = read(store, range(20000))
assert found == {{number: value(number) for number in found}}
assert len(read(store, range(100))) == 100
print("read")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment(), cwd=ROOT, text=True)
    assert done.stdout.split() == ["failed", "read"], done.stderr
    with opened(tmp_path) as store:
        assert read(store, range(100)) == {number: value(number) for number in range(100)}


def test_a_limit_made_much_smaller_is_a_fresh_start(tmp_path, caplog):
    with opened(tmp_path, 32 * MIB) as store:
        for start in range(0, 5000, 500):
            store.write(rows(range(start, start + 500)))
    with opened(tmp_path, MIB) as store:
        assert store.counts().file_bytes <= MIB
    assert "larger than its limit" in caplog.text


def test_only_what_nobody_uses_can_be_removed(tmp_path):
    folder = tmp_path / "rows"
    with opened(folder):
        assert not remove(folder)
    assert remove(folder)
    assert not folder.exists()


def test_a_models_name_cannot_lead_out_of_the_folder(tmp_path):
    for name in ("..", "../../etc", "a/b", ".", "", "é\n"):
        assert store_folder(tmp_path, name).parent == tmp_path
    assert store_folder(tmp_path, "a") != store_folder(tmp_path, "A")


def test_the_files_are_for_their_owner_only(tmp_path):
    with opened(tmp_path / "rows") as store:
        store.write(rows(range(3)))
        for path in [tmp_path / "rows", *(tmp_path / "rows").iterdir()]:
            assert path.stat().st_mode & 0o077 == 0, path
