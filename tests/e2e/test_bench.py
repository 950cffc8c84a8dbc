"""popos bench: errors beside the bound, and times."""

import json
import shutil
from statistics import median

import pytest


@pytest.fixture
def photo_folder(tmp_path, astronaut, hopper):
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in (astronaut, hopper):
        shutil.copy(photo, folder)
    return folder


def test_decoders(popos):
    flags = ("--resolution", "8", "--decoder", "ml", "--decoder", "dark", "--landmarks", "200")
    result = popos("bench", "decoders", *flags, "--json").ok()
    bound, ml, dark = result.json["decoders"]
    assert [r["decoder"] for r in (bound, ml, dark)] == ["bound", "ml", "dark"]
    assert set(ml["error"]) == {"clean", "noise .02", "noise .05", "peak .6", "blur", "second mode"}
    for defect in ("noise .02", "noise .05", "peak .6"):
        assert ml["error"][defect] < 1.2 * bound["error"][defect] < dark["error"][defect]
    assert bound["error"]["blur"] is None
    assert ml["ms"] > 0 and ml["amax"] > 1
    table = popos("bench", "decoders", *flags).ok().out
    assert all(name in table for name in ("ml", "peak .6", "second", "mode"))  # its head has three lines


@pytest.mark.slow
def test_data(popos, synthetic, home):
    """Photos of its own, then a dataset's: what must hold on any machine, and nothing left behind."""
    before = sorted(home.rglob("*"))
    drawn = popos("bench", "data", "--faces", "6", "--json").ok().json
    assert (drawn["dataset"], drawn["threads"], drawn["index"]["faces"]) == (None, 1, 20_000)
    assert drawn["index"]["seconds"] > 0
    photos, crops = drawn["photos"], drawn["crops"]
    assert photos["faces"] == crops["faces"] == 6
    assert photos["megapixels"] > 1 and 20_000 < crops["bytes"] < 60_000
    assert photos["decode_ms"] < photos["sample_ms"] and crops["decode_ms"] < crops["sample_ms"]
    assert crops["faces_per_second"] > 2 * photos["faces_per_second"]
    assert crops["temporary"] and drawn["input"]["faces_per_second"] > 0
    own = popos("bench", "data", "--dataset", synthetic, "--faces", "3")
    assert sorted(home.rglob("*")) == before
    assert "cached crops" in own.ok().out and "index of 20000 faces" in own.out


@pytest.mark.slow
def test_training(popos, synthetic, home):
    """Both figures of a real training; nothing is left behind."""
    before = sorted(home.rglob("*"))
    flags = ("--dataset", synthetic, "--resolution", "4", "--batch-size", "6", "--gpus", "0")
    found = popos("bench", "training", *flags, "--set", "workers=1", "--json").ok().json
    facts = {"dataset": "synthetic", "device": "cpu", "resolution": 4, "batch": 6, "workers": 1, "threads": 1}
    assert (facts | {"crops": False, "steps": 3}).items() <= found.items()  # all steps of 18 faces
    assert median(found["ratios"]) == found["ratio"]
    assert found["bare"] > 0 and found["trainer"] > 0 and 0 < found["data_wait"] < 1
    assert sorted(home.rglob("*")) == before
    assert sorted(path.name for path in home.parent.iterdir()) == ["home"]
    table = popos("bench", "training", *flags).ok().out
    assert "trainer faces/s" in table and "synthetic, photos; cpu" in table


@pytest.mark.slow
def test_tracking(popos, astronaut, hopper, tmp_path):
    """Two real faces on all paths; smoothed they are steadier, and as prompt."""
    golden = json.loads((astronaut.parents[2] / "tests/golden_landmarks.json").read_text())
    rows = [",".join(["image", *(f"{axis}{n}" for n in range(68) for axis in "xy")])]
    (tmp_path / "faces").mkdir()
    for photo in (astronaut, hopper):
        shutil.copy(photo, tmp_path / "faces")
        rows.append(",".join([photo.name, *(str(x) for point in golden[photo.name] for x in point)]))
    (tmp_path / "faces/landmarks.csv").write_text("\n".join(rows))
    popos("prepare-data", "custom", "faces", "--scheme", "300w", "--val-fraction", "0.5").ok()
    flags = ("--dataset", "faces", "--weights", "small", "--detector", "haar")
    size = ("--frames", "40", "--faces", "2")
    found = popos("bench", "tracking", *flags, *size, "--plot", "traces.png", "--json").ok().json
    assert (tmp_path / "traces.png").stat().st_size > 1000
    assert [row["path"] for row in found["tracking"]][:2] == ["at rest", "at ease"]
    for row in found["tracking"]:
        network, smoothed = row["network"], row["smoothed"]
        assert network["missed"] == smoothed["missed"] == 0
        assert smoothed["jitter"] < (0.5 if row["path"] == "at rest" else 1) * network["jitter"]
        assert smoothed["nme"] < network["nme"] + 0.2
        assert smoothed["lag"] is None or abs(smoothed["lag"] - network["lag"]) <= 0.5
    table = popos("bench", "tracking", *flags, "--frames", "20", "--faces", "1").ok().out
    assert "starts and stops" in table


