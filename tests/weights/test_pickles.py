"""Checkpoints are read as data: harmless meta data passes, nothing runs, the rest is refused."""

import datetime
import functools
import os
import pickle
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import checkpoint

from popos_cli.errors import PoposError
from popos_cli.weights.pickles import read_checkpoint

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(7)}
BOTH = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def write(path, data, zipped=True, **more):
    torch.save(data, path, _use_new_zipfile_serialization=zipped, **more)
    return path


def refusal(path):
    """The message of the PoposError: one line that names the file."""
    with pytest.raises(PoposError) as caught:
        read_checkpoint(path)
    message = caught.value.message
    assert str(path) in message and "\n" not in message
    return message


def same(found):
    return set(found) == set(TENSORS) and all(torch.equal(found[k], TENSORS[k]) for k in TENSORS)


@BOTH
def test_tensors_beside_plain_values_of_many_types(tmp_path, zipped):
    meta = {
        "scalars": [np.float32(1), np.float64(2), np.int64(3), np.bool_(True), np.str_("x")],
        "arrays": np.arange(3), "dtype": np.dtype("float16"), "bytes": b"", "when": datetime.datetime.now(),
        "path": Path("a/b"), "sets": {1, 2}, "range": range(3),
        "counts": defaultdict(list, {"x": [1]}), "complex": 1 + 2j,
    }  # fmt: skip
    read = read_checkpoint(write(tmp_path / "c.pth", checkpoint(TENSORS, more=meta), zipped))
    assert same(read["state_dict"])
    assert read["meta"]["epoch"] == 60


def test_names_of_older_and_newer_numpy(tmp_path):
    path = write(tmp_path / "c.pth", checkpoint(TENSORS), zipped=False)
    data = path.read_bytes()
    spellings = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
    (written,) = [spelling for spelling in spellings if spelling in data]  # by this machine's NumPy
    for spelling in spellings:
        path.write_bytes(data.replace(written, spelling))
        assert same(read_checkpoint(path)["state_dict"])


class ConfigDict(dict):
    """Like mmcv's: a dictionary with a state of its own."""

    def __getstate__(self):
        return self

    def __setstate__(self, state):
        raise AssertionError("code of the checkpoint's class ran")


class Config:
    def __getstate__(self):
        return ({"a": 1}, "config.py", "text")


class HistoryBuffer:
    """Like mmengine's: arrays, and methods, which pickles name by getattr."""

    def __init__(self):
        self.history = np.arange(4.0)
        self.methods = OrderedDict(mean=HistoryBuffer.mean)

    def mean(self):
        pass


@BOTH
def test_objects_of_mmcv_and_mmengine_are_inert(tmp_path, monkeypatch, zipped):
    homes = {ConfigDict: "mmcv.utils.config", Config: "mmengine.config", HistoryBuffer: "mmengine.logging"}
    modules = ("mmcv", "mmcv.utils", "mmcv.utils.config", "mmengine", "mmengine.config", "mmengine.logging")
    for name in modules:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for cls, name in homes.items():
        setattr(sys.modules[name], cls.__name__, cls)
        monkeypatch.setattr(cls, "__module__", name)
    config = ConfigDict(model=ConfigDict(type="TopDown"), lr=1e-3)
    data = checkpoint(TENSORS, message_hub={"loss": HistoryBuffer()}, config=config, raw=Config())
    path = write(tmp_path / "c.pth", data, zipped)
    for name in modules:
        monkeypatch.delitem(sys.modules, name)
    assert b"getattr" in path.read_bytes()
    read = read_checkpoint(path)
    assert same(read["state_dict"])
    assert not isinstance(read["message_hub"]["loss"], HistoryBuffer)
    assert read["config"]["model"]["type"] == "TopDown"


