"""popos predict: from picture files to landmarks, JSON and overlays."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest

from popos_cli.core.crop_rule import PASSES, is_off
from popos_cli.core.geometry import edges_to_square, tight_square
from popos_cli.core.schemes import SCHEMES
from popos_cli.data.pictures import read_image
from popos_cli.predict.detect import Haar
from popos_cli.predict.predictor import Predictor

# Corners of both eyes (outer, inner, inner, outer), read off enlargements by hand.
ASTRONAUT_EYES = np.array([[193.7, 101.3], [211.2, 103.0], [236.8, 104.4], [258.4, 103.4]])
EYES = [36, 39, 42, 45]
FACE_KEYS = {"box", "score", "landmarks", "scores", "uncertainty"}


def landmarks(face):
    return np.array(face["landmarks"])


def box_text(box):
    return ",".join(repr(float(value)) for value in box)


def promised_box(detector_box, predictor):
    """The tight landmark box that the detector's box promises: what the first pass crops around."""
    x, y, w, h = detector_box
    rule = Haar.RULE.then(predictor.rule)
    side = rule.side * w
    return x + (w - side) / 2 + rule.shift[0] * w, y + (h - side) / 2 + rule.shift[1] * w, side, side


def box_around(points):
    """The square around landmarks, in pixel edges: what the next pass crops around."""
    (x, y), side = tight_square(points)
    return x + 0.5 - side / 2, y + 0.5 - side / 2, side, side


def interocular(points):
    return np.linalg.norm(points[36] - points[45])


@pytest.fixture(scope="module")
def predictor():
    return Predictor("default", "cpu")


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory, astronaut, hopper):
    """A picture of both, the smaller face first, and where the second photo starts."""
    left, right = cv2.imread(str(astronaut)), cv2.imread(str(hopper))
    offset = 512 + 64  # a cascade may see a face in the seam of two pictures
    canvas = np.full((600, offset + 512, 3), 127, np.uint8)
    canvas[:512, :512], canvas[:, offset:] = left, right
    path = tmp_path_factory.mktemp("both") / "both.png"
    cv2.imwrite(str(path), canvas)
    return path, offset


def crop_of(photo, path, rows, columns):
    cv2.imwrite(str(path), cv2.imread(str(photo))[rows, columns])
    return path


def test_json_to_the_letter(popos, astronaut, hopper):
    result = popos("predict", astronaut, hopper, "--json", "--detector", "haar").ok()
    assert result.err == ""
    document = result.json
    assert set(document) == {"images", "weights", "scheme", "groups"}
    assert document["groups"] == {name: list(indices) for name, indices in SCHEMES["300w"].groups.items()}
    assert (document["weights"], document["scheme"]) == ("default", "300w")
    assert [image["source"] for image in document["images"]] == [str(astronaut), str(hopper)]
    for image, size in zip(document["images"], [(512, 512), (512, 600)], strict=True):
        assert set(image) == {"source", "frame", "width", "height", "faces"}
        assert (image["frame"], image["width"], image["height"]) == (0, *size)
        (face,) = image["faces"]
        assert set(face) == FACE_KEYS
        assert 0.9 < face["score"] <= 1
        assert np.array(face["box"]).shape == (4,)
        assert landmarks(face).shape == (68, 2)
        assert len(face["scores"]) == len(face["uncertainty"]) == 68
        assert all(0 <= score <= 1 for score in face["scores"])
        assert all(math.isfinite(u) and u >= 0 for u in face["uncertainty"])
        numbers = [*face["box"], *landmarks(face).ravel(), *face["scores"], *face["uncertainty"]]
        assert all(isinstance(n, float) and n == round(n, 3) for n in numbers)


def test_the_face_is_where_a_person_sees_it(popos, astronaut):
    (image,) = popos("predict", astronaut, "--json").ok().json["images"]
    (face,) = image["faces"]
    size = interocular(dict(zip(EYES, ASTRONAUT_EYES, strict=True)))
    off = np.linalg.norm(landmarks(face)[EYES] - ASTRONAUT_EYES, axis=1)
    assert off.mean() < 0.15 * size
    x, y, w, h = face["box"]
    inside = (landmarks(face)[17:] > [x, y]) & (landmarks(face)[17:] < [x + w, y + h])
    assert inside.all()  # all but the jaw, in a box of pixel edges around the face


