"""The crop cache: the same samples as from the photos, written once, and never a stale one."""

import errno
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from popos_cli.core.geometry import transform
from popos_cli.core.schemes import Scheme
from popos_cli.data import index as index_module
from popos_cli.data.augment import Augment
from popos_cli.data.crops import WIDEST, cache_crops, crops_folder, open_crops
from popos_cli.data.dataset import FaceDataset
from popos_cli.data.index import Index, stamped
from popos_cli.errors import PoposError

SCHEME = Scheme("dots", 3, {"left": (0,), "right": (1,), "chin": (2,)}, frozenset(), ((0, 1),), (0, 1))
# Two faces in the first photo; the third lies over a photo's corner, the last is large.
IMAGES = ("two.png", "two.png", "corner.png", "large.png")
SQUARES = ((120.0, 90.5, 60.0), (300.25, 200.0, 91.0), (20.0, 12.5, 70.0), (510.0, 400.0, 430.0))
SMALL, LARGE = (0, 1, 2), 3


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Four faces in three photos of soft colours and a little grain."""
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name, (width, height) in {"two": (420, 300), "corner": (200, 180), "large": (1001, 800)}.items():
        coarse = rng.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
        photo = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
        photo = (photo + rng.integers(-4, 5, photo.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(photo).save(tmp_path / "photos" / f"{name}.png")
    squares = np.array(SQUARES)
    center, side = squares[:, :2], squares[:, 2]
    spread = np.array([[-0.5, -0.4], [0.5, -0.5], [0.1, 0.5]])
    return stamped(Index(
        name="dots", scheme=SCHEME, root=tmp_path / "photos", image=np.array(IMAGES),
        size=np.array([[420, 300], [420, 300], [200, 180], [1001, 800]], np.int32),
        points=center[:, None] + spread * side[:, None, None], visible=np.full((4, 3), 2, np.uint8),
        center=center, side=side, split=np.array(["train", "val", "train", "train"]),
        group=np.array([""] * 4), source=np.array([f"dots.csv:{face}" for face in range(4)]),
    ))  # fmt: skip


def cached(index, lossless=False):
    cache_crops(index, lossless)
    crops = open_crops(index)
    assert crops is not None
    return crops


def samples(index, crops=None, augment=None):
    return FaceDataset(index, 128, 1.25, "center", augment, seed=3, crops=crops)


def difference(one, other):
    """Absolute differences of two samples' pixels; everything else must be equal."""
    for key in set(one) - {"image"}:
        assert np.array_equal(one[key], other[key], equal_nan=True), key
    return (one["image"].int() - other["image"].int()).abs().double()


@pytest.mark.parametrize(
    "augment", [None, Augment.only(rotation=10, scale=0.1, shift=0.02, flip=0.5, blur=0.5)]
)
@pytest.mark.parametrize("lossless", [True, False])
def test_cached_samples_are_the_photos_samples(index, lossless, augment):
    """But for JPEG's loss, and for sampling a large face twice."""
    crops = cached(index, lossless)
    for epoch in range(3):
        for face in range(len(index)):
            key = epoch, face
            loss = difference(samples(index, crops, augment)[key], samples(index, augment=augment)[key])
            assert loss.mean() < (2 if face == LARGE or not lossless else 0.01)


def test_crops_are_small_and_small_faces_native(index):
    crops = cached(index, lossless=True)
    photo = cv2.imread(str(index.root / IMAGES[1]))
    picture, matrix = crops.read(1), crops.matrices[1]
    left, top = -matrix[:, 2].astype(int)
    assert matrix[:, :2].tolist() == [[1, 0], [0, 1]]
    assert np.array_equal(picture, photo[top : top + len(picture), left : left + len(picture)])
    for face in range(len(index)):
        picture, matrix = crops.read(face), crops.matrices[face]
        width = len(picture)
        assert picture.shape == (width, width, 3) and width <= WIDEST
        low, high = index.center[face] - 0.8 * index.side[face], index.center[face] + 0.8 * index.side[face]
        inside = transform(np.array([low, high]), matrix)
        assert (inside > 0).all() and (inside < width - 1).all()