class Calls:
    """A pickle that calls a function when it is loaded."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def malicious(marker):
    """Objects that would leave `marker` behind, by the name (Python 2's) that a refusal must contain."""
    command, code = f"echo x > {marker}", f"open({str(marker)!r}, 'w').close()"
    return {
        f"{os.system.__module__}.system": Calls(os.system, command),
        "eval": Calls(eval, code),
        "exec": Calls(exec, code),
        "__import__": Calls(__import__, "antigravity"),
        "io.open": Calls(open, str(marker), "w"),
        "commands.Popen": Calls(subprocess.Popen, ["touch", str(marker)]),
        "functools.partial": Calls(functools.partial(os.system, command)),
        "torch.serialization.load": Calls(torch.load, str(marker)),
        "numpy.testing": Calls(np.testing.measure, code),
    }


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", malicious(""))
@BOTH
def test_code_is_refused_and_does_not_run(tmp_path, name, protocol, zipped):
    marker = tmp_path / "it ran"
    data = checkpoint(TENSORS, more=[{"deep": malicious(marker)[name]}])
    message = refusal(write(tmp_path / "c.pth", data, zipped, pickle_protocol=protocol))
    assert not marker.exists()
    if protocol == 2:  # torch's own; it reads no other one
        assert f"refused: its pickle names {name}" in message


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_with_code_is_refused(tmp_path, protocol):
    marker, path = tmp_path / "it ran", tmp_path / "c.pth"
    data = pickle.dumps(Calls(os.system, f"touch '{marker}'"), protocol)
    for content in (data, data[:-1], b"(S'touch it-ran'\nios\nsystem\n."):
        path.write_bytes(content)
        refusal(path)
    assert not list(tmp_path.glob("it*"))


HARMLESS_BEGINNINGS = [b"cmmcv\nos.system\n", b"cmmengine.os\nsystem\n", b"c__builtin__\ngetattr\n"]


@pytest.mark.parametrize("name", HARMLESS_BEGINNINGS, ids=repr)
@BOTH
def test_code_behind_a_harmless_name_does_not_run(tmp_path, name, zipped):
    """mmcv's os.system is a placeholder, too, and so is what getattr gives for os."""
    marker, path = tmp_path / "it-ran", tmp_path / "c.pth"
    command = f"touch {marker}".encode()
    body = b"\x80\x02" + name + b"U" + bytes([len(command)]) + command + b"\x85R."
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            for file, content in {"data.pkl": body, "version": b"3\n", "byteorder": b"little"}.items():
                archive.writestr(f"c/{file}", content)
    else:
        path.write_bytes(legacy_head() + body + pickle.dumps([], 2))
    assert type(read_checkpoint(path)).__name__ == "Placeholder"
    assert not marker.exists()


def legacy_head():
    """What files of torch < 1.6 begin with."""
    return b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))


def test_the_result_of_a_placeholder_cannot_be_called(tmp_path):
    """getattr(os, "system")("touch it-ran"), with placeholders for the parts."""
    body = b"\x80\x02c__builtin__\ngetattr\ncmmcv\nos\nU\x06system\x86RU\x0ctouch it-ran\x85R."
    (tmp_path / "c.pth").write_bytes(legacy_head() + body + pickle.dumps([], 2))
    assert "reduce" in refusal(tmp_path / "c.pth")


def test_code_in_a_later_pickle_of_a_legacy_file(tmp_path):
    (tmp_path / "c.pth").write_bytes(legacy_head() + pickle.dumps(Calls(eval, "1"), 2))
    assert "names eval" in refusal(tmp_path / "c.pth")


def test_a_whole_module_is_refused_by_name(tmp_path):
    assert "torch.nn.modules.linear.Linear" in refusal(write(tmp_path / "c.pth", torch.nn.Linear(2, 2)))


@BOTH
@pytest.mark.parametrize("keep", [1, 60, 0.3, 0.999])
def test_a_torn_file_is_refused(tmp_path, zipped, keep):
    path = write(tmp_path / "c.pth", checkpoint({"a": torch.randn(2000)}), zipped)
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    assert ("not a readable PyTorch checkpoint" if keep != 1 else "not a PyTorch") in refusal(path)


def test_a_flipped_bit_in_a_tensor_is_noticed(tmp_path):
    path = write(tmp_path / "c.pth", {"a": torch.full((1000,), 3.0)})
    data = bytearray(path.read_bytes())
    data[data.index(torch.full((9,), 3.0).numpy().tobytes()) + 800] ^= 1
    path.write_bytes(data)
    assert "damaged" in refusal(path)
