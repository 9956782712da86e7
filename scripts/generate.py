"""Write anew what the FlatBuffers compiler makes of schema/graphpipe.fbs (`make generate`).

    python scripts/generate.py [FOLDER]

The package does not use these classes: its codec is its own. They are the oracle of tests/wire, which encodes with one
and decodes with the other. FOLDER (default: tests/generated) receives graphpipe_generated.py, whose first line names
the compiler's version, since another version may word the same classes differently.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "schema" / "graphpipe.fbs"
GENERATED = ROOT / "tests" / "generated"
NAME = "graphpipe_generated.py"


def flatc_version() -> str | None:
    """What the compiler on this machine calls itself; None if there is none."""
    if not shutil.which("flatc"):
        return None
    return subprocess.run(["flatc", "--version"], check=True, capture_output=True, text=True).stdout.strip()


def generate(folder: Path) -> Path:
    """Write the generated classes into ``folder`` and return their file."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["flatc", "--python", "--gen-onefile", "-o", scratch, str(SCHEMA)], check=True)
        (made,) = Path(scratch).rglob(NAME)
        code = made.read_text()
    target = folder / NAME
    target.write_text(f"# {flatc_version()}, by scripts/generate.py from schema/graphpipe.fbs\n{code.rstrip()}\n")
    return target


def main(arguments: list[str]) -> None:
    """Generate, or say in one line why not."""
    if flatc_version() is None:
        sys.exit("there is no flatc here; install the FlatBuffers compiler (Debian: apt install flatbuffers-compiler)")
    print(generate(Path(arguments[0]) if arguments else GENERATED))


if __name__ == "__main__":
    main(sys.argv[1:])
