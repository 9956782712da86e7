"""The limits of a container count as the machine's: wherever its cgroups are mounted, and whatever it is nested in."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from graphpipe.machine import memory_bytes, usable_cpus

V2 = "30 23 0:26 {top} /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n"
V1 = (
    "31 30 0:27 {top} /sys/fs/cgroup/cpu,cpuacct ro,nosuid,nodev shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "32 30 0:28 {top} /sys/fs/cgroup/memory ro,nosuid,nodev shared:10 - cgroup cgroup rw,memory\n"
)
GIB = 1 << 30
LIMIT = 96 << 20  # every machine that runs this has more
NO_LIMIT_V1 = "9223372036854771712"


def machine(root: Path, cgroup: str, mountinfo: str, files: dict[str, str]) -> Path:
    """A tree of files as the kernel shows it."""
    files = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo, **files}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n" if not text.endswith("\n") else text)
    return root


MACHINES = {
    "Docker with cgroups 2, in a namespace of its own": (
        "0::/\n",
        V2.format(top="/"),
        {"sys/fs/cgroup/cpu.max": "100000 100000", "sys/fs/cgroup/memory.max": f"{LIMIT}"},
    ),
    "Docker with cgroups 1, which sees its host's paths": (
        "4:memory:/docker/3f4a\n3:cpu,cpuacct:/docker/3f4a\n1:name=systemd:/docker/3f4a\n",
        V1.format(top="/docker/3f4a"),
        {
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{LIMIT}",
        },
    ),
    "Kubernetes: the pod is limited, its container is not": (
        "0::/kubepods.slice/kubepods-pod7.slice/cri-containerd-1.scope\n",
        V2.format(top="/"),
        {
            "sys/fs/cgroup/kubepods.slice/cpu.max": "max 100000",
            "sys/fs/cgroup/kubepods.slice/memory.max": f"{64 * GIB}",
            "sys/fs/cgroup/kubepods.slice/kubepods-pod7.slice/cpu.max": "100000 100000",
            "sys/fs/cgroup/kubepods.slice/kubepods-pod7.slice/memory.max": f"{LIMIT}",
            "sys/fs/cgroup/kubepods.slice/kubepods-pod7.slice/cri-containerd-1.scope/cpu.max": "max 100000",
            "sys/fs/cgroup/kubepods.slice/kubepods-pod7.slice/cri-containerd-1.scope/memory.max": "max",
        },
    ),
    "Kubernetes with cgroups 1: the kernel tells of the pod's memory what its container does not see": (
        "4:memory:/kubepods/pod7/1\n3:cpu,cpuacct:/kubepods/pod7/1\n",
        V1.format(top="/kubepods/pod7/1"),
        {
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT_V1,
            "sys/fs/cgroup/memory/memory.stat": f"cache 1\nhierarchical_memory_limit {LIMIT}\ntotal_cache 1",
        },
    ),
    "a systemd slice around a service": (
        "0::/system.slice/gp.slice/graphpipe.service\n",
        V2.format(top="/"),
        {
            "sys/fs/cgroup/system.slice/gp.slice/cpu.max": "10000 100000",
            "sys/fs/cgroup/system.slice/gp.slice/graphpipe.service/cpu.max": "800000 100000",
            "sys/fs/cgroup/system.slice/gp.slice/graphpipe.service/memory.max": f"{LIMIT}",
        },
    ),
    "LXC, mounted elsewhere, in a folder with a blank": (
        "4:memory:/lxc/box\n3:cpu:/lxc/box\n0::/lxc/box\n",
        "31 30 0:27 / /my\\040groups/cpu rw - cgroup none rw,cpu\n"
        "32 30 0:28 / /my\\040groups/mem rw - cgroup none rw,memory\n",
        {
            "my groups/cpu/lxc/cpu.cfs_quota_us": "100000",
            "my groups/cpu/lxc/cpu.cfs_period_us": "100000",
            "my groups/cpu/lxc/box/cpu.cfs_quota_us": "-1",
            "my groups/cpu/lxc/box/cpu.cfs_period_us": "100000",
            "my groups/mem/lxc/memory.limit_in_bytes": f"{LIMIT}",
            "my groups/mem/lxc/box/memory.limit_in_bytes": NO_LIMIT_V1,
        },
    ),
    "both versions at once, the limits in the first": (
        "4:memory:/a\n3:cpu,cpuacct:/a\n0::/a\n",
        "29 23 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw\n" + V1.format(top="/"),
        {
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "100000",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": f"{LIMIT}",
        },
    ),
    "moved out of the namespace that it sees": (
        "0::/../other\n",
        V2.format(top="/"),
        {"sys/fs/cgroup/cpu.max": "100000 100000", "sys/fs/cgroup/memory.max": f"{LIMIT}"},
    ),
}


@pytest.mark.parametrize("kind", MACHINES)
def test_the_quota_and_the_memory_of_a_container_are_what_may_be_used(tmp_path: Path, kind: str) -> None:
    root = machine(tmp_path, *MACHINES[kind])
    assert usable_cpus(root) == 1
    assert memory_bytes(root) == LIMIT


def test_without_limits_it_is_the_machine_that_counts(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu.max": "max 100000", "sys/fs/cgroup/memory.max": "max"}
    root = machine(tmp_path, "0::/\n", V2.format(top="/"), files)
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert (usable_cpus(root), memory_bytes(root)) == (len(os.sched_getaffinity(0)), whole)
    assert (usable_cpus(tmp_path / "no proc"), memory_bytes(tmp_path / "no proc")) == (usable_cpus(root), whole)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU")
@pytest.mark.parametrize(("quota", "cpus"), [("150000 100000", 2), ("5000 100000", 1), ("100001 100000", 2)])
def test_a_part_of_a_cpu_is_rounded_up(tmp_path: Path, quota: str, cpus: int) -> None:
    assert usable_cpus(machine(tmp_path, "0::/\n", V2.format(top="/"), {"sys/fs/cgroup/cpu.max": quota})) == cpus


def test_a_real_cgroup_counts() -> None:
    """Where this may make one: as root, where the kernel's folder can be written to."""
    top = Path("/sys/fs/cgroup")
    group = top / f"graphpipe-test-{uuid.uuid4().hex[:8]}"
    if not (top / "cgroup.controllers").exists():
        pytest.skip("cgroups 2 are not mounted here")
    try:
        (top / "cgroup.subtree_control").write_text("+cpu +memory")
        group.mkdir()
    except OSError:
        pytest.skip("no cgroup can be made here")
    try:
        (group / "cpu.max").write_text("50000 100000")
        (group / "memory.max").write_text(str(512 << 20))
        code = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); "
        code += "from graphpipe.machine import *; print(usable_cpus(), memory_bytes())"
        command = [sys.executable, "-c", code, str(group / "cgroup.procs")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["1", str(512 << 20)]
    finally:
        group.rmdir()
