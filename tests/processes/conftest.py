import os

import pytest

CLUSTER = ("RANK", "WORLD_SIZE", "TORCHELASTIC_", "SLURM_", "OMP_NUM_THREADS", "MASTER_")


@pytest.fixture
def no_cluster(monkeypatch):
    """No variable of torchrun or SLURM, nor a number of threads."""
    for name in list(os.environ):
        if name.startswith(CLUSTER):
            monkeypatch.delenv(name)
