"""Own labels to an index: which pixels they refer to, what a face is cropped to, who is in which split."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from popos_cli.core.schemes import W300, Scheme
from popos_cli.data.crops import cache_crops, open_crops
from popos_cli.data.dataset import FaceDataset
from popos_cli.data.index import load_index, write_index
from popos_cli.errors import PoposError
from popos_cli.evaluate.detections import detect_all
from popos_cli.prepare.assemble import assemble
from popos_cli.prepare.custom import find_own
from popos_cli.prepare.options import PrepareOptions
from popos_cli.prepare.splits import hold_back_people, join_groups

FIVE = Scheme("five", 5, {}, frozenset(), (), None)
EYED = replace(FIVE, eye_corners=(0, 1))
ALL = [[30.0, 20.0], [70.0, 22.0], [50.0, 45.0], [35.0, 66.0], [66.0, 64.0]]
SIZE = (120, 90)
BOX = [30, 20, 40, 46]  # x, y, w, h around all five points
TAG = 0x0112


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))


def picture(seed=0):
    """Smooth colours, the same in any compression: (90, 120, 3)."""
    small = np.random.default_rng(seed).integers(0, 255, (3, 4, 3), np.uint8)
    return cv2.resize(small, SIZE, interpolation=cv2.INTER_CUBIC)


def write_csv(folder, rows, names=None):
    """Pictures 0.png, 1.png, ... and their labels: rows (F, 5, 2)."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["image," + ",".join(f"x{n},y{n}" for n in range(5))]
    for n, points in enumerate(rows):
        name = names[n] if names else f"{n}.png"
        if not (folder / name).exists():
            (folder / name).parent.mkdir(exist_ok=True)
            cv2.imwrite(str(folder / name), picture(n))
        lines.append(",".join([name, *("" if np.isnan(v) else repr(float(v)) for p in points for v in p)]))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_pts(folder, count, points=ALL, ending="pts"):
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        cv2.imwrite(str(folder / f"{n}.png"), picture(n))
        lines = "\n".join(f"{x + 1} {y + 1}" for x, y in points)
        (folder / f"{n}.{ending}").write_text("version: 1\nn_points: 5\n{\n" + lines + "\n}\n")
    return folder


def write_coco(folder, annotations, size=None, **more):
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for n in range(len(annotations)):
        cv2.imwrite(str(folder / f"{n}.png"), picture(n))
        images.append({"id": n, "file_name": f"{n}.png"})
        if size:
            images[-1] |= {"width": size[0], "height": size[1]}
    numbered = [{"id": n, "image_id": n, **one} for n, one in enumerate(annotations)]
    (folder / "labels.json").write_text(json.dumps({"images": images, "annotations": numbered, **more}))
    return folder


def face(labelled=range(5), v=2, **more):
    """A COCO annotation with these points labelled."""
    points = [value for n, p in enumerate(ALL) for value in ([*p, v] if n in labelled else [0, 0, 0])]
    return {"keypoints": points, **more}


def prepare(folder, scheme=FIVE, **given):
    """The index, the bad labels, and all remarks."""
    options = PrepareOptions(**given)
    source = find_own(folder, scheme, options)
    found = assemble("own", source, options.orientation)
    index = found.index
    if not found.bad:
        index = hold_back_people(found.index, options.val_fraction or 0.1, options.seed)
    return index, found.bad, found.remarks


# --- boxes of partly labelled faces


@pytest.mark.parametrize("labelled", [[3, 4], [2], [0, 1, 2, 3]], ids=str)
def test_a_partly_labelled_face_is_cropped_around_its_box(tmp_path, labelled):
    """As a fully labelled one is, whose own box may be of the whole person."""
    faces = [face(), face(labelled, bbox=BOX), face()]
    index, bad, remarks = prepare(write_coco(tmp_path, faces))
    assert (bad, remarks) == ([], [])
    np.testing.assert_array_equal(index.center, index.center[[0] * 3])
    assert index.side.tolist() == [46] * 3
    assert np.isnan(index.points[1][[n for n in range(5) if n not in labelled]]).all()


