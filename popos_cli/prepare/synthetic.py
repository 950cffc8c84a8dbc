"""Drawn faces with exact landmarks: data to try every command on, and for tests to train on.

Frames: `face` as in synthetic_face.py; `image` is the written picture, pixel centres at integers.
"""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats, tight_square
from ..core.schemes import Scheme
from ..data.index import Index
from ..errors import PoposError
from ..home import clear_leftovers, new_folder
from .assemble import build_index
from .labels import Label, LabelledFace
from .synthetic_face import RANGES, Curve, canonical_points, curves_of, landmarks_of, on_face

_MARGIN = 6  # pixels between the landmarks and the border of the picture
_SUPERSAMPLING = 3  # OpenCV's own antialiasing would thicken shapes by 0.7 px and move them by 0.5
_SHIFT = 5  # fractional bits of the coordinates handed to OpenCV


def _view(rng: np.random.Generator, size: tuple[int, int], curves: dict[str, Curve]) -> Floats:
    """The (2, 4) matrix face -> image of a random view, every landmark inside (W, H) = `size`.

    Weak perspective: rotation, width, scale and shift, but nothing shrinks with its distance.
    """
    pitch_yaw_roll = np.deg2rad(rng.uniform(-1, 1, 3) * (8, 25, 20))
    linear = cv2.Rodrigues(pitch_yaw_roll)[0][:2] * (rng.uniform(0.9, 1.1), 1, 1)
    # Jaw and brows surround the landmarks of every scheme: the picture is the same for all.
    t = np.linspace(-1, 1, 33)
    rim = [curves["jaw"](t), curves["left brow top"](abs(t)), curves["right brow top"](abs(t))]
    flat = np.concatenate(rim) @ linear.T
    low, high = flat.min(0), flat.max(0)
    scale = rng.uniform(0.5, 0.8) * min(size) / (high - low).max()
    shift = rng.uniform(_MARGIN - low * scale, np.array(size) - 1 - _MARGIN - high * scale)
    return np.column_stack([linear * scale, shift])


class _Canvas:
    """Filled shapes and lines given in the `face` frame, colours BGR 0..255, widths `face` units."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int], matrix: Floats) -> None:
        """`size` (W, H) of the picture; `matrix` (2, 4), face -> image. Clutter fills the background."""
        width, height = np.array(size) * _SUPERSAMPLING
        self.size = size
        self.pixels = np.empty((height, width, 3), dtype=np.uint8)
        # Canvas coordinates, pixel centres at integers as well.
        self.matrix = matrix * _SUPERSAMPLING
        self.matrix[:, 3] += (_SUPERSAMPLING - 1) / 2
        cv2.rectangle(self.pixels, (0, 0), (width, height), rng.uniform(30, 225, 3).tolist(), -1)
        for _ in range(8):
            radius = rng.uniform(0.05, 0.3) * width
            corners = rng.uniform((0, 0), (width, height)) + rng.uniform(-radius, radius, (4, 2))
            cv2.fillPoly(self.pixels, [corners.astype(np.int32)], rng.uniform(20, 235, 3).tolist())

    def _place(self, points: Floats) -> list[NDArray[np.int32]]:
        return [np.round((points @ self.matrix[:, :3].T + self.matrix[:, 3]) * 2**_SHIFT).astype(np.int32)]

    def fill(self, colour: Floats, *parts: Floats) -> None:
        cv2.fillPoly(self.pixels, self._place(np.concatenate(parts)), colour.tolist(), shift=_SHIFT)

    def line(self, colour: Floats, width: float, points: Floats) -> None:
        thickness = max(1, round(width * float(np.linalg.norm(self.matrix[:, 1]))))
        cv2.polylines(self.pixels, self._place(points), False, colour.tolist(), thickness, shift=_SHIFT)

    def photograph(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: light from one side, defocus, grain."""
        image = cv2.resize(self.pixels, self.size, interpolation=cv2.INTER_AREA)
        x, y = (np.linspace(-1, 1, n, dtype=np.float32) for n in self.size)
        right, down = rng.uniform(-0.3, 0.3, 2).astype(np.float32)
        light = np.float32(rng.uniform(0.8, 1.1)) + right * x + down * y[:, None]
        grain = rng.standard_normal(light.shape, dtype=np.float32) * np.float32(rng.uniform(0, 6))
        if (sigma := rng.uniform(-1, 1)) > 0.2:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
        image = cv2.multiply(image, cv2.merge([light] * 3), dtype=cv2.CV_8U)
        return cv2.add(image, cv2.merge([grain] * 3), dtype=cv2.CV_8U)  # type: ignore[return-value]


