"""The sheet of sample faces: what it shows of a crop, and where."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from popos_cli.core.geometry import crop_matrix, invert, transform
from popos_cli.core.schemes import SCHEMES
from popos_cli.data.augment import PLAIN, Augment
from popos_cli.data.dataset import FaceDataset
from popos_cli.inspect.samples import (
    AUGMENTED,
    COLOURS,
    SEARCHED,
    ZOOM,
    TrainingCrop,
    caption,
    colours,
    draw_faces,
    eye_corner,
    make_sample,
    spread,
)  # fmt: skip

TILE, CAPTION, LEGEND = 256, 31, 24


def sample(index, face=0, seed=0, **strengths):
    """A sample of a face, augmented with these strengths alone; and the augmented dataset."""
    plain = FaceDataset(index, TILE, 1.25, "center")
    augmented = FaceDataset(index, TILE, 1.25, "center", Augment.only(**strengths), seed)
    return make_sample(face, plain, augmented), augmented


def sides(crop, scheme):
    """Which colours lie in the left half of a crop, and which in the right."""
    left = crop.points[:, 0] < TILE / 2
    numbers = np.array([COLOURS.index(colour) for colour in colours(scheme)])
    return set(numbers[left]), set(numbers[~left])


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_a_mirror_swaps_the_colours_of_each_pair_alone(scheme):
    first, second, alone = COLOURS
    own = colours(scheme)
    swapped = {first: second, second: first, alone: alone}
    assert [own[k] for k in scheme.flip_index] == [swapped[colour] for colour in own]
    assert own.count(first) == own.count(second) == len(scheme.flip_pairs)


def test_colours_keep_their_side_in_a_mirrored_crop_unless_a_pair_is_missing(index):
    face, _ = sample(index, flip=1.0)
    assert all(crop.mirrored for crop in face.augmented) and not face.plain.mirrored
    for crop in (face.plain, *face.augmented):
        assert sides(crop, index.scheme) == ({0}, {1})
    broken = replace(index.scheme, flip_pairs=((0, 1),))
    face, _ = sample(replace(index, scheme=broken), flip=1.0)
    assert sides(face.plain, broken) == ({0, 2}, {1, 2})
    assert face.plain.points[2, 0] < TILE / 2 < face.augmented[0].points[2, 0]  # its number changed sides


def test_a_mirrored_crop_is_searched_for(index):
    face, augmented = sample(index, seed=1, flip=0.03)
    drawn = [np.linalg.det(augmented[epoch, 0]["matrix"][:, :2]) < 0 for epoch in range(SEARCHED)]
    assert not any(drawn[:AUGMENTED]) and any(drawn)  # else another seed
    assert [crop.epoch for crop in face.augmented] == [0, 1, 2, drawn.index(True)]
    assert [crop.mirrored for crop in face.augmented] == [False, False, False, True]
    assert not any(crop.mirrored for crop in sample(index)[0].augmented)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("degrees", [20.0, -35.0])
def test_the_caption_says_what_the_eye_sees(degrees, flip):
    """A line of the face that points to the right, mirrored or not, turns upwards by that angle."""

    def crop(rotation, mirrored, side):
        matrix = crop_matrix(np.array([50.0, 60.0]), side, TILE, "center", rotation, mirrored)
        picture = np.zeros((TILE, TILE, 3), np.uint8)
        return TrainingCrop(picture, np.zeros((1, 2)), matrix, np.array(PLAIN), epoch=7)

    turned, upright, plain = crop(degrees, flip, 80.0), crop(0, flip, 80.0), crop(0, False, 100.0)
    line = transform(np.array([[0.0, 0.0], [10.0, 0.0]]), invert(upright.matrix))
    start, end = transform(line, turned.matrix)
    seen = np.rad2deg(np.arctan2(start[1] - end[1], end[0] - start[0]))
    assert seen == pytest.approx(-degrees if flip else degrees)
    text = f"epoch 7: {'flip ' if flip else ''}{seen:+.0f} deg x1.25"
    for photometric, line in (
        (PLAIN, ""), ((1.3, 1, 0, 40, 0, 0), "\ngrey 40 px"), ((1, 1, 1, 0, 1.5, 40), "\nblur 1.5 JPEG 40"),
    ):  # fmt: skip
        changed = replace(turned, photometric=np.array(photometric, np.float32))
        assert caption(changed, plain) == text + line


def test_the_cross_lies_on_its_pixel(index, tmp_path):
    """A picture that is the crop, with a white pixel at the landmark and at its mirror image."""
    picture = np.zeros((TILE, TILE, 3), np.uint8)
    corner = np.array([100.0, 120.0])
    picture[120, [100, 155]] = 255
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    points = np.array([corner, [155, 120], [100, 200], [155, 200]])
    index = replace(
        index.select(np.array([0])), points=points[None], center=np.array([[127.5, 127.5]]),
        side=np.array([TILE / 1.25]), size=np.array([[TILE, TILE]], np.int32),
    )  # fmt: skip
    page = draw_faces(index, [sample(index, flip=1.0)[0]])
    assert page.shape == (LEGEND + TILE + CAPTION, (2 + AUGMENTED + 2) * TILE, 3)
    for column in (6, 7):  # the crop and its mirror image: landmark 0 is where 0 belongs in both
        tile = page[LEGEND : LEGEND + TILE, column * TILE : (column + 1) * TILE]
        white_y, x = np.nonzero((tile == 255).all(-1))
        assert np.ptp(x) == np.ptp(white_y) == ZOOM - 1
        assert (x.min() + x.max()) / 2 == (white_y.min() + white_y.max()) / 2
        hairs = (np.abs(tile.astype(int) - COLOURS[0]) < 140).all(-1)  # half a pixel on either side
        y, _ = np.nonzero(hairs[:, : TILE // 2 - 2 * ZOOM])
        assert y.mean() == pytest.approx((white_y.min() + white_y.max()) / 2, abs=0.25)


def test_photo_and_crop_have_the_pictures_colours(index):
    page = draw_faces(index, [sample(index)[0]])
    for column in (0, 1):
        assert page[LEGEND + TILE // 2, column * TILE + TILE // 2 + 30].tolist() == [120, 90, 60]


def test_the_detail_is_of_a_corner_that_is_labelled():
    scheme = SCHEMES["aflw"]  # no eye corners, but eyes
    points = np.zeros((19, 2))
    assert eye_corner(scheme, [points]) == 6
    assert eye_corner(SCHEMES["300w"], [np.zeros((68, 2))]) == 36
    points[6] = np.nan
    assert eye_corner(scheme, [np.zeros((19, 2)), points]) == 9
    assert eye_corner(scheme, [np.full((19, 2), np.nan)]) == 6


def test_faces_without_labels_are_drawn(index):
    """The last face lacks two points, and here also the other two."""
    points, visible = index.points.copy(), index.visible.copy()
    points[2], visible[2] = np.nan, 0
    index = replace(index, points=points, visible=visible)
    page = draw_faces(index, [sample(index, face, flip=0.5)[0] for face in (1, 2)])
    assert page.shape[0] == LEGEND + 2 * (TILE + CAPTION)
    last = page[LEGEND + TILE + CAPTION :][:TILE, -2 * TILE :]
    assert (last == 255).all()


def test_faces_are_spread_over_all():
    chosen = spread(3148, 8, 0)
    parts = np.array_split(np.arange(3148), 8)
    assert all(face in part for face, part in zip(chosen, parts, strict=True))
    assert chosen == spread(3148, 8, 0) != spread(3148, 8, 1)
    assert spread(3, 8, 0) == [0, 1, 2]