def corners(x, y, w, h):
    return [x, y, x + w, y + h]


def body(x, y, w, h):
    return [x - w, y - h / 2, 3 * w, 6 * h]


@pytest.mark.parametrize("drawn", [body, corners, lambda *box: [0, 0, 120, 90]])
def test_fully_labelled_faces_show_what_a_bbox_is(tmp_path, drawn):
    """A person's, two corners, the whole picture: a partly labelled face is cropped as they are."""
    faces = [face(some, bbox=drawn(*BOX)) for some in (range(5), range(5), range(5), [3, 4], [2])]
    index, bad, _ = prepare(write_coco(tmp_path, faces))
    assert bad == []
    np.testing.assert_allclose(index.side, 46, atol=0.1)
    np.testing.assert_allclose(index.center, index.center[[0] * 5], atol=0.1)


def partly(boxes):
    return lambda folder: write_coco(folder, [face(), *(face([3, 4], bbox=box) for box in boxes)])


NO_RULE = [[20, 10, 60, 60], [0, 0, 119, 150], [30, 20, 400, 400]]
ONE_ZERO, MISSING = np.array([ALL, ALL]), np.array([ALL, ALL])
ONE_ZERO[1, 3], MISSING[1, 3] = 0, -1
# What writes the labels, and the one remark on them; None where there is nothing to say.
REMARKS = {
    "nothing": (lambda d: write_csv(d, [ALL] * 12), None),
    "no box": (partly([None, [], [0] * 4]), "no box that shows their size, so cropped around the others: 3"),
    "boxes without a rule": (
        lambda d: write_coco(d, [*(face(bbox=box) for box in NO_RULE), face([3, 4], bbox=BOX)]),
        "no box that shows their size, so cropped around the others: 1",
    ),
    "boxes around the few points": (
        lambda d: write_coco(d, [face([3, 4], bbox=[35, 64, 31, 2])] * 3), "no box that shows their size"
    ),
    "boxes": (lambda d: write_coco(d, [face([3, 4], bbox=BOX)] * 3), None),
    "corners": (lambda d: write_coco(d, [face([3, 4], bbox=corners(*BOX))] * 3), "two corners"),
    "half the size": (lambda d: write_csv(d, [np.array(ALL) / 2] * 12), "upper left quarter"),
    "swapped": (lambda d: write_csv(d, [np.array(ALL)[:, ::-1]] * 3), "x and y swapped"),
    "zero": (lambda d: write_csv(d, ONE_ZERO), "1 points lie at exactly 0, 0"),
    "v is 0": (lambda d: write_coco(d, [face(), face(), face(v=0)]), "(v above 0): 1"),
}  # fmt: skip


@pytest.mark.parametrize("doubt", REMARKS)
def test_labels_that_may_be_meant_otherwise_are_remarked_on(tmp_path, doubt):
    write, remark = REMARKS[doubt]
    _, bad, remarks = prepare(write(tmp_path / "d"), EYED)
    assert bad == [] and len(remarks) == (remark is not None)
    assert all(remark in line for line in remarks)


def test_without_a_box_or_rule_the_square_is_that_of_the_labelled_points(tmp_path):
    for name in ("no box", "boxes without a rule"):
        index, _, _ = prepare(REMARKS[name][0](tmp_path / name))
        assert index.side[-1] == 31


# --- labels that cannot be meant


def pictures_of(*size):
    return lambda d: write_coco(d, [face()] * 3, size)


def boxed(box):
    return lambda d: write_coco(d, [face(), face(), face([3, 4], bbox=box)])


def pts(text):
    """The last of three files has this text; None: it has no picture."""

    def write(folder):
        write_pts(folder, 3)
        if text is None:
            (folder / "2.png").unlink()
        else:
            (folder / "2.pts").write_text(text)
        return folder

    return write


def with_x(value):
    rows = np.array([ALL] * 3)
    rows[2, 2, 0] = value
    return lambda d: write_csv(d, rows)


