"""What popos says to inputs that it cannot use: one line that names the culprit, no traceback.

The cases are the rows of tests/e2e/bad_inputs.md that have a command. Here stands what lies in the working
folder: files that are all right (GOOD), and what is wrong with them (WRONG).
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import re
import shlex
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from layouts import checkpoint, network, popos_fork
from safetensors.torch import save

from popos_cli.errors import UsageError

DOCS = Path(__file__).resolve().parents[2] / "docs"
PHOTO = (DOCS / "assets/astronaut.jpg").read_bytes()
PICTURE = cv2.imencode(".png", np.full((40, 40, 3), 90, np.uint8))[1].tobytes()
CSV = "image,x0,y0,x1,y1\na.png,3,4,20,20\nb.png,3,5,20,21\n"
SCHEME = 'name = "tiny"\nlandmarks = 2\neye_corners = [0, 1]\n'
PTS = "version: 1\nn_points:  68\n{\n" + "".join(f"{n % 10} {n // 10 + 9}\n" for n in range(68)) + "}\n"
INFO = {"format": 1, "resolution": 4, "scheme": "300w"}
INDEX = "home/datasets/synthetic.npz"

Content = bytes | str | Callable[[Any], bytes] | None  # a callable gets the shop; None: no such file


def weights(metadata: dict[str, Any] | None, **tensors: torch.Tensor) -> bytes:
    tensors = tensors or {"x": torch.zeros(1)}
    return save(tensors, {"popos": json.dumps(metadata)} if metadata is not None else None)


def pth(data: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(data, buffer)
    return buffer.getvalue()


class Runs:
    """A pickle that runs a command when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch it-ran",)


def foreign(landmarks: int = 29, without: str | None = None, share: float = 1.0) -> Content:
    """A 4-pixel checkpoint of POPoS without some tensors, or its first part."""

    def write(shop: Any) -> bytes:
        state = popos_fork(network(landmarks, 4, popos=True))
        data = pth(checkpoint({k: v for k, v in state.items() if without is None or without not in k}))
        return data[: round(len(data) * share)]

    return write


def archive(shop: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("exp/best.pth", "x")
    return buffer.getvalue()


def of_run(name: str, share: float = 1.0) -> Content:
    """A file of the run that the tests trained, or the first part of it."""
    return lambda shop: (data := (shop.run / name).read_bytes())[: round(len(data) * share)]


def index(shop: Any, share: float = 1.0, **changed: Any) -> bytes:
    """The prepared index of "synthetic", cut off or with other metadata."""
    path = shop.home / "datasets/synthetic.npz"
    if not changed:
        return path.read_bytes()[: round(path.stat().st_size * share)]
    with np.load(path) as arrays:
        columns = dict(arrays)
    columns["meta"] = np.array(json.dumps({**json.loads(str(columns["meta"])), **changed}))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)
    return buffer.getvalue()


