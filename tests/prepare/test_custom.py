"""Own labels to an index: which pixels they refer to, what a face is cropped to, who is in which split."""

from __future__ import annotations

import json
import os
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
from popos_cli.prepare.custom import prepare_custom, together

FIVE = Scheme("five", 5, {}, frozenset(), (), None)
ALL = [[30.0, 20.0], [70.0, 22.0], [50.0, 45.0], [35.0, 66.0], [66.0, 64.0]]
SIZE = (120, 90)
TAG = 0x0112


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))


def picture(seed=0):
    """Smooth colours, the same in any compression: (90, 120, 3)."""
    small = np.random.default_rng(seed).integers(0, 255, (3, 4, 3), np.uint8)
    return cv2.resize(small, SIZE, interpolation=cv2.INTER_CUBIC)


def write(folder, rows, names=None):
    """Pictures 0.png, 1.png, ... and their labels: rows (F, 5, 2)."""
    folder.mkdir(parents=True, exist_ok=True)
    header = "image," + ",".join(f"x{n},y{n}" for n in range(5))
    lines = [header]
    for n, points in enumerate(rows):
        name = names[n] if names else f"{n}.png"
        if not (folder / name).exists():
            (folder / name).parent.mkdir(exist_ok=True)
            cv2.imwrite(str(folder / name), picture(n))
        lines.append(",".join([name, *("" if np.isnan(v) else repr(float(v)) for p in points for v in p)]))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def prepare(folder, **options):
    index, bad, remarks = prepare_custom(folder, options.pop("scheme", FIVE), "own", **options)
    return index, bad, remarks


# --- boxes of partly labelled faces


def coco(folder, annotations, **more):
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for n in range(len(annotations)):
        cv2.imwrite(str(folder / f"{n}.png"), picture(n))
        images.append({"id": n, "file_name": f"{n}.png"})
    numbered = [{"id": n, "image_id": n, **one} for n, one in enumerate(annotations)]
    (folder / "labels.json").write_text(json.dumps({"images": images, "annotations": numbered, **more}))
    return folder


def keypoints(labelled, v=2):
    return [value for n, p in enumerate(ALL) for value in ([*p, v] if n in labelled else [0, 0, 0])]


BOX = [30, 20, 40, 46]  # around all five points


@pytest.mark.parametrize("labelled", [[3, 4], [0, 1], [2], [0, 1, 2, 3]], ids=str)
def test_a_partly_labelled_face_is_cropped_around_its_box(tmp_path, labelled):
    """As a fully labelled one is, whichever of its points are there."""
    faces = [{"keypoints": keypoints(range(5))}, {"keypoints": keypoints(labelled), "bbox": BOX}]
    index, bad, remarks = prepare(coco(tmp_path / "d", faces))
    assert (bad, remarks) == ([], [])
    np.testing.assert_array_equal(index.center[1], index.center[0])
    assert index.side[1] == index.side[0] == 46
    assert np.isnan(index.points[1][[n for n in range(5) if n not in labelled]]).all()


def test_a_fully_labelled_face_needs_no_box(tmp_path):
    """A box of the whole person would make its face small."""
    faces = [{"keypoints": keypoints(range(5)), "bbox": [0, 0, 120, 90]}, {"keypoints": keypoints(range(5))}]
    index, _, _ = prepare(coco(tmp_path / "d", faces))
    assert index.side.tolist() == [46, 46]


@pytest.mark.parametrize("box", [None, [], [0, 0, 0, 0]], ids=str)
def test_no_box_is_said(tmp_path, box):
    faces = [{"keypoints": keypoints(range(5))}, {"keypoints": keypoints([3, 4]), "bbox": box}]
    index, _, (remark,) = prepare(coco(tmp_path / "d", faces))
    assert index.side[1] == 31
    assert "no box" in remark and remark.endswith("1")


def corners(x, y, w, h):
    return [x, y, x + w, y + h]


def body(x, y, w, h):
    return [x - w, y - h / 2, 3 * w, 6 * h]