def test_predict(popos, photo_folder, tmp_path):
    """Every figure of one network, in both engines; pictures and faces are counted, and nothing stays."""
    before = sorted(tmp_path.rglob("*"))
    flags = ("bench", "predict", photo_folder, "--weights", "small", "--detector", "haar", "--turns", "1")
    found = popos(*flags, "--json").ok().json
    assert found["pictures"] == 2
    onnx, torch = found["rows"][:2]
    for row, engine in ((onnx, "onnx"), (torch, "torch")):
        assert (row["name"], row["engine"], row["faces"]) == ("small", engine, 2)
        stages = row["read"] + row["detect"] + row["passes"]
        assert 0 < row["read"] < row["detect"] and row["passes"] > 1
        assert 0.1 * stages < row["total"] < 5 * stages  # on all cores, beside whatever else runs on them
        assert row["written"] > 0
    assert 0 < onnx["libraries"] < onnx["start"]
    assert "start" not in torch
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_predict_as_a_table(popos, photo_folder):
    out = popos("bench", "predict", photo_folder, "--weights", "small", "--turns", "1").ok().out
    first, columns, *rows = out.splitlines()
    assert first == "ms a picture, 2 pictures"
    assert columns.split() == ["engine", "read", "detect", "passes", "total", "written", "start"]
    assert [row.split()[:2] for row in rows[:2]] == [["small", "onnx"], ["small", "torch"]]
    assert rows[-1].startswith("importing onnxruntime, cv2 and numpy alone: ")


def test_predict_refuses_a_broken_picture(popos, photo_folder):
    (photo_folder / "torn.jpg").write_bytes((photo_folder / "astronaut.jpg").read_bytes()[:9000])
    result = popos("bench", "predict", photo_folder, "--weights", "small")
    assert result.code == 1 and result.out == ""
    (line,) = result.errors
    assert "torn.jpg: the image is truncated" in line


def test_predict_needs_a_picture(popos, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"a video is no picture")
    result = popos("bench", "predict", "clip.mp4")
    assert result.code == 2 and "no picture" in result.err


def test_faces_of_known_boxes(popos, astronaut, hopper, empty_picture, tmp_path):
    """One is found, one's label is too unclear to count, one picture has a label where nobody is."""
    (tmp_path / "images").mkdir()
    for path in (astronaut, hopper, empty_picture):
        (tmp_path / "images" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "boxes.csv").write_text(
        "image,x,y,w,h,invalid\nastronaut.jpg,170,60,100,120,\nastronaut.jpg,20,20,30,30,0\n"
        "grace_hopper.jpg,150,120,190,230,1\nnobody.jpg,50,50,90,90,\n"
    )
    found = popos("bench", "faces", ".", "--weights", "small", "--json").ok().json
    (haar,) = found["detectors"]
    assert haar["faces"] == {"20": 3, "40": 2, "80": 2}
    assert haar["recall"] == {"20": 1 / 3, "40": 0.5, "80": 0.5}
    assert haar["false"] == 0
    assert sum(row["candidates"] for row in haar["reliability"]) == 1
    assert len(found["coefficients"]) == 4
    text = popos("bench", "faces", ".", "--weights", "small").ok().out
    assert "share of faces" in text and '("box", "none"):' in text


@pytest.mark.parametrize("table", [None, "image,x,y\na.jpg,1,2\n", "image,x,y,w,h\na.jpg,1,2,3,four\n"])
def test_boxes_that_cannot_be_read(popos, tmp_path, table):
    if table:
        (tmp_path / "boxes.csv").write_text(table)
    result = popos("bench", "faces", ".")
    assert result.code == 1 and result.errors[0].startswith("error: boxes.csv: ")
