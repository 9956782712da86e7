#!/usr/bin/env python3
"""Run an adapter over the conformance vectors of GraphPipe, and say what came of it.

    python runner.py [--vectors FOLDER] [--only TEXT] [--failures N] -- COMMAND [ARGUMENT ...]

COMMAND is a program that reads cases as JSON lines and answers each with a line; NEW-CLIENT.md beside this file in the
archive (docs/new-client.md of the clone) has the lines. This file is all that there is of the runner, and needs Python
3.8 and nothing else.
The status is 0 if nothing failed; what the adapter calls unsupported is counted apart.
"""

import argparse
import array
import base64
import contextlib
import json
import struct
import subprocess
import sys
import threading
from pathlib import Path

ANSWER_S_MAX = 120
ROWS = {
    "valid": "valid messages, read",
    "invalid": "invalid messages, refused",
    "attacks": "attacks, refused",
    "unsendable": "values that must not be sent, refused",
    "huge": "2^24 strings, read",
    "written": "values, written and read again",
}


def expand_bytes(content):
    """The bytes that a vector's short form stands for."""
    if isinstance(content, str):
        return base64.b64decode(content)
    parts = []
    for part in content:
        if isinstance(part, str):
            parts.append(base64.b64decode(part))
        elif "repeat" in part:
            parts.append(base64.b64decode(part["repeat"]) * part["times"])
        else:
            parts.append(_words(part["words"], part["step"], part["count"]))
    return b"".join(parts)


