"""Index -> samples: points go where the pixels go, and a seed fixes every draw."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from popos_cli.core.geometry import invert, transform
from popos_cli.core.schemes import Scheme
from popos_cli.data.augment import PLAIN, Augment
from popos_cli.data.batches import TrainingBatches
from popos_cli.data.dataset import FaceDataset
from popos_cli.data.index import Index, index_path, read_index, write_index
from popos_cli.errors import PoposError, UsageError

SCHEME = Scheme("dots", 3, {"left": (0,), "right": (1,), "chin": (2,)}, frozenset(), ((0, 1),), (0, 1))
FACES = 5
STRONG = Augment.only(
    rotation=30, scale=0.1, shift=0.02, flip=0.5, brightness=0.3, contrast=0.3, saturation=0.3, grey=0.2,
    low_resolution=0.3, blur=0.3, jpeg=0.5, occlusion=0.5, rotation_share=0.7,
)  # fmt: skip


@pytest.fixture
def index(tmp_path):
    """Five pictures of a red, a green and a blue dot at landmarks 0, 1 and 2."""
    rng = np.random.default_rng(0)
    x, y = np.arange(200), np.arange(160)
    points = np.array([[70.0, 60.0], [130.0, 62.0], [98.0, 110.0]]) + rng.uniform(-6, 6, (FACES, 3, 2))
    for face in range(FACES):
        gx = np.exp(-((x - points[face, :, :1]) ** 2) / 18)
        gy = np.exp(-((y - points[face, :, 1:]) ** 2) / 18)
        picture = 255 * gy.T[:, None] * gx.T[None]
        Image.fromarray(picture.round().astype(np.uint8)).save(tmp_path / f"{face}.png")
    low, high = points.min(1), points.max(1)
    return Index(
        name="dots", scheme=SCHEME, root=tmp_path, image=np.array([f"{face}.png" for face in range(FACES)]),
        size=np.tile(np.array([200, 160], np.int32), (FACES, 1)), points=points,
        visible=np.full((FACES, 3), 2, np.uint8), center=(low + high) / 2, side=(high - low).max(1),
        split=np.array(["train", "train", "train", "val", "test"]),
        group=np.array(["ann", "ann", "", "bob", ""]),
        source=np.array([f"dots.csv:{face}" for face in range(FACES)]),
    )  # fmt: skip


def dataset(index, augment=None, seed=0, image_size=128, alignment="center", padding=1.6):
    return FaceDataset(index, image_size, padding, alignment, augment, seed)


def centroids(image):
    """(3, 2): the centre of each colour of a (3, S, S) picture."""
    weight = image.double().numpy()
    y, x = np.indices(weight.shape[1:])
    return np.stack([(weight * x).sum((1, 2)), (weight * y).sum((1, 2))], 1) / weight.sum((1, 2))[:, None]


def mirrors(sample):
    return bool(np.linalg.det(sample["matrix"].numpy()[:, :2]) < 0)


@pytest.mark.parametrize("alignment", ["center", "mmpose"])
def test_points_lie_on_the_pixels(index, alignment):
    samples = dataset(index, alignment=alignment)
    assert len(samples) == FACES
    for face in range(FACES):
        sample = samples[face]
        assert sample["image"].shape == (3, 128, 128) and sample["image"].dtype == torch.uint8
        np.testing.assert_allclose(centroids(sample["image"]), sample["points"], atol=0.05)
        back = transform(sample["points"].double().numpy(), invert(sample["matrix"].numpy()))
        np.testing.assert_allclose(back, index.points[face], atol=1e-4)
        np.testing.assert_array_equal(sample["points_image"], index.points[face])
        eyes = index.points[face, 0] - index.points[face, 1]
        assert sample["normaliser"] == pytest.approx(np.hypot(*eyes))
        assert sample["face"] == face


def test_augmented_points_lie_on_the_pixels_and_a_mirror_swaps_sides(index):
    """Landmark i of a mirrored face is the original's landmark flip_index[i], so is its colour."""
    samples = dataset(index, Augment.only(rotation=25, scale=0.1, shift=0.03, flip=0.5), padding=2.4)
    mirrored = []
    for epoch in range(4):
        for face in range(FACES):
            sample = samples[epoch, face]
            mirrored.append(mirrors(sample))
            colour = SCHEME.flip_index if mirrored[-1] else np.arange(3)
            np.testing.assert_allclose(centroids(sample["image"])[colour], sample["points"], atol=0.05)
    assert 0 < sum(mirrored) < len(mirrored)


