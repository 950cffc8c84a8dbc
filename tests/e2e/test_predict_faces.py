"""popos predict: which faces, their aligned crops, circles of uncertainty."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import moving_face, write_clip

from popos_cli.core.geometry import transform, warp
from popos_cli.data.pictures import read_image


@pytest.fixture(scope="module")
def pair(tmp_path_factory, astronaut, hopper):
    """Both photos in one picture; hopper's face, on the right, is larger."""
    left, right = (cv2.imread(str(photo))[:420] for photo in (astronaut, hopper))
    path = tmp_path_factory.mktemp("pair") / "pair.png"
    cv2.imwrite(str(path), np.hstack([left, np.full((420, 64, 3), 127, np.uint8), right]))
    return path


def test_crops_and_their_matrices(popos, pair, tmp_path):
    result = popos("predict", pair, "--crops", "deep/crops", "--size", "128", "--json", "--weights", "small")
    faces = result.ok().json["images"][0]["faces"]
    assert sorted(path.name for path in (tmp_path / "deep/crops").iterdir()) == ["pair-1.png", "pair-2.png"]
    assert len(faces) == 2
    image = read_image(pair, upright=True)
    for number, face in enumerate(faces, start=1):
        crop = read_image(tmp_path / f"deep/crops/pair-{number}.png", upright=True)
        matrix = np.array(face["matrix"])
        np.testing.assert_array_equal(crop, warp(image, matrix, 128))
        points = transform(np.array(face["landmarks"]), matrix)
        eyes = [points[36:42].mean(0), points[42:48].mean(0)]
        np.testing.assert_allclose((np.array(eyes) + 0.5) / 128, [[0.36, 0.40], [0.64, 0.40]], atol=0.03)
    assert not (tmp_path / "popos-out").exists()


def test_without_crops_no_matrix(popos, astronaut):
    popos("predict", astronaut, "--crops", "crops", "--weights", "small").ok()
    popos("predict", astronaut, "--out", "plain", "--weights", "small").ok()
    with_crops, plain = (
        json.loads(Path(folder, "astronaut.json").read_text())["images"][0]["faces"][0]
        for folder in ("popos-out", "plain")
    )
    assert with_crops.keys() - plain.keys() == {"matrix"}
    assert read_image(Path("crops/astronaut-1.png"), upright=True).shape == (256, 256, 3)


def test_crops_of_a_video_have_a_folder(popos, astronaut, tmp_path):
    write_clip(tmp_path / "clip.mp4", moving_face(astronaut, 3))
    result = popos("predict", "clip.mp4", "--crops", "crops", "--jsonl", "--weights", "small").ok()
    lines = [json.loads(line) for line in result.out.splitlines()]
    ids = [face.get("id", place) for line in lines for place, face in enumerate(line["faces"], start=1)]
    assert len(ids) == 3 and all("matrix" in face for line in lines for face in line["faces"])
    written = sorted(str(path.relative_to("crops")) for path in Path("crops").rglob("*.png"))
    assert written == [f"clip/{n:06d}-{track}.png" for n, track in enumerate(ids)]


@pytest.mark.parametrize("folder", [".", "photos", "photos/../photos"])
def test_crops_do_not_go_among_the_pictures(popos, astronaut, tmp_path, folder):
    """photo-1.png may be one of them."""
    (tmp_path / "photos").mkdir()
    for path in ("photo.jpg", "photos/photo.jpg"):
        (tmp_path / path).write_bytes(astronaut.read_bytes())
    result = popos("predict", "photo.jpg", "photos", "--crops", folder)
    assert result.code == 1
    assert result.errors == [f"error: {Path(folder)} has files already"]
    assert not list(tmp_path.rglob("*.png"))


def test_crops_that_cannot_be_written(popos, astronaut, tmp_path):
    (tmp_path / "file").write_text("")
    result = popos("predict", astronaut, "--crops", "file/crops")
    assert result.code == 1 and "cannot write file/crops" in result.errors[0]


def test_the_largest_faces_alone(popos, pair):
    first, _ = popos("predict", pair, "--json", "--weights", "small").ok().json["images"][0]["faces"]
    flags = ("--json", "--weights", "small", "--max-faces", "1")
    (only,) = popos("predict", pair, *flags).ok().json["images"][0]["faces"]
    np.testing.assert_allclose(only["landmarks"], first["landmarks"], atol=0.01)
    assert popos("predict", pair, *flags, "--min-score", "1").ok().json["images"][0]["faces"] == []


def test_a_photo_on_its_side(popos, astronaut):
    turned = np.ascontiguousarray(np.rot90(cv2.imread(str(astronaut))))
    cv2.imwrite("turned.png", turned)
    flags = ("predict", "turned.png", "--json", "--weights", "small")
    (face,) = popos(*flags).ok().json["images"][0]["faces"]
    eyes = np.subtract(
        *(np.mean(np.array(face["landmarks"])[own], 0) for own in (range(36, 42), range(42, 48)))
    )
    assert eyes[1] > 3 * abs(eyes[0])  # the picture was turned counter-clockwise
    assert popos(*flags, "--no-turn").ok().json["images"][0]["faces"] == []


@pytest.mark.parametrize("flags", [("--max-faces", "0"), ("--min-score", "1.5"), ("--size", "5")])
def test_flags_out_of_range(popos, astronaut, flags):
    result = popos("predict", astronaut, *flags)
    assert result.code == 2 and flags[0] in result.err


def test_circles_of_uncertainty_on_request(popos, hopper):
    popos("predict", hopper, "--out", "plain").ok()
    popos("predict", hopper, "--out", "circles", "--uncertainty").ok()
    plain, circles = (
        read_image(Path(folder, "grace_hopper_landmarks.jpg"), upright=True).astype(int)
        for folder in ("plain", "circles")
    )
    changed = np.abs(plain - circles).max(axis=2) > 40
    assert changed[150:350, 160:370].sum() > 200 and not changed[400:].any()
