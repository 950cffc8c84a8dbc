"""`--batch-size auto`: what a face costs, and what /proc and control groups (in trees like theirs) leave."""

import pytest
import torch

from popos_cli.core.schemes import SCHEMES
from popos_cli.errors import PoposError
from popos_cli.prepare.synthetic import prepare_synthetic
from popos_cli.train import autobatch
from popos_cli.train.autobatch import TRIAL, available_bytes, fitting_batch, kept_bytes
from popos_cli.train.build import build_info
from popos_cli.train.settings import ModelSettings, ScheduleSettings, TrainSettings

CPU = torch.device("cpu")
GIB = 2**30
UNLIMITED = 9223372036854771712  # version 1's way to say so


def settings(resolution=4, **schedule):
    return TrainSettings(
        dataset="synthetic", gpus=0, precision="fp32", model=ModelSettings(resolution=resolution),
        schedule=ScheduleSettings(**schedule),
    )  # fmt: skip


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POPOS_HOME", str(tmp_path_factory.mktemp("home")))
        folder = tmp_path_factory.mktemp("pictures")
        return prepare_synthetic(folder, 160, SCHEMES["300w"], seed=0, val_fraction=0.1)


def test_what_a_pass_keeps_is_counted_once():
    """A linear layer keeps its input, and ReLU its output, which the next layer keeps as well."""

    class Model(torch.nn.Module):
        def forward(self, x):
            x = x.mean((2, 3))  # (N, 3), keeps nothing but a size
            return self.last(torch.relu(self.first(x)))

    model = Model()
    model.first, model.last = torch.nn.Linear(3, 1000), torch.nn.Linear(1000, 1000)
    kept = kept_bytes(model, settings(), CPU)
    weights = 4 * 1000 * 1000  # the second layer's, for its input's gradient
    activations = 4 * TRIAL * 1000
    assert weights + activations <= kept < weights + 3 * activations


def test_the_batch_follows_the_free_memory(index, monkeypatch):
    def batch(gibibytes, processes=1, **schedule):
        monkeypatch.setattr(autobatch, "_free_bytes", lambda device, count: gibibytes * GIB / count)
        return fitting_batch(settings(**schedule), index, processes)

    sizes = [batch(g) for g in (0.03, 0.06, 100)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    assert sizes[-1] == 16  # an eighth of the 144 faces, at most, as a power of two
    assert batch(100, processes=2) == 16
    assert batch(0.03, accumulate=2) >= sizes[0]
    with pytest.raises(PoposError, match="not even one face"):
        batch(0.001)


def test_large_maps_cost_more(index):
    def kept(resolution):
        info = build_info(settings(resolution), index)
        return kept_bytes(info.build_model(68), settings(resolution), CPU)

    assert kept(16) > 2 * kept(4)


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


def nested(version):
    """Job, step and task, as SLURM nests them; the step's limit is the tightest."""
    return {
        **version("", UNLIMITED if version is v1 else "max", 9 * GIB),
        **version("/slurm", 12 * GIB, 2 * GIB),
        **version("/slurm/job/step", 6 * GIB, GIB),
        **version("/slurm/job/step/task", 8 * GIB, GIB),
    }


# Groups of the process, files, and what is available of a machine's 16 GiB.
MACHINES = {
    "no limits": ("0::/\n", {}, 16),
    "no limit, version 1": ("4:memory:/\n0::/\n", v1("", UNLIMITED, GIB), 16),
    "no limit, version 2": ("0::/\n", v2("", "max", GIB), 16),
    "container": ("0::/\n", v2("", 4 * GIB, GIB), 3),
    "container of version 1, whose path is the host's": (
        "9:cpu:/docker/f00\n4:memory:/docker/f00\n0::/\n", v1("", 2 * GIB, GIB // 2), 1.5,
    ),
    "files that were read are no use": ("0::/\n", v2("", 4 * GIB, 4 * GIB, 3 * GIB), 3),
    "nested, version 1": ("4:memory:/slurm/job/step/task\n", nested(v1), 5),
    "nested, version 2": ("0::/slurm/job/step/task\n", nested(v2), 5),
    "full": ("0::/\n", v2("", GIB, GIB + 4096), 0),
}  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES)
def test_available_memory_is_what_all_control_groups_leave(tmp_path, machine):
    groups, files, expected = MACHINES[machine]
    free = f"MemTotal: {32 * 2**20} kB\nMemFree: {2**20} kB\nMemAvailable: {16 * 2**20} kB\n"
    for path, content in {"proc/meminfo": free, "proc/self/cgroup": groups, **files}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    assert available_bytes(tmp_path) == expected * GIB


def test_a_system_without_such_files_has_all_its_memory(tmp_path):
    assert available_bytes(tmp_path) > 100 * 2**20