@pytest.mark.parametrize("drawn", [body, corners, lambda *box: [0, 0, 120, 90]])
def test_fully_labelled_faces_show_what_a_bbox_is(tmp_path, drawn):
    """A person's, two corners, the whole picture: a partly labelled face is cropped as they are."""
    labelled = [range(5), range(5), range(5), [3, 4], [2]]
    faces = [{"keypoints": keypoints(some), "bbox": drawn(*BOX)} for some in labelled]
    index, bad, _ = prepare(coco(tmp_path / "d", faces))
    assert bad == []
    np.testing.assert_allclose(index.side, 46, atol=0.1)
    np.testing.assert_allclose(index.center, index.center[[0] * 5], atol=0.1)


def test_boxes_that_follow_no_rule_are_not_used(tmp_path):
    boxes = [[20, 10, 60, 60], [0, 0, 119, 150], [30, 20, 400, 400], BOX]
    faces = [
        {"keypoints": keypoints(range(5) if n < 3 else [3, 4]), "bbox": box} for n, box in enumerate(boxes)
    ]
    index, bad, (remark,) = prepare(coco(tmp_path / "d", faces))
    assert bad == [] and index.side[3] == 31
    assert "no box that shows their size" in remark and remark.endswith(": 1")


def test_a_box_around_the_labelled_points_alone_is_said(tmp_path):
    faces = [{"keypoints": keypoints([3, 4]), "bbox": [35, 64, 31, 2]}] * 3
    _, _, (remark,) = prepare(coco(tmp_path / "d", faces))
    assert "no box that shows their size" in remark and remark.endswith(": 3")


def test_boxes_that_are_two_corners_are_said(tmp_path):
    faces = [{"keypoints": keypoints([3, 4]), "bbox": corners(*BOX)}] * 3
    _, _, remarks = prepare(coco(tmp_path / "d", faces))
    assert any("two corners" in remark for remark in remarks)
    faces = [{"keypoints": keypoints([3, 4]), "bbox": BOX}] * 3
    assert prepare(coco(tmp_path / "right", faces))[2] == []


@pytest.mark.parametrize("size, right", [((120, 90), 1), ((90, 120), 1), ((60, 45), 0), ((240, 180), 0)])
def test_labels_of_a_picture_of_another_size_are_bad(tmp_path, size, right):
    """Shrunk since, for one. Width and height the other way round are a slip, or a turned picture."""
    folder = coco(tmp_path / "d", [{"keypoints": keypoints(range(5))}] * 3)
    content = json.loads((folder / "labels.json").read_text())
    for image in content["images"]:
        image["width"], image["height"] = size
    (folder / "labels.json").write_text(json.dumps(content))
    index, bad, _ = prepare(folder)
    assert len(bad) == 3 * (1 - right) and (index is None) == bool(bad)
    for row in bad:
        assert f"{size[0]} x {size[1]} pixels" in row.reason and "120 x 90" in row.reason


@pytest.mark.parametrize("scale, told", [(1, 0), (0.5, 1)])
def test_labels_that_all_lie_in_a_corner_are_said(tmp_path, scale, told):
    """They were made on smaller pictures, or are in percent."""
    _, bad, remarks = prepare(write(tmp_path / "d", [np.array(ALL) * scale] * 12))
    assert bad == [] and len(remarks) == told
    assert all("smaller pictures" in remark for remark in remarks)


@pytest.mark.parametrize("swapped", [False, True])
def test_x_and_y_that_seem_swapped_are_said(tmp_path, swapped):
    rows = [np.array(ALL)[:, :: -1 if swapped else 1]] * 3
    _, bad, remarks = prepare(write(tmp_path / "d", rows), scheme=replace(FIVE, eye_corners=(0, 1)))
    assert bad == []
    assert [remark for remark in remarks if "x and y swapped" in remark] == remarks and len(
        remarks
    ) == swapped


@pytest.mark.parametrize("kind", ["csv", "coco"])
def test_missing_points_as_minus_one_are_bad(tmp_path, kind):
    """No label lies there; learned, it would be a place of a face."""
    rows = [np.array(ALL), np.array(ALL)]
    rows[1][3] = -1
    if kind == "csv":
        folder = write(tmp_path / "d", rows)
    else:
        folder = coco(
            tmp_path / "d", [{"keypoints": np.insert(p, 2, 2, axis=1).ravel().tolist()} for p in rows]
        )
    _, (bad,), _ = prepare(folder)
    assert "landmark 3 at -1, -1" in bad.reason and "missing" in bad.reason


