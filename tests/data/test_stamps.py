"""Pictures that changed since their dataset was prepared are refused, copies of them are not."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from popos_cli.core.schemes import AFLW
from popos_cli.data.crops import cache_crops, open_crops
from popos_cli.data.dataset import FaceDataset
from popos_cli.data.index import Index, check_pictures, load_index, read_index, stamped, write_index
from popos_cli.errors import PoposError

REPOSITORY = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 120, 100


def write_picture(path, seed, scale=1.0):
    """A PNG; its size in bytes is the same for every seed, since nothing in it can be packed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    pixels = cv2.resize(pixels, None, fx=scale, fy=scale)
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 0])


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Three faces in two pictures."""
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    (tmp_path / "faces").mkdir()
    for seed, name in enumerate(("a.png", "b.png")):
        write_picture(tmp_path / "faces" / name, seed)
    points = np.random.default_rng(0).uniform(30, 70, (3, AFLW.landmarks, 2))
    return stamped(Index(
        name="faces", scheme=AFLW, root=tmp_path / "faces", image=np.array(["a.png", "b.png", "b.png"]),
        size=np.array([[WIDTH, HEIGHT]] * 3, np.int32), points=points,
        visible=np.full(points.shape[:2], 2, np.uint8), center=np.full((3, 2), 50.0), side=np.full(3, 40.0),
        split=np.array(["train", "train", "val"]), group=np.array(["a", "b", ""]),
        source=np.array(["x:1", "x:2", "x:3"]),
        notes={"command": "popos prepare-data custom /photos --name faces"},
    ))  # fmt: skip


def sample(index, face):
    return FaceDataset(index, 64, 1.25, "center")[face]


def halve(path):
    write_picture(path, 0, scale=0.5)


def other_pixels(path):
    before = path.stat().st_size
    write_picture(path, 17)
    assert path.stat().st_size == before


def swap_with_the_other(path):
    other = path.with_name("a.png")
    first, second = path.read_bytes(), other.read_bytes()
    path.write_bytes(second)
    other.write_bytes(first)


@pytest.mark.parametrize("change", [halve, other_pixels, swap_with_the_other])
def test_a_changed_picture_is_an_error_wherever_it_is_read(index, change):
    cache_crops(index)
    write_index(index)
    path = index.root / "b.png"
    change(path)
    again = read_index("faces")
    for read in (
        lambda: sample(again, 1), lambda: again.read_rgb(2), lambda: check_pictures(again),
        lambda: open_crops(again), lambda: cache_crops(replace(again, side=again.side * 1.01)),
    ):  # fmt: skip
        with pytest.raises(PoposError) as caught:
            read()
        assert "changed since dataset 'faces' was prepared" in caught.value.message
        assert "popos prepare-data custom /photos --name faces" in caught.value.hint
    if change is not swap_with_the_other:
        assert str(path) in caught.value.message
        assert sample(again, 0)["image"].any()


def test_a_picture_that_is_put_back_or_prepared_again_is_right(index):
    path = index.root / "b.png"
    data = path.read_bytes()
    other_pixels(path)
    assert sample(stamped(index), 1)["image"].any()
    path.write_bytes(data)
    check_pictures(index)
    assert sample(index, 1)["image"].any()


def test_copies_with_other_time_stamps_are_the_same_pictures(index, tmp_path):
    """As copying, unpacking, and disks that keep times in whole seconds make them."""
    folder = cache_crops(index)
    files = sorted(folder.iterdir())
    shutil.copytree(index.root, tmp_path / "moved", copy_function=shutil.copyfile)
    for path in index.root.iterdir():
        os.utime(path, (1, 1))
    for copy in (index, replace(index, root=tmp_path / "moved")):
        check_pictures(copy)
        assert all(sample(copy, face)["image"].any() for face in range(3))
        assert open_crops(copy) is not None
        cache_crops(copy)
        assert sorted(folder.iterdir()) == files  # none was made anew


def test_a_missing_picture_is_named(index):
    (index.root / "b.png").unlink()
    with pytest.raises(PoposError, match=r"1 of the 2 pictures .* are missing, first .*b\.png"):
        check_pictures(index)


def test_an_index_of_an_earlier_version_knows_the_pictures_width_and_height(index):
    path = write_index(index)
    with np.load(path) as data:
        columns = {name: data[name] for name in data.files if name != "stamp"}
    np.savez_compressed(path, **columns)
    earlier = load_index(path)
    assert not earlier.stamp.any()
    other_pixels(index.root / "a.png")  # nobody can tell
    assert sample(earlier, 0)["image"].any()
    halve(index.root / "a.png")
    with pytest.raises(PoposError, match=r"a\.png changed since"):
        sample(earlier, 0)


CACHE = """
import sys
from popos_cli.data.crops import cache_crops
from popos_cli.data.index import read_index
index = read_index("faces")
sys.stdin.readline()
cache_crops(index, lossless=sys.argv[1] == "png")
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_four_processes_cache_the_same_crops_at_once(index):
    many = index.select(np.repeat(np.arange(3), 40))
    many = replace(many, side=np.linspace(20, 80, len(many)))
    write_index(many)
    processes = [start(CACHE, "png") for _ in range(4)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 4
    crops = open_crops(many)
    assert crops is not None and len(set(crops.files)) == len(many)
    assert {path.name for path in crops.folder.iterdir()} == {*crops.files, "crops.npz"}


KILLED_WHILE_WRITING = """
import os, pathlib
def write_bytes(path, data):
    with path.open("wb") as file:
        file.write(data[:10])
    os.kill(os.getpid(), 9)
pathlib.Path.write_bytes = write_bytes
"""


def test_a_killed_caching_leaves_nothing_that_the_next_does_not_use_or_clear(index):
    write_index(index)
    process = start(CACHE.replace("sys.stdin.readline()", KILLED_WHILE_WRITING), "jpg")
    process.communicate()
    assert process.returncode == -9
    folder = cache_crops(index)
    assert {path.name for path in folder.iterdir()} == {*open_crops(index).files, "crops.npz"}
