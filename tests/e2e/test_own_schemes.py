"""Schemes of one's own: from a detector's box to their crop, and what a mirror does to them."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

from popos_cli.core.geometry import tight_square
from popos_cli.core.schemes import W300, Scheme
from popos_cli.data.index import read_index
from popos_cli.data.pictures import read_image
from popos_cli.errors import PoposWarning
from popos_cli.predict.detect import Haar
from popos_cli.predict.predictor import Predictor
from popos_cli.weights.find import find_weights
from popos_cli.weights.format import read_info, read_state, save_weights
from popos_cli.weights.info import CropInfo

CHOSEN = [31, 35, 33, 32, 34]  # of the 68: the base of the nose, a fifth of the face
FIVE = Scheme("five", 5, {}, frozenset(), ((0, 1), (3, 4)), (0, 1))
TOML = 'name = "five"\nlandmarks = 5\neye_corners = [0, 1]\n'
HEADER = ["image"] + [f"{axis}{n}" for n in range(5) for axis in "xy"]


@pytest.fixture(scope="module")
def found(astronaut, hopper):
    """Of each photo: RGB pixels and the points (68, 2) that the bundled weights find."""
    predictor = Predictor("default", "cpu", "haar")
    images = [read_image(path, upright=True) for path in (astronaut, hopper)]
    return [(image, predictor(image)[0].points) for image in images]


@pytest.fixture(scope="module")
def share(found):
    """The side of the square around the five points, in units of that around all 68."""
    return float(np.mean([tight_square(p[CHOSEN])[1] / tight_square(p)[1] for _, p in found]))


@pytest.fixture
def pictures(tmp_path, found):
    """Both photos in seven sizes and places, with their five points."""
    folder = tmp_path / "faces"
    folder.mkdir()
    rows = [HEADER]
    for number in range(14):
        image, points = found[number % 2]
        scale, shift = 0.3 + 0.03 * number, 3.0 * number
        matrix = np.array([[scale, 0, shift], [0, scale, shift / 2]])
        picture = cv2.warpAffine(image, matrix, (420, 480), flags=cv2.INTER_AREA)
        cv2.imwrite(str(folder / f"{number:02}.png"), picture[..., ::-1])
        moved = points[CHOSEN] @ matrix[:, :2].T + matrix[:, 2]
        rows.append([f"{number:02}.png", *moved.ravel().tolist()])
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def prepare(popos, folder, flip_pairs="flip_pairs = [[0, 1], [3, 4]]\n"):
    (folder / "five.toml").write_text(TOML + flip_pairs)
    flags = ("--scheme", folder / "five.toml", "--name", "five", "--val-fraction", "0.15")
    return popos("prepare-data", "custom", folder / "labels.csv", *flags).ok()


@pytest.fixture
def weights(tmp_path, share):
    """The bundled network with the heatmaps of five of its points alone, as if trained on such squares."""
    source = find_weights("default")
    info, state = read_info(source), read_state(source)
    for name in ("head.3.weight", "head.3.bias"):
        state[name] = state[name][CHOSEN]
    info = info.model_copy(
        update={
            "scheme": "five", "scheme_definition": FIVE.to_dict(), "uncertainty": None, "training": {},
            "crop": CropInfo(padding=info.crop.padding / share),
        }
    )  # fmt: skip
    path = tmp_path / "five.safetensors"
    save_weights(path, state, info, half=False)
    return path


def off(popos, photo, weights, truth):
    """Error in percent of the eyes' distance, and stderr."""
    result = popos("predict", photo, "--weights", weights, "--json").ok()
    (face,) = result.json["images"][0]["faces"]
    away = np.linalg.norm(np.array(face["landmarks"]) - truth[CHOSEN], axis=1).mean()
    return 100 * away / np.linalg.norm(truth[36] - truth[45]), result.err