def test_points_at_zero_are_said(tmp_path):
    rows = [np.array(ALL), np.array(ALL)]
    rows[1][3] = 0
    _, bad, (remark,) = prepare(write(tmp_path / "d", rows))
    assert bad == [] and "1 points lie at exactly 0, 0" in remark


def test_paths_as_windows_writes_them(tmp_path):
    folder = write(tmp_path / "d", [ALL, ALL], ["a/0.png", "a/1.png"])
    text = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_text(text.replace("a/0.png", r"a\0.png").replace("a/1.png", r".\a\1.png"))
    index, bad, _ = prepare(folder)
    assert bad == [] and index.image.tolist() == ["a/0.png", "a/1.png"]


@pytest.mark.parametrize(
    "box, told",
    [([1, 2, 3], "four numbers"), ("here", "four numbers"), ([1, 2, -3, 4], "no size"),
     ([float("nan")] * 4, "four numbers"), ([10**400, 1, 2, 3], "four numbers"),
     ([0.3, 0.2, 0.3, 0.5], "in 0..1"), ([90, 70, 10, 10], "none of its points"),
     ([-9e5, 0, 1e6, 100], "outside its picture")],
)  # fmt: skip
def test_a_box_that_cannot_be_meant_is_a_bad_row(tmp_path, box, told):
    faces = [{"keypoints": keypoints(range(5))}] * 2 + [{"keypoints": keypoints([3, 4]), "bbox": box}]
    _, (bad,), _ = prepare(coco(tmp_path / "d", faces))
    assert bad.source == "labels.json#2" and told in bad.reason


# --- COCO's oddities


def test_annotations_without_a_labelled_point_are_passed_by(tmp_path):
    """Whatever coordinates they have."""
    faces = [{"keypoints": keypoints(range(5), v)} for v in (2, 0, 1, -1, float("nan"))]
    index, bad, _ = prepare(coco(tmp_path / "d", faces))
    assert bad == []
    assert index.source.tolist() == ["labels.json#0", "labels.json#2"]


@pytest.mark.parametrize("v, visible", [(0.97, 2), (1e-6, 2), (1, 1), (1.0, 1), (2, 2), (3, 2), (True, 1)])
def test_visibility_may_be_a_fraction(tmp_path, v, visible):
    index, bad, _ = prepare(coco(tmp_path / "d", [{"keypoints": keypoints(range(5), v)}] * 2))
    assert bad == []
    assert (index.visible == visible).all()
    np.testing.assert_array_equal(index.points[0], ALL)


@pytest.mark.parametrize("image_id", [[0], {}, None, "0", 7, "x" * 100_000])
def test_an_image_id_that_is_none(tmp_path, image_id):
    faces = [{"keypoints": keypoints(range(5))} for _ in range(3)]
    faces[1]["image_id"] = image_id
    _, (bad,), _ = prepare(coco(tmp_path / "d", faces))
    assert bad.source == "labels.json#1"
    assert "is not among the images" in bad.reason and len(bad.reason) < 120


def test_two_pictures_of_one_id_are_refused(tmp_path):
    """Files that were merged: a face would go to another's picture."""
    images = [{"id": 0, "file_name": "0.png"}, {"id": 0, "file_name": "1.png"}]
    folder = coco(tmp_path / "d", [{"keypoints": keypoints(range(5))}] * 2, images=images)
    with pytest.raises(PoposError, match="two images have the id 0"):
        prepare(folder)


NAMES = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]


def test_keypoint_names_become_the_schemes(tmp_path):
    categories = [{"id": 1, "name": "face", "keypoints": NAMES}]
    index, _, _ = prepare(
        coco(tmp_path / "d", [{"keypoints": keypoints(range(5))}] * 2, categories=categories)
    )
    assert index.scheme.names == ("left eye", "right eye", "nose", "left mouth", "right mouth")
    order = ("nose", "right eye", "left eye", "right mouth", "left mouth")
    named = replace(FIVE, groups={name: (n,) for n, name in enumerate(order)})
    index, _, _ = prepare(tmp_path / "d", scheme=named)
    np.testing.assert_array_equal(index.points[0], np.array(ALL)[[2, 1, 0, 4, 3]])


