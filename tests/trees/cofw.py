"""COFW as it is downloaded: two MATLAB v7.3 files with labels and pictures in them."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import cv2
import h5py
import numpy as np

from popos_cli.core.schemes import COFW

from .common import TruthFace, cut_left, draw, without_colour

TRAIN, TEST = 5, 4
GREY = 2  # picture of a face that is stored without colours
OUTSIDE = (1, 7)  # faces cut by the left or the right border of their picture


@cache
def cofw_truth() -> tuple[TruthFace, ...]:
    """The faces, training before test, in the order of their rows."""
    rng = np.random.default_rng(29)
    faces = []
    for number, (picture, points) in enumerate(draw(COFW, TRAIN + TEST, seed=29)):
        if number == OUTSIDE[0]:
            picture, points = cut_left(picture, points)
        elif number == OUTSIDE[1]:
            picture = picture[:, : int(points[:, 0].max()) - 8]
        if number == GREY:
            picture = without_colour(picture)
        # The detector's: whole numbers, higher than wide, not where the points are.
        low = np.floor(points.min(0)) - rng.integers(5, 20, 2)
        size = np.ceil(np.ptp(points, axis=0)) + rng.integers((10, 40), (20, 60))
        faces.append(
            TruthFace(
                image=f"{number + 1:06d}.jpg",
                picture=np.ascontiguousarray(picture),
                points=points,
                visible=np.where(rng.random(COFW.landmarks) < 0.25, 1, 2).astype(np.uint8),
                split="train" if number < TRAIN else "test",
                square=(low + size / 2, float(size.max())),
                rect=np.array([*low, *size]),
            )
        )
    return tuple(faces)


def build_cofw(folder: Path, colour: bool = True, archives: bool = False) -> list[TruthFace]:
    """Write the two files where the grey archive is known to have them, or zipped; returns their faces.

    colour=False: the grey files under their own names.
    """
    faces = list(cofw_truth())
    mats = folder / "mats" if archives else folder
    inside = mats / "common/xpburgos/behavior/code/pose"
    inside.mkdir(parents=True)
    for split, ending in (("train", "Tr"), ("test", "T")):
        name = f"COFW_{split}_color.mat" if colour else f"COFW_{split}.mat"
        write_mat(inside / name, ending, [face for face in faces if face.split == split], colour)
    if archives:
        shutil.make_archive(str(folder / "COFW_color"), "zip", mats)
        shutil.rmtree(mats)
    return faces


def write_mat(path: Path, ending: str, faces: list[TruthFace], colour: bool = True) -> None:
    """As MATLAB saves with -v7.3: its own header before HDF5's, cells as references, transposed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        cells = file.create_group("#refs#")
        references = np.empty((1, len(faces)), h5py.ref_dtype)
        for number, face in enumerate(faces):
            stored = cv2.cvtColor(face.picture, cv2.COLOR_BGR2RGB if colour else cv2.COLOR_BGR2GRAY)
            if colour and (stored == stored[..., :1]).all():
                stored = stored[..., 0]
            pixels = cells.create_dataset(f"p{number}", data=stored.T)
            pixels.attrs["MATLAB_class"] = np.bytes_("uint8")
            references[0, number] = pixels.ref
        images = file.create_dataset(f"Is{ending}", data=references, dtype=h5py.ref_dtype)
        images.attrs["MATLAB_class"] = np.bytes_("cell")
        phis = np.array([[*face.points.T.ravel() + 1, *2 - face.visible.astype(float)] for face in faces])
        # Boxes, too, count from 1.
        boxes = np.array([face.rect + (1, 1, 0, 0) for face in faces])
        for name, table in ((f"phis{ending}", phis), (f"bboxes{ending}", boxes)):
            file.create_dataset(name, data=table.T).attrs["MATLAB_class"] = np.bytes_("double")
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Thu Nov 28 2013 HDF5 schema 1.00 ."
    with path.open("r+b") as raw:
        raw.write(header.ljust(124) + b"\x00\x02IM")