def _words(first, step, count):
    """So many numbers of 32 bits, each by ``step`` more than the one before."""
    last = first + step * (count - 1)
    if step and min(first, last) >= 0 and max(first, last) < 2**32:
        numbers = range(first, last + (1 if step > 0 else -1), step)
    else:
        numbers = ((first + step * i) % 2**32 for i in range(count))
    words = array.array("I", numbers)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def expand_value(value):
    """The value that a vector's short form stands for."""
    if isinstance(value, list):
        return [expand_value(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"repeat", "times"}:
            return expand_value(value["repeat"]) * value["times"]
        return {key: expand_value(item) for key, item in value.items()}
    return value


class Adapter:
    """The program under test. One that dies is started anew for the next case."""

    def __init__(self, command):
        self.command = command
        self.process = None

    def ask(self, case):
        """Its answer to one case; an ``error`` that tells what happened if there is none."""
        if self.process is None:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process = self.process
        timer = threading.Timer(ANSWER_S_MAX, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(case).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = b""
        finally:
            timer.cancel()
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if isinstance(answer, dict) and answer.get("id") == case["id"]:
            return answer
        self.close()
        return {"ok": False, "error": f"no answer with this id, but {line[:200]!r}"}

    def close(self):
        """End it as a shell would: with the end of its input."""
        if self.process is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
            self.process.stdout.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


def difference(wanted, answer):
    """What is wrong with an answer that should have this value or error; empty if nothing is."""
    ((key, value),) = wanted.items()
    if answer.get(key) == value and answer.get("ok") is (key == "value"):
        return ""
    return f"expected {str(wanted)[:300]}, got {str(answer)[:400]}"


def faults(kind, message, value):
    """What docs/wire.md asks of writers and these bytes, which a reader took for the value, do not keep."""
    top = _follow(message, 0)
    found = []
    if kind == "infer_response":
        if _target(message, top, 0) is None:
            found.append("output_tensors is absent")
        if not value["errors"] and _target(message, top, 1) is not None:
            found.append("errors is there, though there are none: the originals take that for a failure")
        found += _tensor_faults(message, _target(message, top, 0))
    elif kind == "request" and value["type"] == "infer":
        body = _target(message, top, 1)
        found += _tensor_faults(message, _target(message, body, 2))
    return found


def _tensor_faults(message, tensors):
    found = []
    for i in range(0 if tensors is None else struct.unpack_from("<I", message, tensors)[0]):
        table = _follow(message, tensors + 4 + 4 * i)
        if _target(message, table, 1) is None:
            found.append(f"tensor {i} has no shape: the originals need it")
        is_text = message[table + _place(message, table, 0)] == 12
        if _target(message, table, 3 if is_text else 2) is None:
            found.append(f"tensor {i} has no {'string_val' if is_text else 'data'}: the originals need it")
    return found


def _follow(message, at):
    return at + struct.unpack_from("<I", message, at)[0]


def _place(message, table, slot):
    vtable = table - struct.unpack_from("<i", message, table)[0]
    length = struct.unpack_from("<H", message, vtable)[0]
    return struct.unpack_from("<H", message, vtable + 4 + 2 * slot)[0] if 6 + 2 * slot <= length else 0


def _target(message, table, slot):
    place = _place(message, table, slot)
    return _follow(message, table + place) if place else None


class Report:
    """Outcomes by row: passed, failed, unsupported."""

    def __init__(self, failures_shown):
        self.rows = {}
        self.failed = 0
        self.failures_shown = failures_shown

    def add(self, row, case, answer, reason):
        counts = self.rows.setdefault(row, [0, 0, 0])
        if "unsupported" in answer:
            counts[2] += 1
        elif not reason:
            counts[0] += 1
        else:
            counts[1] += 1
            self.failed += 1
            if self.failed <= self.failures_shown:
                print(f"FAILED {row}: {case}\n    {reason}", flush=True)

    def table(self):
        lines = [f"{'':<40} {'passed':>8} {'failed':>8} {'unsupported':>12}"]
        lines += [f"{row:<40} {a:>8} {b:>8} {c:>12}" for row, (a, b, c) in self.rows.items()]
        return "\n".join(lines)


def check(adapter, report, group, vector):
    """One vector: its bytes read, or its value refused; a value of a valid one is written and read again as well."""
    case = {"id": vector["id"], "message": vector["message"]}
    wanted = {"error": vector["error"]} if "error" in vector else {"value": expand_value(vector["value"])}
    if "bytes" in vector:
        asked = {"op": "decode", "bytes": base64.b64encode(expand_bytes(vector["bytes"])).decode()}
    else:
        asked = {"op": "encode", "value": expand_value(vector["value"])}
    answer = adapter.ask({**case, **asked})
    reason = difference(wanted, answer)
    report.add(
        ROWS["huge" if "huge" in vector["flags"] else group],
        vector["id"],
        answer,
        reason and f"{vector['comment']}: {reason}",
    )
    if group != "valid" or {"large", "read-only"} & set(vector["flags"]):
        return
    written = adapter.ask({**case, "op": "encode", "value": wanted["value"]})
    if not written.get("ok"):
        report.add(ROWS["written"], vector["id"], written, f"not written: {str(written)[:300]}")
        return
    again = adapter.ask({**case, "op": "decode", "bytes": written["bytes"]})
    reason = difference(wanted, again)
    if not reason:
        reason = "; ".join(faults(vector["message"], base64.b64decode(written["bytes"]), wanted["value"]))
    report.add(ROWS["written"], vector["id"], again, reason)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vectors", type=Path, default=Path(__file__).resolve().parent / "vectors")
    parser.add_argument("--only", default="", help="vectors whose id or flags have this text")
    parser.add_argument("--failures", type=int, default=20, help="how many to show")
    parser.add_argument(
        "--small", action="store_true", help="leave out what takes tens of megabytes to say, or a gigabyte"
    )
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(options.vectors.glob("*.json"))]
    if not files:
        parser.error(f"there are no vectors in {options.vectors}")
    report, adapter = Report(options.failures), Adapter(options.command)
    try:
        for file in files:
            for vector in file["vectors"]:
                named = options.only in vector["id"] or options.only in vector["flags"]
                if named and not (options.small and "large" in vector["flags"]):
                    check(adapter, report, file["group"], vector)
    finally:
        adapter.close()
    print(report.table())
    totals = [sum(counts[i] for counts in report.rows.values()) for i in range(3)]
    print(f"{totals[0]} passed, {totals[1]} failed, {totals[2]} unsupported")
    return 1 if totals[1] or not totals[0] else 0


if __name__ == "__main__":
    sys.exit(main())
