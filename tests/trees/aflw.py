"""AFLW as it is downloaded: AFLWinfo_release.mat, and photos below aflw/data/flickr."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from scipy.io import savemat

from popos_cli.core.schemes import AFLW

from .common import TruthFace, beside, cut_left, draw, encode, jpeg_grey, without_colour, write_archives

FACES = 16
TRAIN = 13  # of 16, as 20,000 are of 24,386
# Photos by the numbers of the faces in them, and what the label file calls them.
PHOTOS = {
    "0/image00002.jpg": (0,), "0/image00013.jpg": (1, 2), "0/image00035.jpg": (3,),
    "2/image00004.jpg": (4,), "2/image00047.jpg": (5, 6, 7), "2/image00312.jpg": (8, 9),
    "3/image00056.jpg": (10,), "3/image00124.jpg": (11, 12), "3/image00218.jpg": (13,),
    "3/image63210.jpg": (14, 15),
}  # fmt: skip
GREY = "0/image00035.jpg"
OTHERWISE = {"2/image00004.jpg": "2/Image00004.PNG", "3/image00218.jpg": "3/image00218.JPG"}  # on disk
HIDDEN = (1, 4, 6, 9, 12, 15)  # faces with points that the photo does not show
OUTSIDE = 10  # a face cut by the left border


@cache
def aflw_truth() -> tuple[tuple[TruthFace, ...], np.ndarray]:
    """The faces in the order of the split, training first, and their 1-based rows in the file."""
    rng = np.random.default_rng(19)
    drawn = draw(AFLW, FACES, seed=19)
    rows: dict[int, TruthFace] = {}
    order = rng.permutation(FACES)
    for name, numbers in PHOTOS.items():
        parts, left = [], 0
        for number in numbers:
            picture, points = drawn[number]
            if number == OUTSIDE:
                picture, points = cut_left(picture, points)
            parts.append(picture)
            drawn[number] = picture, np.round(points + (left, 0), 3)
            left += picture.shape[1]
        photo = beside(parts)
        if name == GREY:
            photo = without_colour(photo)
        for number in numbers:
            points = drawn[number][1].copy()
            visible = np.full(AFLW.landmarks, 2, np.uint8)
            if number in HIDDEN:
                hidden = rng.choice(AFLW.landmarks, 4, replace=False)
                visible[hidden] = 1
                points[hidden] = np.round(points[hidden])  # they were marked on whole pixels
            side = np.ceil(np.ptp(points, axis=0).max()) + rng.integers(8, 30)
            low = np.floor(points.mean(0) - side / 2) + rng.integers(-6, 7, 2)
            size = side - (3 if number == 0 else 0), side  # one box is no square
            test = int(np.flatnonzero(order == number)[0]) >= TRAIN
            rows[number] = TruthFace(
                image=f"flickr/{name}",
                picture=photo,
                points=points,
                visible=visible,
                split="test" if test else "train",
                subsets=("frontal",) if test and number not in HIDDEN else (),
                square=(low + np.array(size) / 2, float(side)),
                rect=np.array([*low, *size]),
            )
    return tuple(rows[number] for number in order), order + 1


def build_aflw(folder: Path, archives: bool = False) -> list[TruthFace]:
    """Write the label file, and the photos unpacked or as TU Graz' three archives; returns the faces in the
    order of the split."""
    faces, ra = aflw_truth()
    packed = {f"aflw-images-{n}.tar.gz": f"aflw/data/flickr/{n}" for n in "023"} if archives else {}
    write_archives(folder, {f"aflw/data/{name}": data for name, data in photos(faces).items()}, packed)
    write_mat(folder / "AFLWinfo_release.mat", faces, ra)
    return list(faces)


def photos(faces: Sequence[TruthFace]) -> dict[str, bytes]:
    """The files of the photos below data/, by the names that they have on disk."""
    files = {}
    for face in faces:
        label = face.image.removeprefix("flickr/")
        name = OTHERWISE.get(label, label)
        files[f"flickr/{name}"] = jpeg_grey(face.picture) if label == GREY else encode(name, face.picture)
    return files


def write_mat(path: Path, faces: Sequence[TruthFace], ra: np.ndarray) -> None:
    """AFLWinfo_release.mat of faces in the order of the split, whose rows are `ra` (from 1 on)."""
    by_row = [faces[place] for place in np.argsort(ra)]
    names = np.empty((len(by_row), 1), object)
    names[:, 0] = [face.image.removeprefix("flickr/") for face in by_row]
    x, y, w, h = np.array([face.rect for face in by_row]).T
    arrays = {
        "bbox": np.stack([x, x + w, y, y + h], axis=1),
        "data": np.stack([face.points.T.ravel() for face in by_row]),
        "mask_new": np.stack([face.visible == 2 for face in by_row]).astype(np.float64),
        "nameList": names,
        "ra": np.asarray(ra, np.float64)[None],
        "readme": "revised annotation of AFLW",
    }
    savemat(path, arrays, do_compression=True)
