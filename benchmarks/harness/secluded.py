"""A network of one's own: some servers listen on every interface, and there is none but the loopback in here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

__all__ = ["is_secluded", "seclude"]

MARK = "BENCHMARK_SECLUDED"
# Processes too: whatever was left behind ends with the last of us.
UNSHARE = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


def is_secluded() -> bool:
    """Whether this process has a network of its own."""
    return MARK in os.environ


def seclude() -> None:
    """Run this program anew where there is no network but the loopback; go on as it is where Linux does not let us."""
    if is_secluded():
        return
    unshare = [*UNSHARE, *(() if os.geteuid() == 0 else ("--map-root-user",))]
    if not shutil.which("unshare") or not shutil.which("ip"):
        return
    if subprocess.run([*unshare, "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode:
        return
    os.environ[MARK] = "yes"
    sys.stdout.flush()
    # Shared memory of our own, too: Triton leaves hundreds of megabytes behind in it.
    up = ["sh", "-c", 'ip link set lo up && mount -t tmpfs none /dev/shm; exec "$@"', "sh"]
    os.execvp(unshare[0], [*unshare, *up, sys.executable, *sys.argv])
