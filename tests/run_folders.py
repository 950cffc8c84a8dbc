"""What training leaves behind, for tests to read and compare."""

import csv
import json

import torch
from safetensors import safe_open
from safetensors.torch import load_file

# What does not depend on how fast the machine is.
LOSS_COLUMNS = ("epoch", "loss", "heatmap_loss", "points_loss", "learning_rate", "val_nme", "best_nme")


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_same_run(run, other):
    """Weights bit for bit, with what their metadata says of the training, and the loss curves."""
    for name in ("best.safetensors", "last.safetensors"):
        found, expected = load_file(run / name), load_file(other / name)
        assert found.keys() == expected.keys()
        different = [key for key in expected if not torch.equal(found[key], expected[key])]
        assert not different
        with safe_open(run / name, "pt") as a, safe_open(other / name, "pt") as b:
            assert json.loads(a.metadata()["popos"]) == json.loads(b.metadata()["popos"])
    found, expected = ([[r[c] for c in LOSS_COLUMNS] for r in rows(f / "results.csv")] for f in (run, other))
    assert found == expected