_ARC = np.linspace(0, np.pi, 40)
_CIRCLE = np.stack([np.cos(2 * _ARC), np.sin(2 * _ARC), 0 * _ARC], axis=-1)
_HALF, _ACROSS = np.linspace(0, 1, 25), np.linspace(-1, 1, 65)  # parameters fine enough to draw


def _oval(center: Floats | tuple[float, ...], half_x: float, half_y: float) -> Floats:
    return _CIRCLE * (half_x, half_y, 0) + center


def _bgr(*channels: float) -> Floats:
    return np.array(channels, dtype=np.float64)


def _draw_head(
    canvas: _Canvas, rng: np.random.Generator, curves: dict[str, Curve], skin: Floats, hair: Floats
) -> None:
    """Hair, clothes, neck and ears go behind the skin, whose outline is the jaw line."""
    length = rng.choice([0.0, 0.9])
    canvas.fill(hair, _oval((0, -0.25 + length / 2, -0.4), 1.22, 1.15 + length / 2))
    canvas.fill(_bgr(*rng.uniform(20, 235, 3)), _oval((0, 3.1, -0.4), 1.9, 1.3))
    neck = [(-0.5, 0.9, -0.3), (0.5, 0.9, -0.3), (0.55, 2.1, -0.3), (-0.55, 2.1, -0.3)]
    canvas.fill(skin * 0.7, np.array(neck))
    for side in (-1, 1):
        canvas.fill(skin * 0.85, _oval((side * 1.02, 0.2, -0.15), 0.13, 0.24))
    top = on_face(np.cos(_ARC), 0.05 - 1.3 * np.sin(_ARC))
    canvas.fill(skin, curves["jaw"](_ACROSS), top)
    parting, slope = rng.uniform(-0.6, 0.6), rng.uniform(0.0, 0.16)
    top = top[6:-6]
    x = top[::-1, 0]
    canvas.fill(hair, top * (1, 1.06, 1), on_face(x, -0.86 + slope * abs(x - parting) + 0.25 * x**2))


def _draw_nose_and_mouth(canvas: _Canvas, curves: dict[str, Curve], skin: Floats, gape: float) -> None:
    bridge, base = curves["nose bridge"](_HALF), curves["nose base"](_ACROSS)
    canvas.line(skin * 0.8, 0.03, bridge)
    canvas.fill(skin * 0.88, bridge[8:], base[32:])
    canvas.fill(np.minimum(skin * 1.12, 255), bridge[8:], base[32::-1])
    for nostril in base[[16, 48]]:
        canvas.fill(skin * 0.35, _oval(nostril - (0, 0.03, 0), 0.06, 0.03))
    canvas.line(skin * 0.45, 0.025, base)

    lips = {name: curve(_ACROSS) for name, curve in curves.items() if "lip" in name}
    canvas.fill(_bgr(25, 20, 70), lips["inner lip top"], lips["inner lip bottom"][::-1])
    if gape > 0.1:
        teeth = lips["inner lip top"][8:-8]
        canvas.fill(_bgr(225, 235, 235), teeth, teeth[::-1] + np.array([0, 0.06, 0]))
    red = skin * (0.72, 0.55, 0.85)
    canvas.fill(red * 0.9, lips["outer lip top"], lips["inner lip top"][::-1])
    canvas.fill(red, lips["outer lip bottom"], lips["inner lip bottom"][::-1])
    canvas.line(red * 0.5, 0.02, lips["inner lip top"])