@pytest.mark.parametrize(("landmarks", "expected"), [(3, False), (1, True)])
def test_without_flip_pairs_nothing_is_mirrored(index, landmarks, expected):
    """Left and right would change places under the labels; a point alone has no partner to change with."""
    scheme = replace(index.scheme, flip_pairs=(), eye_corners=None, groups={}, landmarks=landmarks)
    columns = {"points": index.points[:, :landmarks], "visible": index.visible[:, :landmarks]}
    samples = dataset(replace(index, scheme=scheme, **columns), Augment.only(flip=1.0, rotation=10))
    for face in range(FACES):
        sample = samples[face]
        assert mirrors(sample) == expected
        np.testing.assert_allclose(centroids(sample["image"])[:landmarks], sample["points"], atol=0.05)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_a_batch_is_its_samples_in_order_however_many_threads_make_it(index, threads):
    samples = dataset(index, STRONG)
    keys = [(epoch, face) for epoch in range(2) for face in (4, 0, 2, 1, 3)]
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        made = samples.__getitems__(keys)
    finally:
        cv2.setNumThreads(before)
    assert [sample["face"] for sample in made] == [face for _, face in keys]
    for key, sample in zip(keys, made, strict=True):
        assert all(
            np.array_equal(sample[name], value, equal_nan=True) for name, value in samples[key].items()
        )


def test_unlabelled_points_are_nan_also_when_mirrored(index):
    index.visible[0] = (0, 1, 2)
    assert dataset(index)[0]["points"].isnan().all(1).tolist() == [True, False, False]
    mirrored = dataset(index, Augment.only(flip=1.0))[0]["points"]
    assert mirrored.isnan().all(1).tolist() == [False, True, False]


def run_epoch(index, workers, epoch, seed=7):
    batches = TrainingBatches(FACES, 1, seed)
    batches.epoch = epoch
    faces = dataset(index, STRONG, seed, image_size=64)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # as in `Loader`: forked processes hang at times where OpenCV starts threads
    try:
        return list(DataLoader(faces, batch_sampler=batches, num_workers=workers))
    finally:
        cv2.setNumThreads(threads)


def equal(a, b):
    """Whether two samples or batches agree in every bit."""
    return all(np.array_equal(a[key], b[key], equal_nan=True) for key in a)


def test_a_seed_fixes_the_epoch_whatever_the_number_of_workers(index):
    """Every kind of photometric change is in it."""
    epoch = 3
    alone = run_epoch(index, 0, epoch)
    assert sorted(torch.cat([b["face"] for b in alone]).tolist()) == list(range(FACES))
    drawn = torch.cat([b["photometric"] for b in alone])
    assert (drawn[:, 3:] != 0).any(0).all() and not (drawn[:, 3:] != 0).all(0).any()  # else another epoch
    for workers in (1, 2):
        for one, other in zip(alone, run_epoch(index, workers, epoch), strict=True):
            assert equal(one, other)


def test_a_draw_depends_on_seed_epoch_and_face_alone(index):
    first = dataset(index, STRONG, seed=7)
    for face in (3, 0, 3):  # the order of reading does not matter
        again = dataset(index, STRONG, seed=7)[2, face]
        assert equal(first[2, face], again)
    for other in (dataset(index, STRONG, seed=8)[2, 3], first[1, 3], first[2, 2]):
        assert not torch.equal(other["photometric"], first[2, 3]["photometric"])
        assert not torch.equal(other["matrix"], first[2, 3]["matrix"])
        assert not torch.equal(other["image"], first[2, 3]["image"])


