"""Archives that mean harm: refused in one line, before anything of them is written, and without the memory they ask for."""

from __future__ import annotations

import gzip
import io
import os
import resource
import struct
import tarfile
import zipfile

import pytest

import graphpipe
from graphpipe.sources.archive import unpacked
from tests import onnx_graphs
from tests.backends.test_download import special, tarred, zipped

MIB = 1 << 20


def header(name: str, kind: bytes, size: int) -> bytes:
    head = tarfile.TarInfo(name)
    head.type, head.size = kind, size
    return head.tobuf(tarfile.USTAR_FORMAT)


def link_in_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        link = zipfile.ZipInfo("l")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc")
        archive.writestr("l/passwd", "x")
    return packed.getvalue()


def in_lzma() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("m", b"x" * 1000)
    return packed.getvalue()


def with_sparse() -> bytes:
    """A file of a mebibyte that is a hole, in GNU's form."""
    head = bytearray(header("hole", tarfile.GNUTYPE_SPARSE, 0))
    head[386:410] = struct.pack("12s12s", b"00000000000\0", b"00000000000\0")
    head[483:495] = b"00004000000\0"
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + bytes(1024)


def long_table() -> bytes:
    """A zip whose table of files has hundreds of thousands of entries, and no files."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    count = 9 * MIB // len(entry)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, count * len(entry), 0, 0)
    return entry * count + end


ARCHIVES = {
    "a link, and a file behind it": (
        "tar",
        tarred(special("l", tarfile.SYMTYPE, "."), ("l/x", b"1"), mode="w"),
        "'l' is a link",
    ),
    "a link to a link, further out than paths can be long": (
        "tar",
        tarred(special("d" * 200, tarfile.SYMTYPE, "/".join(["x" * 200] * 20)), ("a", b"1"), mode="w"),
        "is a link",
    ),
    "a hard link within": ("tar", tarred(("a", b"1"), special("b", tarfile.LNKTYPE, "a"), mode="w"), "'b' is a link"),
    "a link in a zip": ("zip", link_in_zip(), "'l' is a link"),
    "a block device": (
        "tar",
        tarred(special("sda", tarfile.BLKTYPE), ("a", b"1"), mode="w"),
        "neither a file nor a folder",
    ),
    "a file that is a hole": ("tar", with_sparse(), "a file with holes"),
    "a name with a NUL in a zip": ("zip", zipped(("../a\0.onnx", b"1")), "leads out of its folder"),
    "an absolute name in a tar": ("tar", tarred(("/tmp/evil", b"1"), mode="w"), "leads out of its folder"),
    "a name of a thousand folders": ("tar", tarred(("a/" * 1000 + "a", b"1"), mode="w"), "is no name of a file"),
    "a name that no disk takes": ("zip", zipped(("a" * 5000, b"1")), "."),
    "another compression": ("zip", in_lzma(), "compressed in another way than deflate"),
    "a table longer than any model's": ("zip", long_table(), "a header of more than 8388608 bytes"),
    "a header of a gibibyte": (
        "tgz",
        gzip.compress(header("x", tarfile.XHDTYPE, 1 << 30) + bytes(2 * MIB), 1),
        "a header of more than 65536 bytes",
    ),
    "a name of a gibibyte": (
        "tgz",
        gzip.compress(header("x", tarfile.GNUTYPE_LONGNAME, 1 << 30) + bytes(2 * MIB), 1),
        "a header of more than 65536 bytes",
    ),
    "headers without end": ("tgz", gzip.compress(header("x", tarfile.XHDTYPE, 0) * 5000, 1), "."),
    "nothing, behind its end": (
        "tgz",
        gzip.compress(tarred(("a", b"1"), mode="w") + bytes(512 * MIB), 1),
        "holds more than",
    ),
}


@pytest.mark.parametrize(("kind", "packed", "words"), ARCHIVES.values(), ids=ARCHIVES)
def test_it_is_refused_in_one_line_and_nothing_is_written(tmp_path, kind, packed, words):
    path = tmp_path / f"m.{kind}"
    path.write_bytes(packed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(graphpipe.LoadError, match=f"cannot be unpacked: .*{words}") as refused:
        unpacked(path, 10 * MIB)
    assert "\n" not in str(refused.value)
    assert os.listdir(tmp_path) == [path.name]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024  # in KiB


def test_what_is_a_hundred_times_its_own_size_holds_no_model(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("m", bytes(80 * MIB))
    with pytest.raises(graphpipe.LoadError, match="it holds more than 100 times its own"):
        unpacked(tmp_path / "m.zip", 1 << 34)
    assert os.listdir(tmp_path) == ["m.zip"]


def test_a_file_that_says_it_is_longer_than_it_is_and_one_that_says_it_is_shorter(tmp_path):
    whole = bytearray(zipped(("m", os.urandom(1000))))
    place = whole.index(b"PK\x01\x02") + 24
    for size in (500, 5000):
        whole[place : place + 4] = struct.pack("<L", size)
        (tmp_path / "m.zip").write_bytes(whole)
        with pytest.raises(graphpipe.LoadError, match="cannot be unpacked"):
            unpacked(tmp_path / "m.zip", MIB)


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_what_is_as_it_should_be_comes_out_as_it_went_in(tmp_path, kind):
    content = onnx_graphs.scaled(tmp_path / "m.onnx", 3.0).read_bytes()
    files = (("model/1/m.onnx", content), ("model/labels.txt", b"a\nb\n"), ("model/empty", b""))
    pack = zipped(*files) if kind == "zip" else tarred(*files, mode="w" if kind == "tar" else "w:gz")
    (tmp_path / f"m.{kind}").write_bytes(pack)
    folder = unpacked(tmp_path / f"m.{kind}", MIB)
    assert {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == {
        name.removeprefix("model/"): data for name, data in files
    }