def zeroed(shop: Any) -> bytes:
    """An index of the right length with a damaged part among its points."""
    data = bytearray(index(shop))
    data[len(data) // 3 : len(data) // 3 + 64] = bytes(64)
    return bytes(data)


# By a command's start: what lies there that is all right.
RUN: dict[str, Content] = {f"run/{name}": of_run(name) for name in ("settings.toml", "best.safetensors")}
GOOD: dict[str, dict[str, Content]] = {
    "predict": {"a.jpg": PHOTO, "b.jpg": PHOTO},
    "prepare-data custom d": {
        "d/labels.csv": CSV, "d/a.png": PICTURE, "d/b.png": PICTURE, "tiny.toml": SCHEME,
    },
    "inspect s": {INDEX: index}, "train": {INDEX: index}, "evaluate -": {INDEX: index},
    "calibrate": {INDEX: index}, "train --resume run": RUN, "import-weights": {"w.pth": foreign()},
}  # fmt: skip

BACKBONE = {"conv1.weight": torch.zeros(1), "stage2.0.branches.0.0.conv1.weight": torch.zeros(1)}
RESNET = {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer4.0.conv1.weight": torch.zeros(3)}
RESULT = {
    "dataset": "300w", "split": "test", "weights": "default", "resolution": 16, "decoder": "ml", "faces": 689,
    "nme": 3.0, "failure_rate": 0.5, "auc": 60.0, "normaliser": "inter-ocular", "threshold": 0.1,
}  # fmt: skip


def row(cells: str) -> dict[str, Content]:
    """Good labels and one more row, in line 4."""
    return {"d/labels.csv": f"{CSV}{cells}\n"}


def ours(metadata: dict[str, Any] | None, **tensors: torch.Tensor) -> dict[str, Content]:
    return {"w.safetensors": weights(metadata, **tensors)}


# What is wrong, by the first column of the table: files beside, or instead of, the good ones.
WRONG: dict[str, dict[str, Content]] = {
    # predict
    "truncated JPEG": {"a.jpg": PHOTO[:9000]},
    "truncated PNG": {"a.png": PICTURE[:-9]},
    "text file called .jpg": {"a.jpg": "hello"},
    "empty picture file": {"a.jpg": b""},
    "no video": {"clip.mp4": b"\0\0\0\x18ftypmp42"},
    "push an exported model": {"w.onnx": b"\x08\x07\x12\x07pytorch"},
    "export what is there": {"taken.onnx": b""},
    "HEIC": {"a.heic": b"\0\0\0\x18ftypheic"},
    "folder without pictures": {"notes/a.txt": "x"},
    "weight folder without weights": {"d/x": ""},
    "torn weight file": {"w.safetensors": of_run("best.safetensors", 0.5)},
    "empty weight file": {"w.safetensors": b""},
    "pickle called .safetensors": {"w.safetensors": pickle.dumps({"state_dict": [1.0] * 100})},
    "safetensors of another program": ours(None),
    "PyTorch checkpoint for weights": {"w.pth": pth({})},
    "ONNX model for weights": {"w.onnx": b"\x08\x07\x12\x07pytorch"},
    "web page for weights": {"w.safetensors": "<!doctype html><p>Sign in"},
    "Git LFS pointer for weights": {"w.safetensors": "version https://git-lfs.github.com/spec/v1\n"},
    "ImageNet backbone's file for weights": ours(None, **BACKBONE),
    "weights of a newer format": ours({**INFO, "format": 2}),
    "weights without a resolution": ours({"format": 1, "scheme": "300w"}),
    "weights of an unknown scheme": ours({**INFO, "scheme": "500w"}),
    "weights with a broken scheme": ours({**INFO, "scheme": "x", "scheme_definition": {"name": "x"}}),
    "weights of other points than their scheme's": ours(
        INFO, **{"head.3.weight": torch.zeros(98, 54, 1, 1)}
    ),
    "weights of an unknown decoder": ours({**INFO, "codec": {"decoder": "oracle"}}),
    "weights with other tensors": ours(INFO),
    # prepare-data
    "ROOT without labels": {"d/labels.csv": None},
    "labels of an unknown kind": {"d.xml": "<x/>"},
    "two CSVs in a folder": {"d/more.csv": ""},
    "empty CSV": {"d/labels.csv": ""},
    "CSV that is no text": {"d/labels.csv": PICTURE},
    "CSV of the header alone": {"d/labels.csv": "image,x0,y0,x1,y1\n"},
    "header with other columns": {"d/labels.csv": "image,x0,y0\n"},
    "columns without a meaning": {"d/labels.csv": "image,a,b,c,d\na.png,3,4,20,20\n"},
    "no header": {"d/labels.csv": "a.png,1,2,3,4\n"},
    "header without images": {"d/labels.csv": "x0,y0,x1,y1,name\n1,2,3,4,a\n"},
    "row with other columns": row("a.png,1,2,3"),
    "NaN in a row": row("a.png,1,nan,3,4"),
    "infinity in a row": row("a.png,1,2,inf,4"),
    "word in a row": row("a.png,1,two,3,4"),
    "empty cell in a row": row("a.png,1,2,,4"),
    "missing picture in a row": row("c.png,1,2,3,4"),
    "no picture in a row": row(",1,2,3,4"),
    "face without size": row("a.png,5,5,5,5"),
    "far point": row("a.png,1,2,1e6,4"),
    "unreadable picture in a row": {**row("c.png,1,2,3,4"), "d/a.png": PICTURE[:-9], "d/c.png": PICTURE},
    "JSON that is none": {"d/labels.csv": None, "d/labels.json": "{\n!"},
    "JSON that is not COCO": {"d/labels.csv": None, "d/labels.json": "{}"},
    "JSON that is a list": {"d/labels.csv": None, "d/labels.json": "[]"},
    "COCO with odd annotations": {
        "d/labels.csv": None, "d/labels.json": '{"images": [], "annotations": [3]}',
    },
    "scheme that is no TOML": {"tiny.toml": "= ="},
    "scheme without landmarks": {"tiny.toml": "name = 'x'"},
    "scheme with a wrong index": {"tiny.toml": SCHEME.replace("[0, 1]", "[0, 2]")},
    "labels in 0..1": {"d/labels.csv": "image,x0,y0,x1,y1\na.png,.1,.1,.5,.5\nb.png,.1,.2,.5,.6\n"},
    "synthetic into a taken folder": {"d/images/a.png": PICTURE},
    "POPOS_HOME that is a file": {"home": "a file"},
    "nothing of the benchmark": {"d/a.png": PICTURE},
    "web page saved as an archive": {"d/afw.zip": "<!DOCTYPE html><html><body>Log in</body></html>"},
    "part of an archive": {"d/WFLW_annotations.tar.gz": gzip.compress(bytes(5000))[:-20]},
    "benchmark's labels torn": {"d/COFW_train_color.mat": b"\x89HDF"},
    "half a benchmark": {"d/afw/a.jpg": PHOTO, "d/afw/a.pts": PTS},
    "benchmark's label with a point less": {
        "d/afw/a.jpg": PHOTO, "d/afw/a.pts": PTS, "d/afw/b.pts": PTS.replace("5 9\n", "", 1),
    },
    # train
    "config that is no TOML": {"my.toml": "epochs: 3"},
    "unknown key in a config": {"my.toml": "epochs = 3"},
    "run folder that exists": {"r/notes.txt": "mine"},
    "run folder that is a file": {"r": "mine"},
    "run folder below a file": {"r": "mine"},
    "weights to tune of another network": ours(INFO),
    "weights to tune of a newer format": ours({**INFO, "format": 2}),
    "PyTorch checkpoint to tune": {"w.pth": pth({})},
    "--resume of no run": {"r/notes.txt": "mine"},
    "torn state.ckpt, and none before it": {"run/state.ckpt": of_run("state.ckpt", 0.7)},
    "state.ckpt that is none, and no other": {"run/state.ckpt": "x"},
    "checkpoint of another network": {"run/state.ckpt": of_run("state.ckpt")},
    # evaluate
    "folder below a file": {"a.jpg": PHOTO},
    "weights of another resolution": RUN,
    "weights of another scheme": ours({**INFO, "scheme": "wflw"}),
    "PyTorch checkpoint to evaluate": {"w.pth": pth({})},
    "torn index": {INDEX: lambda shop: index(shop, 0.5)},
    "damaged index": {INDEX: zeroed},
    "index that is none": {INDEX: "hello"},
    "index of a newer format": {INDEX: lambda shop: index(shop, format=2)},
    "index with a broken scheme": {INDEX: lambda shop: index(shop, scheme={"name": "x", "landmarks": 0})},
    # import-weights
    "no checkpoint there": {"w.pth": None},
    "folder for a checkpoint": {"w.pth": None, "w.pth/a": ""},
    "empty checkpoint": {"w.pth": ""},
    "torn checkpoint": {"w.pth": foreign(share=0.6)},
    "web page called .pth": {"w.pth": "<html>Sign in</html>"},
    "text called .pth": {"w.pth": "hello"},
    "safetensors to import": ours(INFO),
    "archive of checkpoints": {"w.pth": archive},
    "pickle that runs a command": {"w.pth": pth(checkpoint({}, more=Runs()))},
    "checkpoint of a whole model": {"w.pth": pth(torch.nn.Linear(1, 1))},
    "checkpoint of one tensor": {"w.pth": pth(torch.zeros(3))},
    "checkpoint of another backbone": {"w.pth": pth(RESNET)},
    "checkpoint without a tensor": {"w.pth": foreign(without="layer1.0.bn1.bias")},
    "checkpoint of unknown points": {"w.pth": foreign(5)},
    "checkpoint of no certain resolution": {"w.pth": foreign(without="downscale")},
    "output that is there": {"w.safetensors": "x"},
    # push-weights
    "push a checkpoint of PyTorch": {"w.pth": pth({})},
    "push torn weights": {"w.safetensors": of_run("best.safetensors", 0.5)},
    "metrics that are none": {"m.json": "{}"},
    "metrics of other weights": {"m.json": json.dumps({"results": [RESULT]})},
    # calibrate
    "calibrate a checkpoint of PyTorch": {"w.pth": pth({})},
    "calibrate into a file that is there": {"new.safetensors": "x"},
    "calibrate weights of another scheme": ours({**INFO, "scheme": "wflw"}),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A row of the tables. message, hint: `...` stands for anything."""

    what: str
    command: str
    code: int
    message: str
    hint: str


def read_rows() -> list[Row]:
    """The rows of tests/e2e/bad_inputs.md whose second cell is a command."""
    rows = []
    for line in (Path(__file__).parent / "bad_inputs.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" |")]
        if len(cells) == 5 and cells[1].startswith("`"):
            rows.append(Row(cells[0], cells[1].strip("`"), int(cells[2]), cells[3], cells[4]))
    return rows


ROWS = read_rows()


def matches(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("..."))), text) is not None


def lay_out(row: Row, shop: Any, folder: Path) -> None:
    """Write the good files for this command, and what is wrong."""
    files: dict[str, Content] = {}
    for start, good in GOOD.items():
        files |= good if row.command.startswith(start) else {}
    for name, content in (files | WRONG.get(row.what, {})).items():
        data = content(shop) if callable(content) else content
        if data is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.encode() if isinstance(data, str) else data)


def test_every_row_is_tried_once():
    names = [row.what for row in ROWS]
    assert len(names) == len(set(names)) > 200
    assert set(WRONG) <= set(names)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_bad_input(row, popos, shop, tmp_path):
    lay_out(row, shop, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    arguments = shlex.split(row.command)
    result, machine = popos(*arguments), popos(*arguments, "--json")
    assert (result.code, machine.code, result.out) == (row.code, row.code, "")
    assert "Traceback" not in result.err + machine.err
    (line,) = result.errors
    message = line.removeprefix("error: ")
    assert matches(row.message, shortened(message, tmp_path))
    assert "looks like a bug" not in result.err
    hint = next((line[6:] for line in result.err.splitlines() if line.startswith("hint: ")), "")
    assert matches(row.hint, shortened(hint, tmp_path))
    document = machine.json
    if {"images", "source"} & document.keys():  # predict continues with the others: the message is this one's
        (image,) = document.get("images", [document])
        assert (image["error"], image["faces"]) == (message, [])
    else:
        assert document == {"error": {"message": message, "hint": hint or None}}
    if row.code == 2:  # found before any work
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def shortened(text: str, folder: Path) -> str:
    """`text` as the tables have it."""
    return text.replace(f"{folder}/home", "POPOS_HOME").replace(f"{folder}/", "")


def test_traceback_on_demand(popos, monkeypatch):
    """For whoever looks for the cause."""
    monkeypatch.setenv("POPOS_DEBUG", "1")
    with pytest.raises(UsageError):
        popos("predict", "shots/*.png")


def test_a_bug_of_ours_says_so(popos, monkeypatch, astronaut):
    def broken(*arguments):
        raise ZeroDivisionError("one line\nand another")

    monkeypatch.setattr("popos_cli.predict.predictor.Predictor.locate", broken)
    result = popos("predict", astronaut)
    assert result.code == 1
    (line,) = result.errors
    assert line.startswith(f"error: {astronaut}: ZeroDivisionError: one line (")
    assert "POPOS_DEBUG=1" in result.err
