"""Available memory: what /proc and the control groups say, in trees like theirs."""

import pytest

from popos_cli.train.memory import available_bytes

GIB = 2**30
UNLIMITED = 9223372036854771712  # version 1's way to say so


@pytest.fixture
def machine(tmp_path):
    """A tree of files, by path and content; 16 GiB are available, 1 is free."""

    def make(groups="0::/\n", **files):
        said = f"MemTotal: {32 * 2**20} kB\nMemFree: {2**20} kB\nMemAvailable: {16 * 2**20} kB\n"
        for path, content in {"proc/meminfo": said, "proc/self/cgroup": groups, **files}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(str(content))
        return tmp_path

    return make


def v2(folder, limit, used, cache=0):
    top = f"sys/fs/cgroup{folder}"
    return {
        f"{top}/memory.max": f"{limit}\n", f"{top}/memory.current": f"{used}\n",
        f"{top}/memory.stat": f"anon {used - cache}\nfile {cache}\ninactive_file {cache}\n",
    }  # fmt: skip


def v1(folder, limit, used, cache=0):
    top = f"sys/fs/cgroup/memory{folder}"
    return {
        f"{top}/memory.limit_in_bytes": f"{limit}\n", f"{top}/memory.usage_in_bytes": f"{used}\n",
        f"{top}/memory.stat": f"cache {cache}\ninactive_file 1\ntotal_inactive_file {cache}\n",
    }  # fmt: skip


def test_what_caches_hold_is_available(machine):
    assert available_bytes(machine()) == 16 * GIB


def test_a_container_of_either_version_allows_what_is_left_of_its_limit(machine):
    assert available_bytes(machine(**v2("", 4 * GIB, GIB))) == 3 * GIB


def test_a_container_of_version_1(machine):
    """Its path is the host's, its folder the container's own."""
    groups = "9:cpu,cpuacct:/docker/f00\n4:memory:/docker/f00\n1:name=systemd:/docker/f00\n0::/\n"
    assert available_bytes(machine(groups, **v1("", 2 * GIB, GIB // 2))) == 3 * GIB // 2


def test_files_that_a_container_has_read_are_no_use_of_it(machine):
    assert available_bytes(machine(**v2("", 4 * GIB, 4 * GIB, 3 * GIB))) == 3 * GIB


@pytest.mark.parametrize("version", [v1, v2])
def test_the_tightest_group_of_all_above_counts(machine, version):
    """As SLURM nests them: job, step, task; the step's limit is the least."""
    files = {
        **version("", UNLIMITED if version is v1 else "max", 9 * GIB),
        **version("/slurm", 12 * GIB, 2 * GIB),
        **version("/slurm/job/step", 6 * GIB, GIB),
        **version("/slurm/job/step/task", 8 * GIB, GIB),
    }
    groups = f"{'4:memory' if version is v1 else '0:'}:/slurm/job/step/task\n"
    assert available_bytes(machine(groups, **files)) == 5 * GIB


@pytest.mark.parametrize("files", [v2("", "max", GIB), v1("", UNLIMITED, GIB), {}])
def test_no_limit_leaves_what_the_machine_has(machine, files):
    assert available_bytes(machine("4:memory:/\n0::/\n", **files)) == 16 * GIB


def test_a_group_that_is_full_leaves_nothing(machine):
    assert available_bytes(machine(**v2("", GIB, GIB + 4096))) == 0


def test_a_system_without_such_files_tells_its_memory(tmp_path):
    assert available_bytes(tmp_path) > 100 * 2**20