def test_only_augmentation_changes_pixels_and_says_how(index):
    plain = dataset(index)[1]
    assert plain["photometric"].tolist() == list(PLAIN)
    parts = {"grey": 2, "low_resolution": 3, "blur": 4, "jpeg": 5, "occlusion": None}
    for part, column in parts.items():
        sample = dataset(index, Augment.only(**{part: 1.0}))[0, 1]
        image, photometric = sample["image"], sample["photometric"]
        assert image.shape == (3, 128, 128) and image.dtype == torch.uint8 and image.is_contiguous()
        assert photometric.shape == (len(PLAIN),) and photometric.dtype == torch.float32
        assert not torch.equal(image, plain["image"])
        changed = np.flatnonzero(photometric - plain["photometric"]).tolist()
        assert changed == ([] if column is None else [column])
        assert torch.equal(sample["points"], plain["points"])


def test_without_strength_nothing_changes(index):
    """Not a bit of the pixels nor of the points."""
    for face in range(FACES):
        off = dataset(index, Augment.only(rotation_share=0.5, scale_clip=1))[face]
        assert equal(dataset(index)[face], off)


def test_index_round_trip(index, tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    index.visible[1, 2], index.points[1, 2] = 0, np.nan
    index = replace(index, subset=np.eye(FACES, 1, dtype=bool), subsets=("hard",), notes={"by": "us"})
    assert write_index(index) == index_path("dots")
    again = read_index("dots")
    assert (again.scheme, again.root, again.subsets) == (SCHEME, tmp_path, ("hard",))
    assert again.notes == {"by": "us"}
    for column in ("image", "size", "points", "visible", "center", "side", "split", "group", "subset"):
        np.testing.assert_array_equal(getattr(again, column), getattr(index, column))
    assert again.splits == ("train", "val", "test")
    assert again.of_split("val").image.tolist() == ["3.png"]
    with pytest.raises(UsageError, match="no split 'test'"):
        again.select(again.split == "train").of_split("test")


def with_value(array, place, value):
    changed = array.copy()
    changed[place] = value
    return changed


CHANGES = {
    "not finite": lambda i: {"points": with_value(i.points, (1, 2, 0), np.nan)},
    "'ann' stands in more than one split": lambda i: {"split": with_value(i.split, 1, "val")},
    "points has shape": lambda i: {"points": i.points[:, :2]},
    "side has shape": lambda i: {"side": i.side[:, None]},
    "subset has shape": lambda i: {"subsets": ("hard",)},
    "visible has shape": lambda i: {"visible": i.visible[:-1]},
    "no size": lambda i: {"side": with_value(i.side, 0, 0.0)},
    "has no size": lambda i: {"center": with_value(i.center, 0, np.inf)},
    "unknown split": lambda i: {"split": np.array(["train", "train", "train", "dev", "test"])},
}


@pytest.mark.parametrize("message", CHANGES)
def test_a_wrong_index_is_not_written(index, tmp_path, monkeypatch, message):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    path = write_index(index)
    before = path.read_bytes()
    with pytest.raises(PoposError, match=message) as caught:
        write_index(replace(index, **CHANGES[message](index)))
    assert "'dots'" in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir() if p.suffix != ".lock"] == [path.name]


def test_an_empty_index_is_not_written(index, tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    with pytest.raises(PoposError, match="no faces"):
        write_index(index.select(np.zeros(FACES, bool)))


@pytest.mark.parametrize("damage", ["torn", "text", "empty"])
def test_a_damaged_index_is_refused(index, tmp_path, monkeypatch, damage):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    path = write_index(index)
    data = path.read_bytes()
    path.write_bytes({"torn": data[: len(data) // 2], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(PoposError) as caught:
        read_index("dots")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_dataset_that_is_not_prepared_says_how(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    with pytest.raises(PoposError, match="'wflw' is not prepared") as caught:
        read_index("wflw")
    assert "popos prepare-data wflw" in caught.value.hint