# What writes the labels, how many are bad, and what is said of each of these, the last ones; 0: none is.
BAD = {
    "made on a smaller picture": (pictures_of(60, 45), 3, "60 x 45 pixels"),
    "made on a larger picture": (pictures_of(240, 180), 3, "has 120 x 90"),
    "of the same size": (pictures_of(120, 90), 0, ""),
    "width and height swapped": (pictures_of(90, 120), 0, ""),  # a slip, or a turned picture
    "missing as -1": (lambda d: write_csv(d, MISSING), 1, "landmark 3 at -1, -1: a missing point"),
    "missing as -1 in COCO": (
        lambda d: write_coco(d, [{"keypoints": np.insert(p, 2, 2, 1).ravel().tolist()} for p in MISSING]),
        1, "landmark 3 at -1, -1",
    ),
    "one row in 0..1": (lambda d: write_csv(d, [ALL, ALL, np.array(ALL) / SIZE]), 1, "0..1"),
    "box of three": (boxed([1, 2, 3]), 1, "four numbers"),
    "box of text": (boxed("here"), 1, "four numbers"),
    "box of NaN": (boxed([float("nan")] * 4), 1, "four numbers"),
    "box of a huge number": (boxed([10**400, 1, 2, 3]), 1, "four numbers"),
    "box of negative width": (boxed([1, 2, -3, 4]), 1, "no size"),
    "box in 0..1": (boxed([0.3, 0.2, 0.3, 0.5]), 1, "in 0..1"),
    "box beside the points": (boxed([90, 70, 10, 10]), 1, "none of its points"),
    "box far outside": (boxed([-9e5, 0, 1e6, 100]), 1, "outside its picture"),
    # Three times the picture's longer side.
    "point outside": (with_x(-350), 0, ""),
    "point farther outside": (with_x(479), 0, ""),
    "point too far to the left": (with_x(-362), 1, "landmark 2"),
    "point too far to the right": (with_x(481), 1, "landmark 2"),
    "pts without braces": (pts("version: 1"), 1, "no { } block"),
    "pts with two points": (pts("{\n1 2\n3 4\n}"), 1, "2 points instead of 5"),
    "pts with a word": (pts("{\n" + "1 x\n" * 5 + "}"), 1, "'x'"),
    "pts without a picture": (pts(None), 1, "no picture 2 with one of"),
    "too few keypoints": (
        lambda d: write_coco(d, [face(), face(), {"keypoints": [1, 2, 2]}]), 1, "3 keypoint values"
    ),
    "keypoints that are no list": (
        lambda d: write_coco(d, [face(), face(), {"keypoints": "here"}]), 1, "its keypoints are no list"
    ),
    "picture id in a list": (lambda d: write_coco(d, [face(), face(), face(image_id=[0])]), 1, "image_id"),
    "picture id of another type": (lambda d: write_coco(d, [face(), face(image_id="0")]), 1, "image_id"),
    "picture id of great length": (lambda d: write_coco(d, [face(image_id="x" * 10_000)]), 1, "image_id"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_label_that_cannot_be_meant_is_a_bad_row(tmp_path, what):
    write, count, reason = BAD[what]
    _, bad, _ = prepare(write(tmp_path / "d"))
    assert len(bad) == count
    for row in bad:
        assert reason in row.reason and len(row.reason) < 180
        assert re.match(r"labels\.csv:\d$|labels\.json#\d$|2\.pts$", row.source)


def test_paths_as_windows_writes_them(tmp_path):
    folder = write_csv(tmp_path / "d", [ALL, ALL], ["a/0.png", "a/1.png"])
    text = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_text(text.replace("a/0.png", r"a\0.png").replace("a/1.png", r".\a\1.png"))
    index, bad, _ = prepare(folder)
    assert bad == [] and index.image.tolist() == ["a/0.png", "a/1.png"]


# --- COCO's oddities


def test_annotations_without_a_labelled_point_are_no_faces(tmp_path):
    """Whatever coordinates they have; nor are crowds."""
    faces = [*(face(v=v) for v in (2, 0, 1, -1, float("nan"))), face(iscrowd=1)]
    index, bad, _ = prepare(write_coco(tmp_path, faces))
    assert bad == [] and index.source.tolist() == ["labels.json#0", "labels.json#2"]


@pytest.mark.parametrize("v, visible", [(0.97, 2), (1e-6, 2), (1.0, 1), (3, 2), (True, 1)])
def test_visibility_may_be_a_confidence(tmp_path, v, visible):
    index, bad, _ = prepare(write_coco(tmp_path, [face(v=v)] * 2))
    assert bad == [] and (index.visible == visible).all()
    np.testing.assert_array_equal(index.points[0], ALL)


def test_two_pictures_of_one_id_are_refused(tmp_path):
    """Files that were merged: a face would go to another's picture."""
    images = [{"id": 0, "file_name": "0.png"}, {"id": 0, "file_name": "1.png"}]
    with pytest.raises(PoposError, match="two images have the id 0"):
        prepare(write_coco(tmp_path, [face()] * 2, images=images))


NAMES = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]


def test_keypoint_names_become_the_schemes(tmp_path):
    categories = [{"id": 1, "name": "face", "keypoints": NAMES}]
    index, _, _ = prepare(write_coco(tmp_path, [face()] * 2, categories=categories))
    assert index.scheme.names == ("left eye", "right eye", "nose", "left mouth", "right mouth")
    order = ("nose", "right eye", "left eye", "right mouth", "left mouth")
    named = replace(FIVE, groups={name: (n,) for n, name in enumerate(order)})
    index, _, _ = prepare(tmp_path, scheme=named)
    np.testing.assert_array_equal(index.points[0], np.array(ALL)[[2, 1, 0, 4, 3]])


@pytest.mark.parametrize("name, first", [("{}", 0), ("{}", 1), ("kpt-{:02}", 0)])
def test_keypoint_names_that_are_numbers_set_the_order(tmp_path, name, first):
    """Programs write them in the order of text: 0, 1, 10, 11, 2."""
    order = [3, 0, 4, 2, 1]
    values = [value for n in order for value in (*ALL[n], 2)]
    names = [name.format(n + first) for n in order]
    folder = write_coco(tmp_path, [{"keypoints": values}] * 2, categories=[{"keypoints": names}])
    index, bad, _ = prepare(folder)
    assert bad == []
    np.testing.assert_array_equal(index.points[0], ALL)


# --- numbers in 0..1


@pytest.mark.parametrize("low, high", [(0, 1), (-0.2, 1.3)])
def test_normalised_labels_are_refused_or_accepted(tmp_path, low, high):
    """Also where faces reach beyond their picture."""
    points = np.array(ALL) / SIZE
    points[0, 0], points[1, 0] = low, high
    write_csv(tmp_path, [points] * 2)
    with pytest.raises(PoposError, match="all coordinates lie between") as caught:
        prepare(tmp_path)
    assert "--normalised" in caught.value.hint
    index, bad, _ = prepare(tmp_path, normalised=True)
    assert bad == []
    np.testing.assert_allclose(index.points[0], points * SIZE, atol=1e-9)


def test_normalised_boxes_go_with_normalised_labels(tmp_path):
    half = [v for x, y in ALL[3:] for v in (x / SIZE[0], y / SIZE[1], 2)]
    box = (np.array(BOX) / [*SIZE, *SIZE]).tolist()
    write_coco(tmp_path, [{"keypoints": [0] * 9 + half, "bbox": box}] * 2)
    index, _, _ = prepare(tmp_path, normalised=True)
    np.testing.assert_allclose(index.center, [[50, 43]] * 2)
    np.testing.assert_allclose(index.side, 46)


def test_pixels_called_normalised_lie_far_outside(tmp_path):
    index, bad, _ = prepare(write_csv(tmp_path, [ALL] * 2), normalised=True)
    assert index is None and all("outside its picture" in row.reason for row in bad)


# --- .pts files


def test_missing_points_in_pts_files(tmp_path):
    points = [*ALL[:1], [np.nan, np.nan], *ALL[2:]]
    index, bad, _ = prepare(write_pts(tmp_path, 2, points))
    assert bad == [] and index.visible.tolist() == [[2, 0, 2, 2, 2]] * 2
    np.testing.assert_array_equal(index.points[0], points)
    text = (tmp_path / "1.pts").read_text().replace("nan nan", "nan 5")
    (tmp_path / "1.pts").write_text(text)
    _, (row,), _ = prepare(tmp_path)
    assert row.source == "1.pts" and "landmark 1" in row.reason


def test_two_pictures_of_one_pts_file_are_a_bad_row(tmp_path):
    """Nobody says which of them was labelled: a mask beside a photo, or a smaller copy."""
    folder = write_pts(tmp_path, 3)
    cv2.imwrite(str(folder / "1.jpg"), picture(1)[::2, ::2])
    index, (bad,), _ = prepare(folder)
    assert len(index) == 2 and bad.source == "1.pts" and "1.jpg, 1.png" in bad.reason


# --- pictures that EXIF turns


def turned(folder, ending, orientation):
    """A picture with its EXIF orientation, labelled on its stored and on its upright pixels."""
    exif = Image.Exif()
    exif[TAG] = orientation
    options = {"tiffinfo": {TAG: orientation}} if ending == "tif" else {"exif": exif}
    if ending == "jpg":
        options |= {"quality": 100, "subsampling": 0}
    stored = np.array(ALL)
    w, h = SIZE
    upright = {
        3: np.array([w - 1, h - 1]) - stored,
        6: np.stack([h - 1 - stored[:, 1], stored[:, 0]], 1),
        8: np.stack([stored[:, 1], w - 1 - stored[:, 0]], 1),
    }[orientation]
    for name, points in (("stored", stored), ("upright", upright)):
        place = folder / name
        place.mkdir(parents=True)
        for n in range(2):
            Image.fromarray(picture(n)).save(place / f"{n}.{ending}", **options)
        write_csv(place, [points] * 2, [f"{n}.{ending}" for n in range(2)])
    return folder


def crop(index, **options):
    return FaceDataset(index, 64, 1.25, "center", **options)[0]


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation, turns", [(3, 2), (6, -1), (8, 1)])
def test_either_meaning_gives_the_same_pixels_around_the_points(tmp_path, ending, orientation, turns):
    """The face of the upright picture is that of the stored one, turned."""
    turned(tmp_path, ending, orientation)
    samples = {}
    for name in ("stored", "upright"):
        index, bad, remarks = prepare(tmp_path / name, orientation=name)
        assert bad == []
        assert "EXIF orientation" in remarks[0]
        index = load_index(write_index(index))
        samples[name] = crop(index)
        crops = open_crops(index, cache_crops(index, lossless=True))
        cached = crop(index, crops=crops)["image"].numpy().astype(int)
        assert np.abs(cached - samples[name]["image"].numpy()).max() <= 2
        turned_axes = name == "upright" and orientation in (6, 8)
        assert index.size.tolist() == [list(SIZE[::-1] if turned_axes else SIZE)] * 2
    seen = np.rot90(samples["stored"]["image"].numpy(), turns, axes=(1, 2)).astype(int)
    assert np.abs(seen - samples["upright"]["image"].numpy()).max() <= (4 if ending == "jpg" else 1)
    # And the points lie on the same colours.
    for name in samples:
        points = samples[name]["points"].numpy().round().astype(int)
        samples[name] = samples[name]["image"].numpy()[:, points[:, 1], points[:, 0]].astype(int)
    assert np.abs(samples["stored"] - samples["upright"]).max() <= 12


def test_labels_that_fit_one_meaning_alone_say_so(tmp_path):
    low = [[20, 100], [60, 100], [40, 60], [25, 110], [55, 112]]  # of a picture 90 wide, 120 high
    turned(tmp_path, "jpg", 6)
    write_csv(tmp_path / "upright", [low] * 2, ["0.jpg", "1.jpg"])
    _, _, (remark,) = prepare(tmp_path / "upright")
    assert "2 faces lie inside their picture only on upright pictures" in remark
    assert "--orientation upright" in remark
    index, _, (remark,) = prepare(tmp_path / "upright", orientation="upright")
    assert "only" not in remark and not index.outside().any()


def test_every_reader_of_an_index_sees_the_same_picture(tmp_path):
    """A detector, and what is drawn, are given the picture that the labels were made on."""
    index, _, _ = prepare(turned(tmp_path, "png", 6) / "upright", orientation="upright")
    given = []
    detect_all(index, lambda image: given.append(image) or [])
    np.testing.assert_array_equal(given[0], np.rot90(picture(0), -1))
    np.testing.assert_array_equal(index.read_rgb(0), given[0])
    np.testing.assert_array_equal(index.read_bgr(0), given[0][..., ::-1])


def test_a_crop_cache_of_the_other_meaning_is_not_used(tmp_path):
    stored, _, _ = prepare(turned(tmp_path, "png", 3) / "stored")
    cache_crops(stored)
    assert open_crops(stored)
    stored.notes["orientation"] = "upright"
    assert open_crops(stored) is None


# --- one picture, one split


def spelled(folder, how):
    """What "0.png" is called in the second row, and where."""
    folder.mkdir()
    (folder / "sub").mkdir()
    cv2.imwrite(str(folder / "0.png"), picture(0))
    if how == "link":
        (folder / "z.png").symlink_to("0.png")
    if how == "linked folder":
        (folder / "z").symlink_to(folder)
    if how == "copy":
        shutil.copy(folder / "0.png", folder / "z.png")
    names = {"slashes": ".//0.png", "up and down": "sub/../0.png", "full path": str(folder / "0.png")}
    return names.get(how, "z/0.png" if how == "linked folder" else "z.png")


@pytest.mark.parametrize("how", ["slashes", "up and down", "full path", "link", "linked folder", "copy"])
def test_one_picture_is_in_one_split_however_it_is_spelled(tmp_path, how):
    folder = tmp_path / "d"
    names = ["0.png", "1.png", "2.png", spelled(folder, how)]
    write_csv(folder, [ALL] * 4, names)
    for seed in (None, 0, 1, 2):
        index, bad, _ = prepare(folder, val_fraction=0.4, seed=seed)
        assert bad == [] and index.split[0] == index.split[3]
        assert len(set(index.group)) == 3 and index.splits == ("train", "val")


def test_copies_of_one_picture_alone_can_be_split(tmp_path):
    """As in a first try of the tool."""
    folder = write_csv(tmp_path / "d", [ALL] * 3)
    for n in (1, 2):
        shutil.copy(folder / "0.png", folder / f"{n}.png")
    index, bad, _ = prepare(folder)
    assert bad == [] and index.splits == ("train", "val")


def test_people_who_share_a_picture_share_a_split(tmp_path):
    """A chain of three, through a hard link; two others through a symbolic one."""
    a, b, c = (tmp_path / name for name in "abc")
    for path in (a, b, c):
        path.write_text(path.name)
    os.link(a, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(c)
    groups = ["ann", "bob", "bob", "cyd", "dan", "eve"]
    assert (
        join_groups(groups, [a, b, tmp_path / "hard", b, c, tmp_path / "soft"]) == ["ann"] * 4 + ["dan"] * 2
    )


def test_the_last_people_by_name_are_for_validation_or_some_drawn(tmp_path):
    """At least one, never all."""
    names = [f"{person}_{shot}.png" for person in ("ann", "bob", "cyd", "dan") for shot in (1, 2)]
    write_csv(tmp_path, [ALL] * 8, names)

    def held(fraction, seed=None):
        index, _, _ = prepare(tmp_path, split_by="^([a-z]+)_", val_fraction=fraction, seed=seed)
        held, trained = (set(index.group[index.split == split].tolist()) for split in ("val", "train"))
        assert not held & trained
        return held

    assert held(0.5) == {"cyd", "dan"} and held(0.01) == {"dan"} and held(0.99) == {"bob", "cyd", "dan"}
    drawn = [held(0.5, seed) for seed in (0, 1, 2, 3, 0)]
    assert drawn[0] == drawn[4] and len(set(map(frozenset, drawn))) > 1
    assert all(len(people) == 2 for people in drawn)


# --- where labels are found


@pytest.mark.parametrize(
    "pictures, prefix", [("d", ""), ("d/images", ""), ("d/deep/er", "deep/er/"), ("disk", "{}/disk/")]
)
def test_where_image_paths_start(tmp_path, pictures, prefix):
    """At the CSV, in images/ beside it, or anywhere by a full path."""
    write_csv(tmp_path / pictures, [ALL] * 2)
    text = (tmp_path / pictures / "labels.csv").read_text().replace("\n0", "\n{0}0").replace("\n1", "\n{0}1")
    (tmp_path / "d").mkdir(exist_ok=True)
    (tmp_path / pictures / "labels.csv").unlink()
    (tmp_path / "d/labels.csv").write_text(text.format(prefix.format(tmp_path)))
    index, bad, _ = prepare(tmp_path / "d")
    assert bad == []
    assert [index.root / image for image in index.image] == [tmp_path / pictures / f"{n}.png" for n in (0, 1)]


def test_a_linked_folder_of_pictures_is_searched(tmp_path):
    """Names in capitals are found, and what macOS leaves beside files is passed by."""
    write_pts(tmp_path / "elsewhere", 3, ending="PTS")
    for n in range(3):
        (tmp_path / f"elsewhere/._{n}.pts").write_bytes(b"\0\5\x16\7")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/sub").symlink_to(tmp_path / "elsewhere")
    index, bad, _ = prepare(tmp_path / "d")
    assert bad == [] and index.image.tolist() == ["sub/0.png", "sub/1.png", "sub/2.png"]
    np.testing.assert_array_equal(index.points[2], ALL)


def test_a_linked_label_file_keeps_its_name(tmp_path):
    """As caches of downloads link them: the file itself has a hash for a name, and no pictures beside it."""
    write_csv(tmp_path / "d", [ALL] * 2)
    shutil.move(tmp_path / "d/labels.csv", tmp_path / "0a1b2c")
    (tmp_path / "d/labels.csv").symlink_to(tmp_path / "0a1b2c")
    for root in (tmp_path / "d/labels.csv", tmp_path / "d"):
        index, bad, _ = prepare(root)
        assert bad == [] and index.root == tmp_path / "d"
    (tmp_path / "mine.csv").symlink_to(tmp_path / "d/labels.csv")
    (tmp_path / "d/labels.csv").unlink()
    shutil.move(tmp_path / "0a1b2c", tmp_path / "d/labels.csv")
    index, bad, _ = prepare(tmp_path / "mine.csv")  # pictures beside what it links to
    assert bad == [] and len(index) == 2


def test_files_of_other_programs_are_no_label_files(tmp_path):
    folder = write_csv(tmp_path / "d", [ALL, ALL])
    (folder / "labels.csv").rename(folder / "LABELS.CSV")
    for name in ("~$labels.csv", ".~lock.labels.csv", ".labels.csv", "._labels.csv"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    assert len(prepare(folder)[0]) == 2


@pytest.mark.parametrize("kind", ["csv", "pts", "json"])
def test_another_number_of_landmarks_suggests_a_scheme(tmp_path, kind):
    if kind == "json":
        write_coco(tmp_path, [face()] * 2)
    elif kind == "pts":
        write_pts(tmp_path, 2)
    else:
        write_csv(tmp_path, [ALL] * 2)
    with pytest.raises(PoposError) as caught:
        prepare(tmp_path, scheme=W300)
    assert "5 landmarks, but scheme '300w' has 68" in caught.value.message
    assert "--scheme points.toml" in caught.value.hint and "landmarks = 5" in caught.value.hint