# --- numbers in 0..1


@pytest.mark.parametrize("name, first", [("{}", 0), ("{}", 1), ("kpt-{:02}", 0)])
def test_keypoint_names_that_are_numbers_set_the_order(tmp_path, name, first):
    """Programs write them in the order of text: 0, 1, 10, 11, 2."""
    order = [3, 0, 4, 2, 1]
    values = [value for n in order for value in (*ALL[n], 2)]
    names = [name.format(n + first) for n in order]
    folder = coco(tmp_path / "d", [{"keypoints": values}] * 2, categories=[{"keypoints": names}])
    index, bad, _ = prepare(folder)
    assert bad == []
    np.testing.assert_array_equal(index.points[0], ALL)


def test_labels_without_visibility_are_said(tmp_path):
    faces = [{"keypoints": keypoints(range(5), 0)}] * 3
    index, bad, (remark,) = prepare(coco(tmp_path / "d", faces))
    assert index is None and bad == [] and "v above 0): 3" in remark


@pytest.mark.parametrize("low, high", [(0, 1), (-0.2, 1.3)])
def test_normalised_labels_are_refused_or_taken(tmp_path, low, high):
    """Also where faces reach beyond their picture."""
    points = np.array(ALL) / SIZE
    points[0, 0], points[1, 0] = low, high
    write(tmp_path / "d", [points] * 2)
    with pytest.raises(PoposError, match="all coordinates lie between") as caught:
        prepare(tmp_path / "d")
    assert "--normalised" in caught.value.hint
    index, bad, _ = prepare(tmp_path / "d", normalised=True)
    assert bad == []
    np.testing.assert_allclose(index.points[0], points * SIZE, atol=1e-9)


def test_normalised_boxes_go_with_normalised_labels(tmp_path):
    half = [v for x, y in ALL[3:] for v in (x / SIZE[0], y / SIZE[1], 2)]
    box = (np.array(BOX) / [*SIZE, *SIZE]).tolist()
    faces = [{"keypoints": [0] * 9 + half, "bbox": box}] * 2
    with pytest.raises(PoposError, match="all coordinates lie between"):
        prepare(coco(tmp_path / "d", faces))
    index, _, _ = prepare(tmp_path / "d", normalised=True)
    np.testing.assert_allclose(index.center, [[50, 43]] * 2)
    np.testing.assert_allclose(index.side, 46)


def test_one_normalised_row_among_others_is_bad(tmp_path):
    rows = [np.array(ALL)] * 3
    rows[1] = rows[1] / SIZE
    _, (bad,), _ = prepare(write(tmp_path / "d", rows))
    assert bad.source == "labels.csv:3" and "0..1" in bad.reason


def test_pixels_called_normalised_lie_far_outside(tmp_path):
    index, bad, _ = prepare(write(tmp_path / "d", [ALL] * 2), normalised=True)
    assert index is None
    assert all("outside its picture" in row.reason for row in bad)


# --- missing points


def test_missing_points_in_pts_files(tmp_path):
    folder = tmp_path / "d"
    write(folder, [ALL] * 2)
    (folder / "labels.csv").unlink()
    lines = [f"{x + 1} {y + 1}" for x, y in ALL]
    lines[1] = "nan NaN"
    for n in range(2):
        (folder / f"{n}.pts").write_text("version: 1\nn_points: 5\n{\n" + "\n".join(lines) + "\n}\n")
    index, bad, _ = prepare(folder)
    assert bad == []
    assert index.visible.tolist() == [[2, 0, 2, 2, 2]] * 2
    np.testing.assert_array_equal(np.delete(index.points[0], 1, 0), np.delete(ALL, 1, 0))
    (folder / "1.pts").write_text("{\n" + "\n".join(lines).replace("nan NaN", "nan 5") + "\n}\n")
    _, (bad_row,), _ = prepare(folder)
    assert bad_row.source == "1.pts" and "landmark 1" in bad_row.reason


# --- points outside


