"""What popos says to inputs that it cannot use: one line that names the culprit, no traceback.

Exit code 2 stands for a wrong flag, value or unknown name that is found before any work, 1 for
everything else.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shlex
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from layouts import checkpoint, network, popos_fork
from safetensors.torch import save

PHOTO = (Path(__file__).resolve().parents[2] / "docs/assets/astronaut.jpg").read_bytes()
PICTURE = cv2.imencode(".png", np.full((40, 40, 3), 90, np.uint8))[1].tobytes()
TINY_SCHEME = 'name = "tiny"\nlandmarks = 2\neye_corners = [0, 1]\n'
PTS = "version: 1\nn_points:  68\n{\n" + "".join(f"{n % 10} {n // 10 + 9}\n" for n in range(68)) + "}\n"
GOOD_CSV = "image,x0,y0,x1,y1\na.png,3,4,20,20\nb.png,3,5,20,21\n"

Content = bytes | str | Callable[[Any], bytes]


@dataclass(frozen=True)
class Case:
    """files: what lies in the working folder. told: what the message must contain. entry: predict
    goes on with the other pictures, and in JSON the message is the picture's own."""

    what: str
    command: str
    code: int
    told: str
    files: dict[str, Content] = field(default_factory=dict)
    hint: str = ""
    entry: bool = False


def labels(csv: str, **more: Content) -> dict[str, Content]:
    pictures = {"d/a.png": PICTURE, "d/b.png": PICTURE, "tiny.toml": TINY_SCHEME}
    return {"d/labels.csv": csv, **pictures, **more}


def row(cells: str) -> dict[str, Content]:
    """Good labels and one more row, in line 4."""
    return labels(GOOD_CSV + cells + "\n")


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

    def read(shop: Any) -> bytes:
        data: bytes = (shop.run / name).read_bytes()
        return data[: round(len(data) * share)]

    return read


def index(share: float = 1.0, **changed: Any) -> Content:
    """The prepared index of "synthetic", cut off or with other metadata."""

    def read(shop: Any) -> bytes:
        path = shop.home / "datasets/synthetic.npz"
        if not changed:
            data: bytes = path.read_bytes()
            return data[: round(len(data) * share)]
        with np.load(path) as arrays:
            columns = dict(arrays)
        columns["meta"] = np.array(json.dumps({**json.loads(str(columns["meta"])), **changed}))
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **columns)
        return buffer.getvalue()

    return read