def test_each_photo_is_decoded_once_and_counted(index, monkeypatch):
    read, done = [], []

    def spy(path, upright):
        read.append(path.name)
        return original(path, upright)

    original = index_module.read_bgr
    monkeypatch.setattr(index_module, "read_bgr", spy)
    assert cache_crops(index, advance=lambda *counts: done.append(counts)) == crops_folder("dots")
    assert sorted(read) == sorted(set(IMAGES))
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_selected_faces_find_their_own_crops(index):
    crops = cached(index)
    part = index.select(np.array([3, 1]))
    chosen = open_crops(part)
    assert chosen.files == [crops.files[3], crops.files[1]]
    np.testing.assert_array_equal(chosen.matrices, crops.matrices[[3, 1]])
    assert open_crops(index.of_split("val")).files == [crops.files[1]]


def test_what_is_there_is_kept_and_what_is_missing_or_damaged_made_anew(index):
    crops = cached(index)
    paths = [crops.folder / name for name in crops.files]
    before = [path.read_bytes() for path in paths]
    paths[0].unlink()
    paths[1].write_bytes(before[1][:100])
    (crops.folder / "crops.npz").unlink()  # what an interrupted run has not written yet
    kept = [path.stat().st_mtime_ns for path in paths[2:]]
    assert open_crops(index) is None
    assert cached(index).files == crops.files
    assert [path.read_bytes() for path in paths] == before
    assert [path.stat().st_mtime_ns for path in paths[2:]] == kept


def test_an_interrupted_run_leaves_no_cache_but_its_crops(index):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache_crops(index, advance=stop)
    assert open_crops(index) is None
    assert list(crops_folder("dots").glob("*.jpg"))
    cached(index)


def test_other_squares_and_other_photos_are_not_taken_for_the_cached_ones(index):
    old = cached(index)
    moved = replace(index, side=index.side * (1, 1.01, 1, 1))
    assert open_crops(moved) is None
    assert open_crops(moved.select(np.array([0, 2, 3]))) is not None
    new = cached(moved)
    assert {p.name for p in new.folder.iterdir()} == {*new.files, "crops.npz"}
    assert old.files[1] not in new.files
    photo = index.root / "two.png"
    with Image.open(photo) as picture:
        picture.point(lambda value: value // 2).save(photo)
    assert open_crops(stamped(moved)) is None


def test_another_format_takes_the_old_ones_place(index):
    cached(index)
    crops = cached(index, lossless=True)
    assert {p.suffix for p in crops.folder.iterdir()} == {".png", ".npz"}


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"hello", None])
def test_a_damaged_crop_says_what_to_do(index, damage):
    crops = cached(index)
    path = crops.folder / crops.files[2]
    data = path.read_bytes()
    path.unlink()
    if damage:
        path.write_bytes(damage(data))
    with pytest.raises(PoposError) as caught:
        samples(index, crops)[2]
    assert str(path) in caught.value.message and "--cache-crops" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04"])
def test_a_damaged_list_is_no_cache(index, content):
    path = cached(index).folder / "crops.npz"
    path.write_bytes(content)
    assert open_crops(index) is None
    cached(index)


def test_a_place_that_cannot_be_written(index, tmp_path):
    folder = crops_folder("dots")
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    with pytest.raises(PoposError, match="cannot write"):
        cache_crops(index)
    assert folder.read_text() == "in the way"


def test_a_full_disk(index, monkeypatch):
    """One line, nothing half written, and what was written is used once there is room again."""
    room = [2]

    def write(path, data):
        room[0] -= 1
        if room[0] < 0:
            with path.open("wb") as file:
                file.write(data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, data)

    original = Path.write_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write)
        with pytest.raises(PoposError, match=r"cannot write .*: No space left on device"):
            cache_crops(index)
    assert open_crops(index) is None
    written = {p.name: p.stat().st_mtime_ns for p in crops_folder("dots").iterdir()}
    assert len(written) == 2 and not any(name.startswith(".") for name in written)
    crops = cached(index)
    assert all((crops.folder / name).stat().st_mtime_ns == written[name] for name in written)
