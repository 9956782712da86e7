"""Reads every row of a cache file, as a program of its own: ``python store_check.py FOLDER``.

LMDB trusts its file. Of one that something else has written to, a look at the wrong page can end the process that
looks; better this one than a server. Status 0: every page could be read and every checksum is right.
"""

import struct
import sys
import zlib

import lmdb


def main(folder: str) -> int:
    """Walk through both generations."""
    with lmdb.open(folder, readonly=True, lock=False, max_dbs=2, create=False) as environment:
        generations = [environment.open_db(name, create=False) for name in (b"rows0", b"rows1")]
        with environment.begin(buffers=True) as transaction:
            for generation in generations:
                for key, value in transaction.cursor(generation):
                    if len(value) < 8 or struct.unpack_from("<I", value)[0] != zlib.crc32(value[4:], zlib.crc32(key)):
                        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except lmdb.Error:
        sys.exit(1)
