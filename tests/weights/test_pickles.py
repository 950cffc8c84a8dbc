"""Checkpoints are read as data: harmless meta data passes, nothing runs, the rest is refused by name."""

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
from popos_cli.weights.pickles import names_in, read_checkpoint

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(7)}
BOTH = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def write(path, data, zipped=True, **more):
    torch.save(data, path, _use_new_zipfile_serialization=zipped, **more)
    return path


def refusal(path):
    """The PoposError's message: one line that names the file."""
    with pytest.raises(PoposError) as caught:
        read_checkpoint(path)
    message = caught.value.message
    assert str(path) in message and "\n" not in message
    return message


def same(found):
    return set(found) == set(TENSORS) and all(torch.equal(found[k], TENSORS[k]) for k in TENSORS)


@BOTH
def test_tensors_come_through_beside_numpy_scalars(tmp_path, zipped):
    meta = {
        "scalars": [np.float32(1), np.float64(2), np.int64(3), np.bool_(True), np.str_("x")],
        "arrays": np.arange(3), "dtype": np.dtype("float16"), "bytes": b"", "when": datetime.datetime.now(),
        "path": Path("a/b"), "sets": {1, 2}, "counts": defaultdict(list, {"x": [1]}), "complex": 1 + 2j,
    }  # fmt: skip
    read = read_checkpoint(write(tmp_path / "c.pth", checkpoint(TENSORS, more=meta), zipped))
    assert same(read["state_dict"])
    assert read["meta"]["epoch"] == 60


def test_names_of_older_and_newer_numpy_are_known(tmp_path):
    path = write(tmp_path / "c.pth", checkpoint(TENSORS), zipped=False)
    data = path.read_bytes()
    spellings = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
    (written,) = [spelling for spelling in spellings if spelling in data]  # by this machine's NumPy
    for spelling in spellings:
        path.write_bytes(data.replace(written, spelling))
        assert same(read_checkpoint(path)["state_dict"])


class ConfigDict(dict):
    """As mmcv's: a dict with a state of its own."""

    def __getstate__(self):
        return self

    def __setstate__(self, state):
        raise AssertionError("code of the checkpoint's class ran")


class Config:
    def __getstate__(self):
        return ({"a": 1}, "config.py", "text")


class HistoryBuffer:
    """As mmengine's: arrays, and methods, which pickles name with getattr."""

    def __init__(self):
        self.history = np.arange(4.0)
        self.methods = OrderedDict(mean=HistoryBuffer.mean, current=HistoryBuffer.current)

    def mean(self):
        pass

    def current(self):
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
    assert ("builtins", "getattr") in names_in(path)
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


def evil(marker):
    """(what it names, object) that would leave `marker` behind."""
    command = f"echo x > {marker}"
    write_it = f"open({str(marker)!r}, 'w').close()"
    return [
        (f"{os.system.__module__}.system", Calls(os.system, command)),
        ("builtins.eval", Calls(eval, write_it)),
        ("builtins.exec", Calls(exec, write_it)),
        ("builtins.__import__", Calls(__import__, "antigravity")),
        ("io.open", Calls(open, str(marker), "w")),
        ("subprocess.Popen", Calls(subprocess.Popen, ["touch", str(marker)])),
        ("functools.partial", Calls(functools.partial(os.system, command))),
        ("torch.serialization.load", Calls(torch.load, str(marker))),
        ("numpy.testing", Calls(np.testing.measure, write_it)),
        ("builtins.getattr", Calls(getattr, "text", "upper")),
    ]


NAMES = [name for name, _ in evil("")]
# At protocol 4 torch stops before names that are its own, or a method's, to judge.
CASES = [(n, 2) for n in NAMES] + [(n, 4) for n in NAMES if not n.startswith(("torch", "builtins.getattr"))]