def test_no_face_is_no_failure(popos, empty_picture):
    document = popos("predict", empty_picture, "--json").ok().json
    (image,) = document["images"]
    assert image["faces"] == []
    assert "error" not in image
    assert f"{empty_picture}: no face found" in popos("predict", empty_picture).ok().out


@pytest.mark.parametrize("as_json", [True, False])
def test_an_unreadable_picture_spoils_no_other(popos, tmp_path, astronaut, empty_picture, as_json):
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(astronaut.read_bytes()[:20_000])
    result = popos("predict", astronaut, torn, "gone.png", empty_picture, *["--json"] * as_json)
    assert result.code == 1
    assert [line.split(":")[1].strip() for line in result.errors] == [str(torn), "gone.png"]
    if not as_json:
        assert "1 face" in result.out
        assert "no face found" in result.out
        assert len(list((tmp_path / "popos-out").glob("*.json"))) == 2
        return
    good, bad, gone, nobody = result.json["images"]
    assert len(good["faces"]) == 1
    assert "truncated" in bad["error"]
    assert gone["source"] in gone["error"]
    assert bad["faces"] == gone["faces"] == nobody["faces"] == []
    assert "error" not in good
    assert "error" not in nobody


def test_one_box_a_face_in_the_order_given(popos, side_by_side, predictor):
    path, _ = side_by_side
    found = popos("predict", path, "--json").ok().json["images"][0]["faces"]
    boxes = [promised_box(face["box"], predictor) for face in reversed(found)]
    flags = [part for box in boxes for part in ("--box", box_text(box))]
    again = popos("predict", path, *flags, "--json").ok().json["images"][0]["faces"]
    assert len(again) == 2
    for face, box in zip(again, boxes, strict=True):
        assert 0.9 < face["score"] <= 1
        np.testing.assert_allclose(face["box"], box, atol=1e-3)
    for face, before in zip(again, reversed(found), strict=True):
        off = np.linalg.norm(landmarks(face) - landmarks(before), axis=1)
        assert off.mean() < 0.1 * interocular(landmarks(before))


def test_every_face_is_found_and_does_not_depend_on_its_neighbour(
    popos, predictor, side_by_side, astronaut, hopper
):
    """Its landmarks are those in its own photo, from its own boxes."""
    path, offset = side_by_side
    larger, smaller = popos("predict", path, "--json").ok().json["images"][0]["faces"]
    assert larger["box"][2] * larger["box"][3] > smaller["box"][2] * smaller["box"][3]
    for face, photo, shift in [(smaller, astronaut, 0), (larger, hopper, offset)]:
        image = read_image(photo, upright=True)
        x, y, w, h = promised_box(face["box"], predictor)
        box = x - shift, y, w, h
        for _ in range(PASSES["haar"]):
            (alone,) = predictor(image, np.array([box]))
            last, box = edges_to_square(np.array(box)), box_around(alone.points)
            center, side = edges_to_square(np.array(box))
            if not is_off(last[0][None], np.array([last[1]]), center[None], np.array([side])).any():
                break
        np.testing.assert_allclose(alone.points + [shift, 0], landmarks(face), atol=0.5)
        np.testing.assert_allclose(alone.uncertainty, face["uncertainty"], atol=0.05)


def test_a_box_is_for_one_picture(popos, astronaut, hopper):
    result = popos("predict", astronaut, hopper, "--box", "1,2,30,30")
    assert result.code == 2
    assert "--box" in result.errors[0]
    result = popos("predict", astronaut, "--box", "1,2,30,30", "--whole-image")
    assert result.code == 2
    assert "--whole-image" in result.errors[0]


def test_whole_image_takes_the_picture_for_the_face(popos, tmp_path, astronaut):
    rows, columns = slice(70, 190), slice(165, 285)
    crop = crop_of(astronaut, tmp_path / "crop.png", rows, columns)
    found = popos("predict", astronaut, "--json").ok().json["images"][0]["faces"][0]
    (face,) = popos("predict", crop, "--whole-image", "--json").ok().json["images"][0]["faces"]
    # Padding included, the crop is the picture.
    np.testing.assert_allclose(np.array(face["box"]), [12, 12, 96, 96], atol=1e-3)
    expected = landmarks(found) - [columns.start, rows.start]
    off = np.linalg.norm(landmarks(face) - expected, axis=1)
    assert off.mean() < 0.1 * interocular(expected)