def test_calibrate_measures_the_crop_that_predict_then_makes(
    popos, pictures, weights, found, share, astronaut, tmp_path
):
    prepare(popos, pictures)
    guessed, said = off(popos, astronaut, weights, found[0][1])
    assert "the crop is a guess" in said and "popos calibrate" in said
    evaluate = ("evaluate", "--dataset", "five", "--boxes", "detector", "--workers", "0", "--json")
    result = popos(*evaluate, "--weights", weights).ok()
    assert "the crop is a guess" in result.err
    assert result.json["results"][0]["missed"] == 0
    result = popos("calibrate", "--weights", weights, "--dataset", "five", "--out", "new.safetensors")
    assert "from box to crop" in result.ok().err
    rule = read_info(tmp_path / "new.safetensors").crop.detectors["haar"]
    assert rule.side == pytest.approx(Haar.RULE.side * share, rel=0.25)
    measured, said = off(popos, astronaut, "new.safetensors", found[0][1])
    assert "guess" not in said
    assert measured < 4 < 10 < guessed
    (result,) = popos(*evaluate, "--weights", "new.safetensors").ok().json["results"]
    assert (result["missed"], result["faces"]) == (0, 2)
    assert result["nme"] < 20  # of the nose's width
    # Boxes of the caller's are taken as they are.
    (x, y), side = tight_square(found[0][1][CHOSEN])
    box = np.array([[x + 0.5 - side / 2, y + 0.5 - side / 2, side, side]])
    one, two = (Predictor(str(w), "cpu", "haar")(found[0][0], box)[0] for w in (weights, "new.safetensors"))
    np.testing.assert_array_equal(one.points, two.points)


def train(popos, *flags):
    return popos(
        "train", "--dataset", "five", "--resolution", "4", "--gpus", "0", "--epochs", "1",
        "--batch-size", "4", "--set", "model.init=scratch", "--set", "workers=0", "--out", "run", *flags,
    ).ok()  # fmt: skip


def test_training_measures_the_crop_and_says_so(popos, pictures, share, tmp_path):
    prepare(popos, pictures)
    assert "measured from box to crop, for predict: haar" in train(popos).err
    crop = read_info(tmp_path / "run" / "best.safetensors").crop
    assert crop.detectors.keys() == {"haar"}  # YuNet is not here
    assert crop.detectors["haar"].side == pytest.approx(Haar.RULE.side * share, rel=0.25)
    assert crop.landmarks.side == 1


def test_without_flip_pairs_nothing_is_mirrored_and_everybody_says_so(popos, pictures, tmp_path, found):
    said = prepare(popos, pictures, flip_pairs="").err
    assert "no flip_pairs" in said and "flip_pairs = [[0, 1], [3, 4]]" in said
    assert "training mirrors no faces" in train(popos).err
    result = popos("evaluate", "--dataset", "five", "--weights", "run", "--workers", "0", "--json").ok()
    assert result.json["results"][0]["flip_test"] is False
    assert "no flip test: scheme 'five' has no flip_pairs" in result.err
    image, _ = found[0]
    with pytest.warns(PoposWarning, match="no flip test"):
        asked = Predictor("run", "cpu", "haar", flip_test=True)(image)
    for one, two in zip(asked, Predictor("run", "cpu", "haar")(image), strict=True):
        np.testing.assert_array_equal(one.points, two.points)
    (photo,) = tmp_path.glob("faces/00.png")
    assert "no flip test" in popos("predict", photo, "--weights", "run", "--flip-test").ok().err
    inspected = popos("inspect", "five", "--faces", "1", "--json", "--out", "look").ok().json["mirror"]
    assert (inspected["known"], inspected["fitting"]) == (False, [[0, 1], [3, 4]])


@pytest.mark.parametrize(("pairs", "wrong"), [("[[0, 1]]", [3, 4]), ("[[0, 1], [3, 2]]", [2, 3, 4])])
def test_pairs_that_contradict_the_labels_are_named_with_better_ones(popos, pictures, pairs, wrong):
    said = prepare(popos, pictures, f"flip_pairs = {pairs}\n").err
    assert "contradict the labels" in said and "flip_pairs = [[0, 1], [3, 4]]" in said
    assert read_index("five").scheme.flip_pairs  # prepared all the same
    flags = ("inspect", "five", "--faces", "1")
    assert popos(*flags, "--json", "--out", "a").ok().json["mirror"]["wrong"] == wrong
    assert "flip_pairs = [[0, 1], [3, 4]]" in popos(*flags, "--out", "b").ok().out


def test_good_pairs_give_no_warning(popos, pictures, synthetic):
    assert "flip" not in prepare(popos, pictures).err
    found = popos("inspect", synthetic, "--faces", "1", "--json", "--out", "a").ok().json["mirror"]
    assert (found["known"], found["wrong"], found["lone"]) == (True, [], [])
    assert found["fitting"] == sorted(sorted(pair) for pair in W300.flip_pairs)
