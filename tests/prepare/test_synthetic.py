"""Drawn faces: the same for the same seed, whole or not at all, landmarks where the drawing is."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from popos_cli.core.schemes import SCHEMES, W300, WFLW
from popos_cli.data.index import Index, read_index, write_index
from popos_cli.errors import PoposError, UsageError
from popos_cli.prepare import synthetic
from popos_cli.prepare.synthetic import prepare_synthetic


def _bytes(index: Index) -> list[bytes]:
    return [(index.root / image).read_bytes() for image in index.image]


def _picture(index: Index, face: int) -> np.ndarray:
    return cv2.imread(str(index.root / index.image[face])).astype(np.float32)


def _at(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear samples (n, 3) BGR of a lightly smoothed picture at points (n, 2)."""
    x, y = (points[None, :, axis].astype(np.float32) for axis in (0, 1))
    return cv2.remap(cv2.GaussianBlur(image, (0, 0), 0.8), x, y, cv2.INTER_LINEAR)[0]


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Index:
    """30 faces of 98 points."""
    return prepare_synthetic(tmp_path_factory.mktemp("faces"), 30, WFLW, seed=7)


def test_a_seed_fixes_the_pictures_and_every_face_differs(tmp_path) -> None:
    a, b, other = (prepare_synthetic(tmp_path / str(n), 4, W300, seed) for n, seed in enumerate((5, 5, 6)))
    assert _bytes(a) == _bytes(b)
    np.testing.assert_array_equal(a.points, b.points)
    assert len({*_bytes(a), *_bytes(other)}) == 8


def test_a_picture_depends_on_neither_count_nor_scheme(tmp_path, faces: Index) -> None:
    for scheme in SCHEMES.values():
        few = prepare_synthetic(tmp_path / scheme.name, 2, scheme, seed=7)
        assert _bytes(few) == _bytes(faces)[:2]
        assert few.points.shape == (2, scheme.landmarks, 2)


def test_shared_points_of_two_schemes_agree(tmp_path, faces: Index) -> None:
    of_300w = prepare_synthetic(tmp_path, 2, W300, seed=7).points
    jaw, corners = faces.points[:2, 0:33:2], faces.points[:2, [60, 64, 68, 72, 76, 82]]
    np.testing.assert_allclose(of_300w[:, :17], jaw, atol=1e-9)
    np.testing.assert_allclose(of_300w[:, [36, 39, 42, 45, 48, 54]], corners, atol=1e-9)


def test_index_is_valid_and_reads_back(tmp_path, monkeypatch, faces: Index) -> None:
    monkeypatch.setenv("POPOS_HOME", str(tmp_path))
    write_index(faces)
    back = read_index("synthetic")
    assert back.scheme == WFLW
    assert back.root == faces.root
    assert back.notes == {"importer": "synthetic", "seed": 7, "count": 30}
    assert back.source[29] == "synthetic:7:29"
    np.testing.assert_array_equal(back.points, faces.points)
    assert (back.visible == 2).all()
    assert [_picture(back, i).shape[1::-1] for i in range(30)] == [tuple(size) for size in back.size]


def test_points_lie_inside_their_picture_and_square(faces: Index) -> None:
    assert not faces.outside().any()
    from_center = abs(faces.points - faces.center[:, None]).max(axis=(1, 2))
    assert (from_center <= faces.side / 2 + 0.5).all()
    assert (from_center >= faces.side / 2 - 1).all()


@pytest.mark.parametrize(
    ("count", "fraction", "train"), [(10, 0.2, 8), (2, 0.01, 1), (2, 0.99, 1), (7, 0.5, 3)]
)
def test_the_last_faces_are_the_val_split(tmp_path, monkeypatch, count, fraction, train) -> None:
    blank = (np.zeros((8, 8, 3), np.uint8), np.arange(136.0).reshape(68, 2))
    monkeypatch.setattr(synthetic, "draw_face", lambda *_: blank)
    index = prepare_synthetic(tmp_path, count, W300, 0, name="toy", val_fraction=fraction)
    assert index.name == "toy"
    assert index.split.tolist() == ["train"] * train + ["val"] * (count - train)
    assert len(set(index.group)) == count


def test_existing_images_are_refused_and_left_alone(tmp_path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/mine.jpg").write_bytes(b"mine")
    with pytest.raises(PoposError, match="exists already") as caught:
        prepare_synthetic(tmp_path, 2, W300, seed=0)
    assert caught.value.hint
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "images", tmp_path / "images/mine.jpg"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_half_written(tmp_path, monkeypatch, failure) -> None:
    draw = synthetic.draw_face

    def fail_late(seed: int, number: int, scheme):
        if number == 2:
            raise failure
        return draw(seed, number, scheme)

    monkeypatch.setattr(synthetic, "draw_face", fail_late)
    expected = PoposError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if expected is PoposError else None):
        prepare_synthetic(tmp_path, 3, W300, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_a_file(tmp_path) -> None:
    root = tmp_path / "file"
    root.write_text("text")
    with pytest.raises(PoposError, match="cannot write"):
        prepare_synthetic(root, 2, W300, seed=0)
    assert root.read_text() == "text"


@pytest.mark.parametrize("scheme", [replace(W300, name="mine"), replace(W300, flip_pairs=())])
def test_a_scheme_that_is_not_built_in_writes_nothing(tmp_path, scheme) -> None:
    with pytest.raises(UsageError, match="no landmarks for the scheme"):
        prepare_synthetic(tmp_path / "new", 4, scheme, seed=0)
    assert not (tmp_path / "new").exists()


def test_the_jaw_edge_is_where_the_landmarks_say(faces: Index) -> None:
    """Edge offset along the outward normal n = dilation + n . shift, over all faces.

    A half-pixel slip of the frame shows in `shift`, a fattened outline in `dilation`.
    """
    steps = np.arange(-4, 4.05, 0.1)
    offsets, normals = [], []
    for face, points in enumerate(faces.points):
        image = _picture(faces, face)
        for j in range(4, 29):
            along = points[j + 1] - points[j - 1]
            normal = np.array([-along[1], along[0]]) / np.linalg.norm(along)
            profile = _at(image, points[j] + steps[:, None] * normal)
            inside, outside = profile[:15].mean(0), profile[-15:].mean(0)
            way = outside - inside
            if np.linalg.norm(way) < 60:
                continue
            part = (profile - inside) @ way / (way @ way)
            offsets.append(steps[np.argmax(part > 0.5)])
            normals.append(normal)
    assert len(offsets) > 200
    system = np.column_stack([np.ones(len(offsets)), normals])
    dilation, *shift = np.linalg.lstsq(system, np.array(offsets), rcond=None)[0]
    assert abs(dilation) < 0.4
    assert np.linalg.norm(shift) < 0.2
    assert np.median(np.abs(offsets)) < 0.5


def test_pupils_are_dark_in_a_bright_eye(faces: Index) -> None:
    for face, points in enumerate(faces.points):
        image = _picture(faces, face)
        for pupil, outer, inner in ((96, 60, 64), (97, 72, 68)):
            across = (points[inner] - points[outer])[None] * np.linspace(-0.45, 0.45, 61)[:, None]
            eye = _at(image, (points[outer] + points[inner]) / 2 + across).mean(-1)
            assert _at(image, points[[pupil]]).mean() < 0.6 * eye.max(), (face, pupil)