def test_overlays_and_json_go_to_popos_out(popos, tmp_path, astronaut):
    result = popos("predict", astronaut).ok()
    assert "popos-out" in result.err
    written = {path.name for path in (tmp_path / "popos-out").iterdir()}
    assert written == {"astronaut.json", "astronaut_landmarks.jpg"}
    before = {path for path in tmp_path.rglob("*")}
    document = popos("predict", astronaut, "--json").ok().json
    assert {path for path in tmp_path.rglob("*")} == before
    assert json.loads((tmp_path / "popos-out/astronaut.json").read_text()) == document
    drawn = cv2.imread(str(tmp_path / "popos-out/astronaut_landmarks.jpg")).astype(int)
    photo = cv2.imread(str(astronaut)).astype(int)
    assert drawn.shape == photo.shape
    x, y = np.round(document["images"][0]["faces"][0]["landmarks"][30]).astype(int)
    assert np.abs(drawn - photo)[y, x].max() > 40  # a dot on the tip of the nose
    assert np.abs(drawn - photo)[300:, :100].mean() < 3  # and nothing far from the face


def test_out_names_the_folder_also_beside_json(popos, tmp_path, empty_picture):
    popos("predict", empty_picture, "--json", "--out", "deep/found").ok()
    assert {p.name for p in (tmp_path / "deep/found").iterdir()} == {"nobody.json", "nobody_landmarks.jpg"}
    assert not (tmp_path / "popos-out").exists()


def test_same_names_in_two_folders_keep_both_outputs(popos, tmp_path, empty_picture):
    for name in ("a/face.jpg", "b/face.jpg", "b/Face.png", "c/face-2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(empty_picture.read_bytes())
    popos("predict", "a", "b", "c").ok()
    documents = [json.loads(p.read_text()) for p in (tmp_path / "popos-out").glob("*.json")]
    sources = sorted(d["images"][0]["source"] for d in documents)
    assert sources == ["a/face.jpg", "b/Face.png", "b/face.jpg", "c/face-2.jpg"]
    assert len(list((tmp_path / "popos-out").glob("*_landmarks.jpg"))) == 4


def test_people_read_every_group(popos, astronaut):
    assert popos("predict", astronaut).ok().out == f"{astronaut}: 1 face\n"
    out = popos("predict", astronaut, "--verbose").ok().out
    assert f"{astronaut}: 1 face" in out
    lines = {line.partition(":")[0].strip(): line for line in out.splitlines()}
    for group, indices in SCHEMES["300w"].groups.items():
        assert lines[group].count(",") == len(indices)


def test_flip_test_changes_a_little(popos, astronaut):
    plain = popos("predict", astronaut, "--json").ok().json["images"][0]["faces"][0]
    flipped = popos("predict", astronaut, "--json", "--flip-test").ok().json["images"][0]["faces"][0]
    off = np.linalg.norm(landmarks(plain) - landmarks(flipped), axis=1)
    assert 0 < off.mean() < 0.1 * interocular(landmarks(plain))


def test_own_weights_by_run_folder_and_by_file(popos, trained, astronaut):
    by_run = popos("predict", astronaut, "--json", "--weights", trained).ok().json
    by_file = popos("predict", astronaut, "--json", "--weights", trained / "best.safetensors").ok().json
    assert by_run["weights"] == str(trained)
    assert by_run["images"] == by_file["images"]


def test_python_and_command_line_agree(popos, predictor, astronaut):
    (printed,) = popos("predict", astronaut, "--json").ok().json["images"][0]["faces"]
    (face,) = Predictor(quick_start=True)(astronaut)  # as the command line does for a picture alone
    assert json.loads(json.dumps(face.to_dict())) == printed
    (face,) = predictor(astronaut)
    np.testing.assert_allclose(face.points, landmarks(printed), atol=0.01)