@pytest.mark.parametrize(
    "value, kept", [(-350, True), (479, True), (-361, False), (481, False), (1e6, False)]
)
def test_how_far_outside_a_point_may_lie(tmp_path, value, kept):
    """Three times the picture's longer side."""
    rows = [np.array(ALL) for _ in range(3)]
    rows[1][2, 0] = value
    index, bad, _ = prepare(write(tmp_path / "d", rows))
    if kept:
        assert bad == [] and index.points[1, 2, 0] == value
    else:
        assert [row.source for row in bad] == ["labels.csv:3"]
        assert "landmark 2" in bad[0].reason and len(index) == 2


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
        write(place, [points] * 2, [f"{n}.{ending}" for n in range(2)])
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
        index, bad, remarks = prepare(tmp_path / name, upright=name == "upright")
        assert bad == []
        assert "EXIF orientation" in remarks[0]
        path = write_index(index)
        index = load_index(path)
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
    write(tmp_path / "upright", [low] * 2, ["0.jpg", "1.jpg"])
    _, _, (remark,) = prepare(tmp_path / "upright")
    assert "2 faces lie inside their picture only on upright pictures" in remark
    assert "--orientation upright" in remark
    index, _, (remark,) = prepare(tmp_path / "upright", upright=True)
    assert "only" not in remark
    assert not index.outside().any()


def test_every_reader_of_an_index_sees_the_same_picture(tmp_path):
    """A detector, and what is drawn, are given the picture that the labels were made on."""
    turned(tmp_path, "png", 6)
    index, _, _ = prepare(tmp_path / "upright", upright=True)
    given = []

    def detector(image):
        given.append(image)
        return []

    detect_all(index, detector)
    np.testing.assert_array_equal(given[0], np.rot90(picture(0), -1))
    np.testing.assert_array_equal(index.read_rgb(0), given[0])
    np.testing.assert_array_equal(index.read_bgr(0), given[0][..., ::-1])


def test_a_crop_cache_of_the_other_meaning_is_not_used(tmp_path):
    turned(tmp_path, "png", 3)
    stored, _, _ = prepare(tmp_path / "stored")
    cache_crops(stored)
    assert open_crops(stored)
    stored.notes["orientation"] = "upright"
    assert open_crops(stored) is None


def test_pictures_that_are_not_turned_need_no_word(tmp_path):
    _, _, remarks = prepare(write(tmp_path / "d", [ALL] * 2))
    assert remarks == []


# --- one picture, one split


def spelled(folder, how):
    """What "0.png" is called in the second row, and where."""
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), picture(0))
    if how == "symbolic link":
        (folder / "z.png").symlink_to("0.png")
        return "z.png"
    if how == "hard link":
        os.link(folder / "0.png", folder / "z.png")
        return "z.png"
    if how == "linked folder":
        (folder / "z").symlink_to(folder)
        return "z/0.png"
    if how == "full path":
        return str(folder / "0.png")
    if how == "copy":
        shutil.copy(folder / "0.png", folder / "z.png")
        return "z.png"
    return {"dot": "./0.png", "up and down": "z/../0.png", "slashes": ".//0.png"}[how]


@pytest.mark.parametrize(
    "how",
    ["dot", "up and down", "slashes", "full path", "symbolic link", "hard link", "linked folder", "copy"],
)
@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_one_picture_is_in_one_split_however_it_is_spelled(tmp_path, how, seed):
    folder = tmp_path / "d"
    other = spelled(folder, how)
    if how == "up and down":
        (folder / "z").mkdir()
    names = ["0.png", "1.png", "2.png", other]
    index, bad, _ = prepare(write(folder, [ALL] * 4, names), val_fraction=0.4, seed=seed)
    assert bad == []
    assert index.split[0] == index.split[3]
    assert len(set(index.group)) == 3 and index.splits == ("train", "val")


def test_copies_of_one_picture_alone_can_be_split(tmp_path):
    """As a first try of the tool has them."""
    folder = write(tmp_path / "d", [ALL] * 3)
    for n in (1, 2):
        shutil.copy(folder / "0.png", folder / f"{n}.png")
    index, bad, _ = prepare(folder)
    assert bad == [] and index.splits == ("train", "val")