def flipped_bits(shop: Any) -> bytes:
    """An index of the right length whose points have suffered."""
    data = bytearray((shop.home / "datasets/synthetic.npz").read_bytes())
    data[len(data) // 3 : len(data) // 3 + 64] = bytes(64)
    return bytes(data)


A = {"a.jpg": PHOTO}
READY: dict[str, Content] = {"home/datasets/synthetic.npz": index()}
RUN: dict[str, Content] = {
    "run/settings.toml": of_run("settings.toml"), "run/best.safetensors": of_run("best.safetensors"), **READY
}  # fmt: skip
INFO = {"format": 1, "resolution": 4, "scheme": "300w"}
PREPARE = "prepare-data custom d --scheme tiny.toml"
TRAIN = "train --dataset synthetic --gpus 0 --resolution 4 --set model.init=scratch"
EVALUATE = "evaluate --dataset synthetic"
IMPORT = "import-weights w.pth"
BACKBONE = {"conv1.weight": torch.zeros(1), "stage2.0.branches.0.0.conv1.weight": torch.zeros(1)}
RESULT = {
    "dataset": "300w", "split": "test", "weights": "default", "resolution": 16, "decoder": "ml", "faces": 689,
    "nme": 3.0, "failure_rate": 0.5, "auc": 60.0, "normaliser": "inter-ocular", "threshold": 0.1,
}  # fmt: skip
RESNET = {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer4.0.conv1.weight": torch.zeros(3)}

CASES = [
    # calibrate and bench
    Case("calibrate into nothing", "calibrate --weights small --dataset synthetic", 2, "--out"),
    Case(
        "calibrate unknown weights", "calibrate --weights smal --dataset d --out o", 2, "'smal'",
        hint="small",
    ),
    Case(
        "calibrate a checkpoint of PyTorch", "calibrate --weights w.pth --dataset synthetic --out o", 1,
        "w.pth: a checkpoint of PyTorch", {**READY, "w.pth": pth({})}, hint="popos import-weights w.pth",
    ),
    Case("calibrate a detector", "calibrate --weights yunet --dataset synthetic --out o", 2, "yunet", READY),
    Case(
        "calibrate on an unprepared dataset", "calibrate --weights small --dataset synthetik --out o", 1,
        "'synthetik' is not prepared", READY, hint="synthetic",
    ),
    Case("bench an unknown decoder", "bench decoders --decoder darc", 2, "'darc'", hint="dark"),
    Case("bench another resolution", "bench decoders --resolution 5", 2, "'5'"),
    Case("bench no landmarks", "bench decoders --landmarks 0", 2, "--landmarks"),
    # predict
    Case(
        "truncated JPEG", "predict a.jpg", 1, "a.jpg: the image is truncated",
        {"a.jpg": PHOTO[:9000]}, entry=True,
    ),
    Case(
        "truncated PNG", "predict a.png", 1, "a.png: the image is truncated",
        {"a.png": PICTURE[:-9]}, entry=True,
    ),
    Case("text file called .jpg", "predict a.jpg", 1, "a.jpg: not an image", {"a.jpg": "hello"}, entry=True),
    Case("empty picture file", "predict a.jpg", 1, "a.jpg: the file is empty", {"a.jpg": b""}, entry=True),
    Case("missing picture", "predict gone.jpg", 1, "gone.jpg: no such file", entry=True),
    Case("picture below a file", "predict a.jpg/b.jpg", 1, "a.jpg/b.jpg: not a directory", A, entry=True),
    Case("folder without pictures", "predict notes", 2, "notes: no picture", {"notes/a.txt": "x"}),
    Case("pattern without match", "predict 'shots/*.png'", 2, "shots/*.png"),
    Case("no source", "predict", 2, "sources"),
    Case("box of three numbers", "predict a.jpg --box 1,2,3", 2, "'1,2,3'", A),
    Case("box of words", "predict a.jpg --box a,b,c,d", 2, "'a,b,c,d'", A),
    Case("box of negative width", "predict a.jpg --box 1,2,-3,4", 2, "'1,2,-3,4'", A),
    Case("box with NaN", "predict a.jpg --box nan,2,3,4", 2, "'nan,2,3,4'", A),
    Case("box for two pictures", "predict a.jpg b.jpg --box 1,2,3,4", 2, "--box", A),
    Case("unknown flag", "predict a.jpg --bx 1,2,3,4", 2, "--bx", A),
    Case("unknown detector", "predict a.jpg --detector harr", 2, "'harr' is not one of 'auto', 'haar'", A),
    Case(
        "detector that is not here", "predict a.jpg --detector yunet", 1, "yunet is not here", A,
        hint="popos download-weights yunet",
    ),
    Case("unknown device", "predict a.jpg --device cuda:99", 2, "'cuda:99'", A),
    Case("no such device", "predict a.jpg --device gpu0", 2, "'gpu0'", A),
    Case("output below a file", "predict a.jpg --out a.jpg/out", 1, "a.jpg/out", A),
    Case(
        "unknown weights, near miss", "predict a.jpg --weights defualt", 2, "'defualt'",
        A, hint="'default'",
    ),
    Case("missing weight file", "predict a.jpg --weights w.safetensors", 1, "w.safetensors: no such", A),
    Case(
        "weight folder without weights", "predict a.jpg --weights d", 1, "best.safetensors",
        {**A, "d/x": ""},
    ),
    Case(
        "torn weight file", "predict a.jpg --weights w.safetensors", 1, "w.safetensors",
        {**A, "w.safetensors": of_run("best.safetensors", 0.5)},
    ),
    Case(
        "empty weight file", "predict a.jpg --weights w.safetensors", 1, "w.safetensors",
        {**A, "w.safetensors": b""},
    ),
    Case(
        "pickle called .safetensors", "predict a.jpg --weights w.safetensors", 1, "w.safetensors",
        {**A, "w.safetensors": pickle.dumps({"state_dict": [1.0] * 100})},
    ),
    Case(
        "safetensors of another program", "predict a.jpg --weights w.safetensors", 1, "not popos weights",
        {**A, "w.safetensors": weights(None)},
    ),
    Case(
        "PyTorch checkpoint for weights", "predict a.jpg --weights w.pth", 1, "w.pth: a checkpoint",
        {**A, "w.pth": pth({})}, hint="popos import-weights w.pth",
    ),
    Case(
        "ONNX model for weights", "predict a.jpg --weights w.onnx", 1, "w.onnx: an ONNX model",
        {**A, "w.onnx": b"\x08\x07\x12\x07pytorch"},
    ),
    Case(
        "web page for weights", "predict a.jpg --weights w.safetensors", 1, "w.safetensors: a web page",
        {**A, "w.safetensors": "<!doctype html><p>Sign in"},
    ),
    Case(
        "Git LFS pointer for weights", "predict a.jpg --weights w.safetensors", 1, "a Git LFS pointer",
        {**A, "w.safetensors": "version https://git-lfs.github.com/spec/v1\n"}, hint="git lfs pull",
    ),
    Case(
        "ImageNet backbone for weights", "predict a.jpg --weights hrnet-w18-imagenet", 2,
        "hrnet-w18-imagenet: ImageNet backbone", A, hint="popos train",
    ),
    Case(
        "ImageNet backbone's file for weights", "predict a.jpg --weights w.safetensors", 1,
        "w.safetensors: an HRNet backbone", {**A, "w.safetensors": weights(None, **BACKBONE)},
        hint="popos train --weights w.safetensors",
    ),
    Case("detector for weights", "predict a.jpg --weights yunet", 2, "yunet: face detector", A),
    Case(
        "weights of a newer format", "predict a.jpg --weights w.safetensors", 1, "format 2",
        {**A, "w.safetensors": weights({**INFO, "format": 2})}, hint="Upgrade",
    ),
    Case(
        "weights without a resolution", "predict a.jpg --weights w.safetensors", 1, "resolution",
        {**A, "w.safetensors": weights({"format": 1, "scheme": "300w"})},
    ),
    Case(
        "weights of an unknown scheme", "predict a.jpg --weights w.safetensors", 1, "'500w'",
        {**A, "w.safetensors": weights({**INFO, "scheme": "500w"})},
    ),
    Case(
        "weights with a broken scheme", "predict a.jpg --weights w.safetensors", 1, "landmarks",
        {**A, "w.safetensors": weights({**INFO, "scheme": "x", "scheme_definition": {"name": "x"}})},
    ),
    Case(
        "weights of other points than their scheme's", "predict a.jpg --weights w.safetensors", 1,
        "head.3.weight",
        {**A, "w.safetensors": weights(INFO, **{"head.3.weight": torch.zeros(98, 54, 1, 1)})},
    ),
    Case(
        "weights of an unknown decoder", "predict a.jpg --weights w.safetensors", 1, "'oracle'",
        {**A, "w.safetensors": weights({**INFO, "codec": {"decoder": "oracle"}})}, hint="Upgrade",
    ),
    Case(
        "weights with other tensors", "predict a.jpg --weights w.safetensors", 1, "w.safetensors",
        {**A, "w.safetensors": weights(INFO)},
    ),
    # prepare-data
    Case("unknown dataset", "prepare-data faces d", 2, "'faces'", hint="custom"),
    Case("unknown dataset, near miss", "prepare-data costum d", 2, "'costum'", hint="'custom'"),
    Case("missing ROOT", "prepare-data custom gone", 1, "gone"),
    Case("ROOT without labels", "prepare-data custom d", 1, "d: found no", {"d/a.png": PICTURE}),
    Case("labels of an unknown kind", "prepare-data custom d.xml", 1, "d.xml", {"d.xml": "<x/>"}),
    Case("two CSVs in a folder", PREPARE, 1, "labels.csv, more.csv", labels("", **{"d/more.csv": ""})),
    Case("empty CSV", PREPARE, 1, "labels.csv: the file is empty", labels("")),
    Case("CSV that is no text", PREPARE, 1, "labels.csv", labels(PICTURE)),
    Case("CSV of the header alone", PREPARE, 1, "d: too few", labels("image,x0,y0,x1,y1\n")),
    Case("header with other columns", PREPARE, 1, "labels.csv:1: 3 columns", labels("image,x0,y0\n")),
    Case("no header", PREPARE, 1, "labels.csv:1", labels("a.png,1,2,3,4\n")),
    Case("row with other columns", PREPARE, 1, "labels.csv:4: 4 columns", row("a.png,1,2,3")),
    Case("NaN in a row", PREPARE, 1, "labels.csv:4", row("a.png,1,nan,3,4")),
    Case("infinity in a row", PREPARE, 1, "labels.csv:4", row("a.png,1,2,inf,4")),
    Case("word in a row", PREPARE, 1, "labels.csv:4: column y0: 'two'", row("a.png,1,two,3,4")),
    Case("empty cell in a row", PREPARE, 1, "labels.csv:4: column x1: ''", row("a.png,1,2,,4")),
    Case("missing picture in a row", PREPARE, 1, "labels.csv:4: image 'c.png'", row("c.png,1,2,3,4")),
    Case("no picture in a row", PREPARE, 1, "labels.csv:4: image ''", row(",1,2,3,4")),
    Case("face without size", PREPARE, 1, "labels.csv:4: the face has no size", row("a.png,5,5,5,5")),
    Case(
        "unreadable picture in a row", PREPARE, 1, "a.png: the image is truncated",
        {**labels(GOOD_CSV), "d/a.png": PICTURE[:-9], "d/c.png": PICTURE,
         "d/labels.csv": GOOD_CSV + "c.png,1,2,3,4\n"},
    ),
    Case(
        "JSON that is none", "prepare-data custom d", 1, "labels.json:2: not JSON",
        {"d/labels.json": "{\n!"},
    ),
    Case("JSON that is not COCO", "prepare-data custom d", 1, "'images' is missing", {"d/labels.json": "{}"}),
    Case("JSON that is a list", "prepare-data custom d", 1, "not COCO keypoints", {"d/labels.json": "[]"}),
    Case(
        "COCO with odd annotations", "prepare-data custom d", 1, "not COCO keypoints",
        {"d/labels.json": '{"images": [], "annotations": [3]}'},
    ),
    Case(
        "unknown scheme, near miss", "prepare-data custom d --scheme 300v", 2, "'300v'",
        labels(GOOD_CSV), hint="'300w'",
    ),
    Case(
        "missing scheme file", "prepare-data custom d --scheme my.toml", 2, "my.toml: no such",
        labels(GOOD_CSV),
    ),
    Case("scheme that is no TOML", PREPARE, 2, "tiny.toml", {**labels(GOOD_CSV), "tiny.toml": "= ="}),
    Case(
        "scheme without landmarks", PREPARE, 2, "landmark scheme: landmarks",
        {**labels(GOOD_CSV), "tiny.toml": "name = 'x'"},
    ),
    Case(
        "scheme with a wrong index", PREPARE, 2, "tiny.toml: not a landmark scheme: index 2 lies",
        {**labels(GOOD_CSV), "tiny.toml": TINY_SCHEME.replace("[0, 1]", "[0, 2]")},
    ),
    Case("regex without a group", f"{PREPARE} --split-by '^a'", 2, "'^a'", labels(GOOD_CSV)),
    Case("regex that is none", f"{PREPARE} --split-by '(a'", 2, "'(a'", labels(GOOD_CSV)),
    Case("everybody is one person", f"{PREPARE} --split-by '(png)'", 1, "'png'", labels(GOOD_CSV)),
    Case("share above 1", f"{PREPARE} --val-fraction 1.5", 2, "--val-fraction 1.5", labels(GOOD_CSV)),
    Case("negative seed", f"{PREPARE} --seed -3", 2, "--seed", labels(GOOD_CSV)),
    Case("base that is neither 0 nor 1", f"{PREPARE} --base 2", 2, "--base", labels(GOOD_CSV)),
    Case("name with a slash", f"{PREPARE} --name ../x", 2, "'../x'", labels(GOOD_CSV)),
    Case(
        "synthetic into a taken folder", "prepare-data synthetic d", 1, "d/images",
        {"d/images/a.png": PICTURE},
    ),
    Case("POPOS_HOME that is a file", PREPARE, 1, "home/datasets/d.npz", labels(GOOD_CSV, home="a file")),
    # prepare-data of a benchmark
    Case("benchmark, near miss", "prepare-data wlfw d", 2, "unknown dataset 'wlfw'", hint="wflw"),
    Case("benchmark without its ROOT", "prepare-data 300w gone", 1, "gone: no such"),
    Case(
        "nothing of the benchmark", "prepare-data cofw d", 1, "d: nothing of cofw was found",
        {"d/a.png": PICTURE}, hint="COFW_train_color.mat",
    ),
    Case(
        "web page saved as an archive", "prepare-data 300w d", 1, "afw.zip is an HTML page",
        {"d/afw.zip": "<!DOCTYPE html><html><body>Please log in</body></html>"}, hint="browser",
    ),
    Case(
        "part of an archive", "prepare-data wflw d", 1, "WFLW_annotations.tar.gz",
        {"d/WFLW_annotations.tar.gz": gzip.compress(bytes(5000))[:-20]},
    ),
    Case(
        "benchmark's labels torn", "prepare-data cofw d", 1, "COFW_train_color.mat: not a MATLAB v7.3",
        {"d/COFW_train_color.mat": b"\x89HDF"}, hint="COFW_color.zip",
    ),
    Case(
        "half a benchmark", "prepare-data 300w d", 1, "300w is not complete",
        {"d/afw/a.jpg": PHOTO, "d/afw/a.pts": PTS}, hint="--allow-partial",
    ),
    Case(
        "benchmark's label with a point less", "prepare-data 300w d --allow-partial", 1,
        "afw/b.pts: 67 points instead of 68",
        {"d/afw/a.jpg": PHOTO, "d/afw/a.pts": PTS, "d/afw/b.pts": PTS.replace("5 9\n", "", 1)},
        hint="--skip-bad",
    ),
    Case("scheme for a benchmark", "prepare-data 300w d --scheme wflw", 2, "--scheme is not for 300w"),
    Case("unknown crop format", "prepare-data 300w d --crop-format gif", 2, "'gif'", hint="--help"),
    # inspect
    Case("inspect nothing", "inspect", 2, "dataset"),
    Case("inspect an unprepared dataset", "inspect mine", 1, "'mine' is not prepared", hint="prepare-data"),
    Case(
        "inspect with an unknown setting", "inspect synthetic --set augment.flop=1", 2, "augment.flop", READY,
        hint="augment.flip",
    ),
    Case(
        "inspect a split that there is not", "inspect synthetic --split test", 2, "'test'", READY,
        hint="train, val",
    ),
    # bench
    Case("bench another dataset", "bench data --dataset mine", 1, "'mine' is not prepared"),
    # train
    Case("no dataset", "train", 2, "dataset"),
    Case(
        "unprepared dataset", "train --dataset mine", 1, "'mine'",
        hint="prepare-data custom ROOT --name mine",
    ),
    Case("dataset, near miss", "train --dataset synthetik", 1, "'synthetik'", READY, hint="'synthetic'"),
    Case("unknown setting", f"{TRAIN} --set schedule.epoch=3", 2, "'schedule.epoch'", hint="schedule.epochs"),
    Case("setting out of range", f"{TRAIN} --set augment.flip=1.5", 2, "augment.flip = 1.5"),
    Case("setting of another type", f"{TRAIN} --set schedule.epochs=many", 2, "schedule.epochs = "),
    Case("--set without a value", f"{TRAIN} --set schedule.epochs", 2, "'schedule.epochs'"),
    Case("flag of another type", f"{TRAIN} --epochs many", 2, "--epochs"),
    Case(
        "resolution that there is not", "train --dataset synthetic --resolution 7", 2, "--resolution",
        READY,
    ),
    Case("missing config", f"{TRAIN} --config my.toml", 2, "my.toml"),
    Case("config that is no TOML", f"{TRAIN} --config my.toml", 2, "my.toml", {"my.toml": "epochs: 3"}),
    Case("unknown key in a config", f"{TRAIN} --config my.toml", 2, "my.toml", {"my.toml": "epochs = 3"}),
    Case("more GPUs than there are", f"{TRAIN} --gpus 99", 1, "--gpus 99", READY, hint="--gpus"),
    Case("negative GPUs", f"{TRAIN} --gpus -1", 2, "--gpus", READY),
    Case("run folder that exists", f"{TRAIN} --out r", 1, "r exists", {**READY, "r/notes.txt": "mine"}),
    Case("run folder that is a file", f"{TRAIN} --out r", 1, "r exists", {**READY, "r": "mine"}),
    Case("run folder below a file", f"{TRAIN} --out r/x", 1, "r/x", {**READY, "r": "mine"}),
    Case("weights to tune, near miss", f"{TRAIN} --weights smal", 2, "'smal'", READY, hint="'small'"),
    Case(
        "weights to tune of another network", f"{TRAIN} --weights w.safetensors", 1, "w.safetensors",
        {**READY, "w.safetensors": weights(INFO)},
    ),
    Case(
        "weights to tune of a newer format", f"{TRAIN} --weights w.safetensors", 1, "format 2",
        {**READY, "w.safetensors": weights({**INFO, "format": 2})}, hint="Upgrade",
    ),
    Case(
        "PyTorch checkpoint to tune", f"{TRAIN} --weights w.pth", 1, "w.pth: a checkpoint of PyTorch",
        {**READY, "w.pth": pth({})}, hint="popos import-weights w.pth",
    ),
    Case("detector to tune", f"{TRAIN} --weights yunet", 2, "yunet: face detector", READY),
    Case("--resume of no run", "train --resume r", 1, "r: no settings.toml", {"r/notes.txt": "mine"}),
    Case("--resume of a missing folder", "train --resume gone", 1, "gone"),
    Case(
        "torn state.ckpt", "train --resume run", 1, "run: no checkpoint to go on from: state.ckpt is torn",
        {**RUN, "run/state.ckpt": of_run("state.ckpt", 0.7)},
    ),
    Case(
        "state.ckpt that is none", "train --resume run", 1, "state.ckpt is torn",
        {**RUN, "run/state.ckpt": "x"},
    ),
    Case(
        "state.ckpt of another network", "train --resume run --set model.resolution=8", 1,
        "state.ckpt is of another network or optimiser",
        {**RUN, "run/state.ckpt": of_run("state.ckpt")},
    ),
    Case("--resume with another dataset", "train --resume run --dataset x", 2, "--dataset", RUN),
    # evaluate
    Case("unknown decoder", f"{EVALUATE} --decoder darc", 2, "'darc'", READY, hint="'dark'"),
    Case("unknown split", f"{EVALUATE} --split validation", 2, "'validation'", READY),
    Case("split that the dataset has not", f"{EVALUATE} --split test", 2, "'test'", READY, hint="train, val"),
    Case("split of 300W alone", "evaluate --split private", 2, "'private'", READY, hint="train, val"),
    Case("unknown averaging", f"{EVALUATE} --averaging points", 2, "'points'", READY, hint="pooled"),
    Case("unknown boxes", f"{EVALUATE} --boxes true", 2, "'true'", READY, hint="truth"),
    Case("threshold in percent", f"{EVALUATE} --threshold 10", 2, "--threshold 10", READY),
    Case("unknown resolution", f"{EVALUATE} --resolution 17", 2, "--resolution 17", READY),
    Case("no resolution", f"{EVALUATE} --resolution eight", 2, "--resolution eight", READY),
    Case("folder that is taken", f"{EVALUATE} --out home", 1, "home exists", READY, hint="--out"),
    Case("folder below a file", f"{EVALUATE} --out a.jpg/x", 1, "a.jpg/x", {**READY, **A}, hint="--out"),
    Case("no weights of that resolution", f"{EVALUATE} --resolution 32", 1, "32", READY, hint="popos train"),
    Case("weights of another resolution", f"{EVALUATE} --weights run --resolution 8", 1, "run", RUN),
    Case(
        "weights of another scheme", f"{EVALUATE} --weights w.safetensors", 1, "'wflw'",
        {**READY, "w.safetensors": weights({**INFO, "scheme": "wflw"})},
    ),
    Case(
        "PyTorch checkpoint to evaluate", f"{EVALUATE} --weights w.pth", 1, "w.pth: a checkpoint of PyTorch",
        {**READY, "w.pth": pth({})}, hint="popos import-weights w.pth",
    ),
    Case("backbone to evaluate", f"{EVALUATE} --weights hrnet-w18-imagenet", 2, "ImageNet backbone", READY),
    Case("unknown detector to evaluate", f"{EVALUATE} --boxes detector --detector harr", 2, "'harr'", READY),
    Case("detector without its boxes", f"{EVALUATE} --detector haar", 2, "--boxes detector", READY),
    Case("detector for boxes, not here", f"{EVALUATE} --boxes detector --detector yunet", 1, "yunet", READY),
    Case("nothing is prepared", "evaluate", 1, "no dataset is prepared", hint="popos prepare-data"),
    Case(
        "torn index", EVALUATE, 1, "synthetic.npz",
        {"home/datasets/synthetic.npz": index(0.5)}, hint="again",
    ),
    Case("damaged index", EVALUATE, 1, "synthetic.npz", {"home/datasets/synthetic.npz": flipped_bits}),
    Case("index that is none", EVALUATE, 1, "synthetic.npz", {"home/datasets/synthetic.npz": "hello"}),
    Case(
        "index of a newer format", EVALUATE, 1, "format 2", {"home/datasets/synthetic.npz": index(format=2)},
        hint="Upgrade",
    ),
    Case(
        "index with a broken scheme", EVALUATE, 1, "synthetic.npz",
        {"home/datasets/synthetic.npz": index(scheme={"name": "x", "landmarks": 0})},
    ),
    # import-weights
    Case("no checkpoint there", IMPORT, 1, "w.pth: no such file"),
    Case("folder for a checkpoint", IMPORT, 1, "w.pth: a folder", {"w.pth/a": ""}),
    Case("empty checkpoint", IMPORT, 1, "w.pth: the file is empty", {"w.pth": ""}),
    Case("torn checkpoint", IMPORT, 1, "w.pth: not a readable", {"w.pth": foreign(share=0.6)}, hint="again"),
    Case("web page called .pth", IMPORT, 1, "w.pth: a web page", {"w.pth": "<html>Sign in</html>"}),
    Case("text called .pth", IMPORT, 1, "w.pth: not a PyTorch checkpoint", {"w.pth": "hello"}),
    Case(
        "safetensors to import", "import-weights w.safetensors", 1, "w.safetensors: a safetensors file",
        {"w.safetensors": weights(INFO)},
    ),
    Case("archive of checkpoints", IMPORT, 1, "w.pth: a zip", {"w.pth": archive}, hint="exp/best.pth"),
    Case(
        "pickle that runs a command", IMPORT, 1, f"{os.system.__module__}.system",
        {"w.pth": pth(checkpoint({}, more=Runs()))},
    ),
    Case("checkpoint of a whole model", IMPORT, 1, "Linear", {"w.pth": pth(torch.nn.Linear(1, 1))}),
    Case("checkpoint of one tensor", IMPORT, 1, "w.pth: holds one tensor", {"w.pth": pth(torch.zeros(3))}),
    Case("checkpoint of another network", IMPORT, 1, "a ResNet", {"w.pth": pth(RESNET)}),
    Case(
        "checkpoint without a tensor", IMPORT, 1, "backbone.layer1.0.bn1.bias is missing",
        {"w.pth": foreign(without="layer1.0.bn1.bias")},
    ),
    Case("checkpoint of unknown points", IMPORT, 1, "5 landmarks", {"w.pth": foreign(5)}, hint="--scheme"),
    Case(
        "checkpoint of no certain resolution", IMPORT, 1, "contradict",
        {"w.pth": foreign(without="downscale")}, hint="--resolution 4",
    ),
    Case("resolution of another one", f"{IMPORT} --resolution 8", 1, "54 channels", {"w.pth": foreign()}),
    Case("scheme of another one", f"{IMPORT} --scheme wflw", 1, "29 landmarks", {"w.pth": foreign()}),
    Case("import at no resolution", f"{IMPORT} --resolution 7", 2, "'--resolution'", {"w.pth": "x"}),
    Case("import into no scheme", f"{IMPORT} --scheme cofv", 2, "'cofv'", {"w.pth": "x"}, hint="'cofw'"),
    Case("import with no decoder", f"{IMPORT} --decoder darc", 2, "'darc'", {"w.pth": "x"}),
    Case("sigma of 0", f"{IMPORT} --sigma 0", 2, "--sigma 0", {"w.pth": "x"}),
    Case("offset of one number", f"{IMPORT} --label-offset 1", 2, "--label-offset '1'", {"w.pth": "x"}),
    Case("output of another format", f"{IMPORT} --out w.pt", 2, "--out w.pt", {"w.pth": "x"}),
    Case("output that is there", IMPORT, 1, "exists", {"w.pth": "x", "w.safetensors": "x"}, hint="--force"),
    Case(
        "output below a file", f"{IMPORT} --out w.pth/x.safetensors", 1, "x.safetensors",
        {"w.pth": foreign()},
    ),
    Case("name with a slash", f"{IMPORT} --name ../x", 2, "--name '../x'", {"w.pth": "x"}),
    Case("name of the catalog", f"{IMPORT} --name small", 2, "--name 'small'", {"w.pth": "x"}),
    # push-weights
    Case("push to no repository", "push-weights small faces", 2, "faces: not a repository", hint="ada/"),
    Case("push by another name", "push-weights small ada/faces --file w.pth", 2, "--file w.pth"),
    Case("push unknown weights", "push-weights smal ada/faces", 2, "'smal'", hint="'small'"),
    Case("push a backbone", "push-weights hrnet-w18-imagenet ada/faces", 2, "ImageNet backbone"),
    Case(
        "push a checkpoint of PyTorch", "push-weights w.pth ada/faces", 1, "w.pth: a checkpoint of PyTorch",
        {"w.pth": pth({})}, hint="popos import-weights w.pth",
    ),
    Case(
        "push torn weights", "push-weights w.safetensors ada/faces", 1, "w.safetensors",
        {"w.safetensors": of_run("best.safetensors", 0.5)},
    ),
    Case(
        "metrics that are none", "push-weights small ada/faces --metrics m.json", 1, "m.json: not what",
        {"m.json": "{}"},
    ),
    Case("missing metrics", "push-weights small ada/faces --metrics m.json", 1, "m.json: no such file"),
    Case(
        "metrics of other weights", "push-weights small ada/faces --metrics m.json", 1, "no result of small",
        {"m.json": json.dumps({"results": [RESULT]})}, hint="popos evaluate --weights small",
    ),
    Case("push without a network", "push-weights small ada/faces", 1, "HF_HUB_OFFLINE"),
    # the others
    Case("unknown catalog name", "download-weights defalt", 2, "'defalt'", hint="'default'"),
    Case("names and --all", "download-weights small --all", 2, "--all"),
    Case("Hub address without a file", "download-weights hf://owner/repo", 2, "hf://owner/repo"),
    Case("unknown command", "predikt a.jpg", 2, "predikt"),
    Case("unwanted argument", "doctor now", 2, "now"),
]  # fmt: skip


def lay_out(files: dict[str, Content], shop: Any, folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content(shop) if callable(content) else content
        path.write_bytes(data.encode() if isinstance(data, str) else data)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_bad_input(case, popos, shop, tmp_path):
    lay_out(case.files, shop, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    arguments = shlex.split(case.command)
    told = popos(*arguments)
    assert told.code == case.code, told
    assert "Traceback" not in told.out + told.err
    (line,) = told.errors
    message = line.removeprefix("error: ")
    assert case.told in message
    assert "looks like a bug" not in told.err
    assert told.out == ""
    assert case.hint in "".join(line for line in told.err.splitlines() if line.startswith("hint: "))

    machine = popos(*arguments, "--json")
    assert machine.code == case.code
    assert "Traceback" not in machine.err
    document = machine.json
    if case.entry:
        (image,) = document["images"]
        assert (image["error"], image["faces"]) == (message, [])
    else:
        assert set(document) == {"error"}
        assert set(document["error"]) == {"message", "hint"}
        assert document["error"]["message"] == message
        assert case.hint in (document["error"]["hint"] or "")
    if case.code == 2:  # found before any work
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_traceback_on_demand(popos, monkeypatch):
    """For whoever looks for the cause."""
    from popos_cli.errors import UsageError

    monkeypatch.setenv("POPOS_DEBUG", "1")
    with pytest.raises(UsageError):
        popos("predict", "shots/*.png")


def test_a_bug_of_ours_says_so(popos, monkeypatch, astronaut):
    def broken(*arguments):
        raise ZeroDivisionError("one line\nand another")

    monkeypatch.setattr("popos_cli.predict.predictor.Predictor.__call__", broken)
    result = popos("predict", astronaut)
    assert result.code == 1
    (line,) = result.errors
    assert line.startswith(f"error: {astronaut}: ZeroDivisionError: one line (")
    assert "POPOS_DEBUG=1" in result.err
