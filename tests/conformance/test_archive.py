"""The archive is the same wherever it is made, and what is in it runs with Python's standard library alone."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from conformance import cases
from conformance.cases import groups
from conformance.make_archive import NAME, archive

ROOT = Path(__file__).resolve().parents[2]
SILENT = """
import json, sys
for line in sys.stdin:
    case = json.loads(line)
    print(json.dumps({"id": case["id"], ANSWER}), flush=True)
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    with tarfile.open(fileobj=io.BytesIO(archive())) as tar:
        tar.extractall(folder, filter="data")
    return folder / NAME


def run(unpacked, command, *options):
    """The runner as a stranger has it: no packages, nothing of this clone on its path."""
    line = [sys.executable, "-I", "-S", str(unpacked / "runner.py"), "--small", *options, "--", *command]
    return subprocess.run(line, cwd=unpacked, capture_output=True, text=True, check=False, timeout=300)


def answering(tmp_path, answer):
    program = tmp_path / "adapter.py"
    program.write_text(SILENT.replace("ANSWER", answer))
    return [sys.executable, str(program)]


def test_it_is_the_same_bytes_each_time():
    assert archive() == archive()


def test_it_holds_the_vectors_the_runner_and_the_pages(unpacked):
    files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    assert {"runner.py", "schema.json", "graphpipe.fbs", "WIRE.md", "NEW-CLIENT.md", "LICENSE"} <= files
    assert {f"vectors/{path.name}" for path in cases.FOLDER.glob("*.json")} <= files


def test_its_runner_needs_nothing_but_itself_and_the_python_adapter_passes(unpacked):
    adapter = [sys.executable, str(ROOT / "conformance" / "adapters" / "python.py")]
    done = run(unpacked, adapter)
    assert done.returncode == 0, done.stdout + done.stderr
    count = sum("large" not in vector["flags"] for vectors in groups().values() for vector in vectors)
    passed = int(done.stdout.splitlines()[-1].split()[0])
    assert passed > count
    assert done.stdout.splitlines()[-1] == f"{passed} passed, 0 failed, 0 unsupported"


def test_what_an_adapter_does_not_do_is_counted_apart(unpacked, tmp_path):
    done = run(unpacked, answering(tmp_path, "'unsupported': 'not yet'"), "--only", "bool")
    assert " 0 failed, 12 unsupported" in done.stdout
    assert done.returncode == 1, "nothing passed"


@pytest.mark.parametrize(
    "answer", ["'ok': False, 'error': 'malformed'", "'ok': True, 'value': {}", "'ok': True, 'value': {'outputs': []}"]
)
def test_an_adapter_that_says_the_same_to_everything_fails(unpacked, tmp_path, answer):
    done = run(unpacked, answering(tmp_path, answer), "--only", "bool")
    assert done.returncode == 1
    assert "FAILED valid messages, read: valid/bool-" in done.stdout


def test_an_adapter_that_dies_fails_its_case_and_is_started_anew(unpacked, tmp_path):
    program = tmp_path / "dies.py"
    program.write_text("import sys\nsys.stdin.readline()\n")
    done = run(unpacked, [sys.executable, str(program)], "--only", "bool")
    assert done.returncode == 1
    assert "0 passed, 12 failed, 0 unsupported" in done.stdout


def test_the_page_shows_values_as_the_schema_has_them():
    import jsonschema

    schema = json.loads((ROOT / "conformance" / "schema.json").read_text())
    page = (ROOT / "docs" / "new-client.md").read_text()
    blocks = [json.loads(block.partition("```")[0]) for block in page.split("```json")[1:]]
    for kind, value in zip(("request", "metadata_response"), blocks, strict=True):
        part = {"$defs": schema["$defs"], "$ref": f"#/$defs/{kind}"}
        jsonschema.Draft202012Validator(part).validate(value)
