"""Drawn faces, as the trees of the benchmarks need them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from popos_cli.core.geometry import tight_square
from popos_cli.core.schemes import Scheme
from popos_cli.prepare.labels import Label
from popos_cli.prepare.synthetic import draw_face


@dataclass(frozen=True)
class TruthFace:
    """One face as every kind of source must give it.

    image: its name below the folder of the pictures, as converted labels spell it. picture (H, W, 3)
    uint8 BGR, as stored. points (K, 2), 0-based, NaN where not labelled; visible (K,) 0, 1 or 2. square:
    centre and side of the crop before padding where the benchmark gives a box. rect: x, y, w, h.
    """

    image: str
    picture: np.ndarray
    points: np.ndarray
    visible: np.ndarray
    split: str
    subsets: tuple[str, ...] = ()
    square: tuple[np.ndarray, float] | None = None
    rect: np.ndarray | None = None


def draw(scheme: Scheme, count: int, seed: int = 0, decimals: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` faces: picture (H, W, 3) uint8 BGR, and points (K, 2), 0-based, rounded as files have them."""
    faces = [draw_face(seed, number, scheme) for number in range(count)]
    return [(picture, np.round(points, decimals)) for picture, points in faces]


def jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()


def encode(name: str, picture: np.ndarray) -> bytes:
    return (png if name.lower().endswith("png") else jpeg)(picture)


def without_colour(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) still."""
    return cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)


def jpeg_grey(picture: np.ndarray) -> bytes:
    """A JPEG of one channel."""
    return jpeg(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))


def turned(data: bytes) -> bytes:
    """The same JPEG with an EXIF orientation that turns it by a quarter in viewers."""
    exif = Image.Exif()
    exif[0x0112] = 6
    written = io.BytesIO()
    Image.open(io.BytesIO(data)).save(written, "jpeg", quality="keep", exif=exif)
    return written.getvalue()


def cut_left(picture: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture without its left part, so that the border cuts the face; and the points in it."""
    cut = int(points[:, 0].min()) + 9
    return np.ascontiguousarray(picture[:, cut:]), np.round(points - (cut, 0), 6)


def beside(pictures: list[np.ndarray]) -> np.ndarray:
    """One picture of several in a row, as high as the highest."""
    height = max(picture.shape[0] for picture in pictures)
    border = cv2.BORDER_REPLICATE
    return np.hstack([cv2.copyMakeBorder(p, 0, height - p.shape[0], 0, 0, border) for p in pictures])


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def write_archives(
    folder: Path, files: Mapping[str, bytes], archives: Mapping[str, str], bare: Collection[str] = ()
) -> None:
    """Files as archives (name: the folder that is packed) and, what is in none, as they are. bare: archives
    without the folder around its files."""
    rest = dict(files)
    folder.mkdir(parents=True, exist_ok=True)
    for archive, top in archives.items():
        own = {name: rest.pop(name) for name in files if name.startswith(f"{top}/")}
        if archive in bare:
            own = {name.removeprefix(f"{top}/"): data for name, data in own.items()}
        if archive.endswith(".zip"):
            with zipfile.ZipFile(folder / archive, "w") as packed:
                for name, data in own.items():
                    packed.writestr(name, data)
        else:
            with tarfile.open(folder / archive, "w:gz") as packed:
                for name, data in own.items():
                    entry = tarfile.TarInfo(name)
                    entry.size = len(data)
                    packed.addfile(entry, io.BytesIO(data))
    write_files(folder, rest)


def assert_faces(faces: Sequence[Label], truth: Sequence[TruthFace], *, visible: bool = True) -> None:
    """That labels are the truth, in whatever order, and that their pictures are named so; a label without a
    square has the tight one. visible: whether this kind of source has the visibility."""
    assert len(faces) == len(truth)

    def order(face: Label | TruthFace) -> list[float]:
        return face.points.ravel().round(3).tolist()

    for face, true in zip(sorted(faces, key=order), sorted(truth, key=order), strict=True):
        np.testing.assert_allclose(face.points, true.points, atol=1e-6, rtol=0)
        assert face.points.dtype == np.float64
        assert (face.split, face.subsets) == (true.split, true.subsets)
        assert face.image.stem.replace(" ", "").lower() == Path(true.image).stem.lower()
        if visible:
            np.testing.assert_array_equal(face.visible, true.visible)
        if face.rect is not None:
            np.testing.assert_allclose(face.rect, true.rect, atol=1e-6, rtol=0)
        center, side = face.square or tight_square(face.points)
        true_center, true_side = true.square or tight_square(true.points)
        np.testing.assert_allclose(center, true_center, atol=1e-6, rtol=0)
        assert abs(side - true_side) < 1e-6
