"""How much memory there is, within the limits of containers and jobs."""

import pytest

from torch_utils import host


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Writes files of /proc and /sys/fs/cgroup; 100 MB of memory, 80 of them available."""
    monkeypatch.setattr(host, "PROC", tmp_path / "proc")
    monkeypatch.setattr(host, "GROUPS", tmp_path / "groups")

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    write({"proc/meminfo": "MemTotal: 100000 kB\nMemAvailable: 80000 kB\n"})
    return write


def memory():
    return host.total_memory() / 1024, host.available_memory() / 1024


def test_without_groups_it_is_the_machines(machine):
    assert memory() == (100_000, 80_000)
    machine({"proc/self/cgroup": "0::/job\n", "groups/memory.max": "max\n", "groups/memory.current": "5\n"})
    assert memory() == (100_000, 80_000)


def test_a_jobs_own_limit_counts_and_its_file_cache_does_not(machine):
    """As a cluster sets it: not on the root, but on a group in between."""
    machine({"proc/self/cgroup": "0::/slurm/job_1/step_0\n", "groups/memory.max": "max",
             "groups/slurm/job_1/memory.max": f"{50_000 * 1024}",
             "groups/slurm/job_1/memory.current": f"{45_000 * 1024}",
             "groups/slurm/job_1/memory.stat": f"anon 5\ninactive_file {40_000 * 1024}\n",
             "groups/slurm/job_1/step_0/memory.max": "max"})
    assert memory() == (50_000, 45_000)


def test_groups_of_the_first_version_and_paths_that_a_container_hides(machine):
    machine({"proc/self/cgroup": "4:cpu,cpuacct:/x\n3:memory:/docker/abc\n0::/\n",
             "groups/memory/memory.limit_in_bytes": f"{30_000 * 1024}", "groups/memory/memory.usage_in_bytes": "0",
             "groups/memory/memory.stat": "total_inactive_file 0\n"})
    assert memory() == (30_000, 30_000)


def test_nothing_told_is_no_limit(machine, tmp_path):
    (tmp_path / "proc/meminfo").unlink()
    assert memory() == (float("inf"), float("inf"))
