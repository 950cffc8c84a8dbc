"""WFLW as it is downloaded: WFLW_images/, and WFLW_annotations/ with its lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from popos_cli.core.schemes import WFLW

from .common import TruthFace, cut_left, draw, jpeg, write_archives

# In the order of the attributes in the lists.
SUBSETS = ("largepose", "expression", "illumination", "makeup", "occlusion", "blur")
# Photo -> the subsets of each face in it; the training faces have attributes, too.
PHOTOS = {
    "train": {
        "0--Parade/0_Parade_marchingband_1_1015.jpg": (("blur",), ()),
        "37--Soccer/37_Soccer_soccer_ball_37_45.jpg": (("largepose", "occlusion"),),
        "7--Cheering/7_Cheering_Cheering_7_17.jpg": ((),),
    },
    "test": {
        "0--Parade/0_Parade_Parade_0_490.jpg": (("makeup", "expression"),),
        "7--Cheering/7_Cheering_Cheering_7_426.jpg": (("largepose", "blur"), (), ("blur", "occlusion")),
        "51--Dresses/51_Dresses_wearingdress_51_536.jpg": (("illumination", "makeup"), ("expression",)),
        "1--Handshaking/1_Handshaking_Handshaking_1_362.jpg": ((),),
    },
}
OUTSIDE = ("37--Soccer/37_Soccer_soccer_ball_37_45.jpg", "1--Handshaking/1_Handshaking_Handshaking_1_362.jpg")


def wflw_truth() -> list[TruthFace]:
    """The faces, training before test; the lists have them in another order."""
    rng = np.random.default_rng(0)
    drawn = iter(draw(WFLW, 11, decimals=6))
    faces = []
    for split, photos in PHOTOS.items():
        for name, faces_of in photos.items():
            parts, found, top = [], [], 0
            for _ in faces_of:
                picture, points = next(drawn)
                if name in OUTSIDE:
                    picture, points = cut_left(picture, points)
                found.append(points + (0, top))
                parts.append(picture)
                top += picture.shape[0]
            if len(found) > 1:  # neighbours whose first number is the same
                found[1][0, 0] = found[0][0, 0]
            width = max(part.shape[1] for part in parts)
            wider = [cv2.copyMakeBorder(p, 0, 0, 0, width - p.shape[1], cv2.BORDER_REPLICATE) for p in parts]
            for points, subsets in zip(found, faces_of, strict=True):
                points = np.round(points, 6)
                low = np.floor(points.min(0)) + rng.integers(-9, 10, 2)
                size = np.ceil(np.ptp(points, axis=0)) + rng.integers(-9, 10, 2)
                faces.append(
                    TruthFace(
                        image=name,
                        picture=np.vstack(wider),
                        points=points,
                        visible=np.full(WFLW.landmarks, 2, np.uint8),
                        split=split,
                        subsets=tuple(s for s in SUBSETS if s in subsets) if split == "test" else (),
                        rect=np.array([*low, *size]),
                    )
                )
    return faces


def pictures(faces: Sequence[TruthFace]) -> dict[str, bytes]:
    """The files of the pictures by their paths below images/ or WFLW_images/."""
    return {face.image: jpeg(face.picture) for face in faces}


def line(face: TruthFace, attributes: Sequence[str]) -> str:
    """A line of a list: points, box, attributes and path, 207 fields."""
    x, y, w, h = face.rect.astype(int).tolist()
    numbers = (x, y, x + w, y + h, *(int(subset in attributes) for subset in SUBSETS))
    return (
        " ".join([*(f"{value:.6f}" for value in face.points.ravel()), *map(str, numbers), face.image]) + "\n"
    )


def labels(faces: Sequence[TruthFace]) -> dict[str, bytes]:
    """The lists by their paths below WFLW_annotations/."""
    every = [subsets for photos in PHOTOS.values() for faces_of in photos.values() for subsets in faces_of]
    lines = [(face.split, line(face, subsets)) for face, subsets in zip(faces, every, strict=True)]
    mixed = [lines[row] for row in np.random.default_rng(1).permutation(len(lines))]
    texts = {
        f"list_98pt_rect_attr_train_test/list_98pt_rect_attr_{split}.txt": "".join(
            text for its_split, text in mixed if its_split == split
        )
        for split in PHOTOS
    }
    texts["list_98pt_test/README"] = "# Format of the lists\n"
    return {name: text.encode("ascii") for name, text in texts.items()}


def build_wflw(folder: Path, archives: bool = False) -> list[TruthFace]:
    """Write the two downloads, unpacked or as archives; returns the faces."""
    faces = wflw_truth()
    files = {f"WFLW_images/{name}": data for name, data in pictures(faces).items()}
    files |= {f"WFLW_annotations/{name}": data for name, data in labels(faces).items()}
    tops = ("WFLW_images", "WFLW_annotations") if archives else ()
    write_archives(folder, files, {f"{top}.tar.gz": top for top in tops})
    return faces