def _draw_eye(
    canvas: _Canvas, curves: dict[str, Curve], word: str, iris: Floats, skin: Floats, hair: Floats
) -> None:
    """The eye and brow of one side, "left" or "right"."""
    top, bottom = curves[f"{word} eye top"], curves[f"{word} eye bottom"]
    canvas.fill(_bgr(235, 238, 240), top(_HALF), bottom(_HALF[::-1]))
    outer, inner = top(np.array([0.0, 1.0]))[:, 0]
    for radius, colour in ((0.095, iris), (0.05, iris * 0.15)):
        disc = _oval(curves[f"{word} pupil"](np.zeros(1)), radius, radius)
        t = (disc[:, 0] - outer) / (inner - outer)
        disc[:, 1] = np.clip(disc[:, 1], top(t)[:, 1], bottom(t)[:, 1])  # the lids cover the rest
        canvas.fill(colour, disc)
    canvas.line(skin * 0.7, 0.015, bottom(_HALF))
    canvas.line(skin * 0.25, 0.03, top(_HALF))
    brow = [curves[f"{word} brow top"](_HALF), curves[f"{word} brow bottom"](_HALF[::-1])]
    canvas.fill(np.minimum(hair * 0.8, skin * 0.5), *brow)


def draw_face(seed: int, number: int, scheme: Scheme) -> tuple[NDArray[np.uint8], Floats]:
    """Picture (H, W, 3) uint8 BGR and landmarks (K, 2), image pixels, of one face."""
    rng = np.random.default_rng((seed, number))
    size = (int(rng.integers(256, 321)), int(rng.integers(256, 321)))
    f = {name: float(rng.uniform(*bounds)) for name, bounds in RANGES.items()}
    curves = curves_of(f)
    matrix = _view(rng, size, curves)
    points_image = landmarks_of(curves, scheme) @ matrix[:, :3].T + matrix[:, 3]

    canvas = _Canvas(rng, size, matrix)
    skin = _bgr(50, 75, 115) + rng.uniform() * _bgr(145, 145, 135)
    hair = _bgr(20, 22, 28) + rng.uniform() * _bgr(50, 108, 147)
    iris = _bgr(30, 45, 70) + rng.uniform() * _bgr(140, 85, 10)
    _draw_head(canvas, rng, curves, skin, hair)
    _draw_nose_and_mouth(canvas, curves, skin, f["mouth open"])
    _draw_eye(canvas, curves, "left", iris, skin, hair)
    _draw_eye(canvas, curves, "right", iris, skin, hair)
    return canvas.photograph(rng), points_image


def _write_labels(path: Path, faces: list[LabelledFace]) -> None:
    """The CSV that `prepare-data custom` reads: image, then x and y of each landmark, 0-based pixels."""
    landmarks = len(faces[0].label.points)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", *(f"{axis}{n}" for n in range(landmarks) for axis in "xy")])
        for face in faces:
            rows.writerow([face.label.image.name, *(f"{value:.3f}" for value in face.label.points.ravel())])


def prepare_synthetic(
    root: Path,
    count: int,
    scheme: Scheme,
    seed: int,
    name: str = "synthetic",
    val_fraction: float = 0.2,
) -> Index:
    """Draw `count` faces (at least 2) into `root`/images and describe them; the index is not written.
    labels.csv beside the pictures has the same landmarks, in the form that people's own labels have.

    A face depends on `seed` and its number alone: more faces or another scheme change no picture.
    The last `val_fraction` of them (at least one, never all) are the split "val", the others "train".

    Raises UsageError for a scheme that is not built in, PoposError where the images exist already or
    cannot be written; then no picture is left behind.
    """
    canonical_points(scheme)
    root = root.expanduser().resolve()
    folder = root / "images"
    val = min(max(1, round(count * val_fraction)), count - 1)
    visible = np.full(scheme.landmarks, 2, np.uint8)
    faces = []
    try:
        if folder.exists():
            raise FileExistsError
        clear_leftovers(root, held=False)
        with new_folder(folder) as aside:
            for number in range(count):
                image, points = draw_face(seed, number, scheme)
                data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
                file = f"face_{number:05d}.jpg"
                (aside / file).write_bytes(data.tobytes())
                label = Label(
                    folder / file, points, visible, f"synthetic:{seed}:{number}",
                    split="train" if number < count - val else "val", group=Path(file).stem,
                )  # fmt: skip
                faces.append(LabelledFace(label, (image.shape[1], image.shape[0]), tight_square(points)))
            _write_labels(aside / "labels.csv", faces)
    except FileExistsError:
        hint = "Choose a new folder: pictures are never replaced."
        raise PoposError(f"{folder} exists already", hint) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise PoposError(f"cannot write {folder}: {reason}", "Choose a folder you may write to.") from error
    return build_index(name, scheme, faces, root, importer="synthetic", seed=seed, count=count)