def test_people_who_share_a_picture_share_a_split(tmp_path):
    """A chain of three, through a link; somebody else is alone."""
    files = []
    for name in "abc":
        files.append(tmp_path / name)
        files[-1].write_text(name)
    (tmp_path / "link").symlink_to("c")
    groups = together(["ann", "bob", "bob", "cyd", "dan", "eve"], [*files[:2], files[0], files[1], files[2],
                                                                  tmp_path / "link"])  # fmt: skip
    assert groups[:4] == ["ann"] * 4
    assert groups[4:] == ["dan", "dan"]


# --- where labels are found


def test_a_linked_folder_of_pictures_is_searched(tmp_path):
    write(tmp_path / "elsewhere", [ALL] * 3)
    (tmp_path / "elsewhere/labels.csv").unlink()
    text = "{\n" + "\n".join(f"{x + 1} {y + 1}" for x, y in ALL) + "\n}"
    for n in range(3):
        (tmp_path / f"elsewhere/{n}.PTS").write_text(text)
        (tmp_path / f"elsewhere/._{n}.pts").write_bytes(b"\0\5\x16\7")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/sub").symlink_to(tmp_path / "elsewhere")
    index, bad, _ = prepare(tmp_path / "d")
    assert bad == []
    assert index.image.tolist() == ["sub/0.png", "sub/1.png", "sub/2.png"]
    np.testing.assert_array_equal(index.points[2], ALL)


def test_a_linked_label_file_keeps_its_name(tmp_path):
    """As caches of downloads link them: the file itself has a hash for a name, and no pictures beside it."""
    write(tmp_path / "d", [ALL] * 2)
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


@pytest.mark.parametrize("name", ["~$labels.csv", ".~lock.labels.csv", ".labels.csv"])
def test_hidden_files_of_other_programs_are_no_label_files(tmp_path, name):
    folder = write(tmp_path / "d", [ALL, ALL])
    (folder / name).write_text("x")
    assert len(prepare(folder)[0]) == 2


def test_two_pictures_of_one_pts_file_are_a_bad_row(tmp_path):
    """Nobody says which of them was labelled: a mask beside a photo, or a smaller copy."""
    folder = tmp_path / "d"
    folder.mkdir()
    for n in range(3):
        cv2.imwrite(str(folder / f"{n}.jpg"), picture(n))
        (folder / f"{n}.pts").write_text("{\n" + "\n".join(f"{x} {y}" for x, y in ALL) + "\n}\n")
    cv2.imwrite(str(folder / "1.png"), picture(1)[::2, ::2])
    index, (bad,), _ = prepare(folder)
    assert len(index) == 2 and bad.source == "1.pts" and "1.jpg, 1.png" in bad.reason


def test_leftovers_of_macos_are_no_label_files(tmp_path):
    write(tmp_path / "d", [ALL] * 2)
    (tmp_path / "d/._labels.csv").write_bytes(b"\0\5\x16\7")
    (tmp_path / "d/labels.csv").rename(tmp_path / "d/LABELS.CSV")
    index, bad, _ = prepare(tmp_path / "d")
    assert bad == [] and len(index) == 2


@pytest.mark.parametrize("kind", ["csv", "pts", "json"])
def test_another_number_of_landmarks_suggests_a_scheme(tmp_path, kind):
    folder = tmp_path / "d"
    if kind == "json":
        categories = [{"keypoints": NAMES}]
        coco(folder, [{"keypoints": keypoints(range(5))}] * 2, categories=categories)
    else:
        write(folder, [ALL] * 2)
    if kind == "pts":
        (folder / "labels.csv").unlink()
        for n in range(2):
            (folder / f"{n}.pts").write_text("{\n" + "\n".join(f"{x} {y}" for x, y in ALL) + "\n}")
    with pytest.raises(PoposError) as caught:
        prepare(folder, scheme=W300)
    assert "5 landmarks, but scheme '300w' has 68" in caught.value.message
    assert "--scheme points.toml" in caught.value.hint and "landmarks = 5" in caught.value.hint
    if kind == "json":
        assert "flip_pairs = [[0, 1], [3, 4]]" in caught.value.hint