@pytest.mark.parametrize("name, protocol", CASES, ids=str)
@BOTH
def test_code_is_refused_by_name_and_does_not_run(tmp_path, name, protocol, zipped):
    marker = tmp_path / "it ran"
    thing = dict(evil(marker))[name]
    path = write(tmp_path / "c.pth", checkpoint(TENSORS, more=[thing]), zipped, pickle_protocol=protocol)
    message = refusal(path)
    assert name in message and "refused" in message
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_bare_pickle_with_code_is_refused_by_name(tmp_path, protocol):
    marker = tmp_path / "it ran"
    path = tmp_path / "c.pth"
    path.write_bytes(pickle.dumps(Calls(os.system, f"touch {marker}"), protocol))
    assert f"{os.system.__module__}.system" in refusal(path)
    path.write_bytes(path.read_bytes()[:-1])  # torn, and still told by name
    assert f"{os.system.__module__}.system" in refusal(path)
    assert not marker.exists()


def test_the_old_opcode_for_instances_is_seen(tmp_path):
    path = tmp_path / "c.pth"
    path.write_bytes(b"(S'true'\nios\nsystem\n.")
    assert "os.system" in refusal(path)


def test_code_in_a_later_pickle_of_a_legacy_file_is_seen(tmp_path):
    path = write(tmp_path / "c.pth", TENSORS, zipped=False)
    heads = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {})]
    path.write_bytes(b"".join(heads) + pickle.dumps(Calls(eval, "1"), 2))
    assert "builtins.eval" in refusal(path)


def test_a_whole_module_is_refused_by_name(tmp_path):
    assert "torch.nn.modules.linear.Linear" in refusal(write(tmp_path / "c.pth", torch.nn.Linear(2, 2)))


def test_what_is_allowed_here_is_allowed_nowhere_else(tmp_path):
    path = write(tmp_path / "c.pth", checkpoint(TENSORS))
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(path)
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


@BOTH
@pytest.mark.parametrize("keep", [0, 1, 60, 0.3, 0.9, 0.999])
def test_a_torn_file_is_refused(tmp_path, zipped, keep):
    path = write(tmp_path / "c.pth", checkpoint({"a": torch.randn(2000)}), zipped)
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    message = refusal(path)
    assert (
        "the file is empty" if keep == 0 else "not a PyTorch checkpoint" if keep == 1 else "cut off"
    ) in message


def test_a_flipped_bit_in_a_tensor_is_noticed(tmp_path):
    path = write(tmp_path / "c.pth", {"a": torch.full((1000,), 3.0)})
    data = bytearray(path.read_bytes())
    data[data.index(torch.full((9,), 3.0).numpy().tobytes()) + 800] ^= 1
    path.write_bytes(data)
    assert "damaged" in refusal(path)


@pytest.mark.parametrize(
    "content, what",
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "Git LFS"),
        (b"\x10\0\0\0\0\0\0\0" + b'{"a": 1}        ', "safetensors"),
        (b"These are not the weights you are looking for.", "not a PyTorch checkpoint"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "not a PyTorch checkpoint"),
        (pickle.dumps({"a": [1.0, 2.0]}), "not a checkpoint that torch.save wrote"),
    ],
    ids=str,
)
def test_other_files_are_told_for_what_they_are(tmp_path, content, what):
    path = tmp_path / "c.pth"
    path.write_bytes(content)
    assert what in refusal(path)


def test_an_archive_of_checkpoints_says_so(tmp_path):
    with zipfile.ZipFile(tmp_path / "exp.zip", "w") as archive:
        archive.writestr("exp/best_NME_epoch_60.pth", b"x")
    with pytest.raises(PoposError) as caught:
        read_checkpoint(tmp_path / "exp.zip")
    assert "best_NME_epoch_60.pth" in str(caught.value.hint)


def test_a_protocol_that_torch_cannot_read_is_named(tmp_path):
    assert "protocol" in refusal(write(tmp_path / "c.pth", TENSORS, pickle_protocol=4))


def test_missing_files_and_folders(tmp_path):
    assert "no such file" in refusal(tmp_path / "gone.pth")
    assert "directory" in refusal(tmp_path)
