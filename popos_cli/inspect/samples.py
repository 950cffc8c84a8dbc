"""A contact sheet of sample faces as training sees them, drawn so that a wrong label catches the eye.

The colour of a landmark shows its side: COLOURS[0] for the first of a flip pair, COLOURS[1] for the
second, COLOURS[2] for those in no pair. A mirrored crop has the same colours in the same places, unless
the flip pairs are wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ..core.geometry import Floats, compose, transform, warp
from ..core.schemes import Scheme
from ..data.dataset import FaceDataset
from ..data.index import Index
from ..data.pictures import Picture
from ..evaluate.contact_sheet import color_legend, contact_sheet, put_text
from ..predict.overlay import BOX, SUBPIXEL_BITS, draw_dot, fixed

COLOURS = ((255, 150, 0), (0, 210, 255), (255, 255, 0))
EDGE = (190, 190, 190)
AUGMENTED = 4  # augmented crops of each face
SEARCHED = 64  # epochs in which a mirrored crop is looked for
WIDER = 1.5  # the photo's tile shows this many times what the network sees
ZOOM = 6  # magnification of the details


@dataclass(frozen=True)
class TrainingCrop:
    """What the network sees of a face: image (S, S, 3) uint8 RGB; points (K, 2) crop pixels, NaN where
    not labelled; matrix (2, 3) image -> crop; photometric (6,) in the order of `data.augment.PLAIN`; epoch
    in which training sees it, None for the crop that is not augmented."""

    image: Picture
    points: Floats
    matrix: Floats
    photometric: Floats
    epoch: int | None = None

    @property
    def mirrored(self) -> bool:
        return bool(np.linalg.det(self.matrix[:, :2]) < 0)


@dataclass(frozen=True)
class Sample:
    """One face, a row of the index, and its crops."""

    face: int
    plain: TrainingCrop
    augmented: tuple[TrainingCrop, ...]


def spread(faces: int, count: int, seed: int) -> list[int]:
    """Up to `count` of `faces` rows: one drawn from each of as many equal parts."""
    rng = np.random.default_rng(seed)
    return [int(rng.choice(part)) for part in np.array_split(np.arange(faces), min(count, faces))]


def make_sample(face: int, plain: FaceDataset, augmented: FaceDataset) -> Sample:
    """Row `face` of both, which are of one index, augmented as in the first epochs (counted from 0). If none
    of these crops is mirrored, the last one is replaced by the first mirrored crop of the first SEARCHED
    epochs, if there is one."""
    crops = [_crop(augmented[epoch, face], epoch) for epoch in range(AUGMENTED)]
    mirrors = augmented.augment is not None and augmented.augment.flip > 0
    if mirrors and not any(crop.mirrored for crop in crops):
        later = (_crop(augmented[epoch, face], epoch) for epoch in range(AUGMENTED, SEARCHED))
        crops[-1] = next((crop for crop in later if crop.mirrored), crops[-1])
    return Sample(face, _crop(plain[face], None), tuple(crops))


def _crop(sample: dict[str, Any], epoch: int | None) -> TrainingCrop:
    return TrainingCrop(
        image=sample["image"].permute(1, 2, 0).numpy().copy(),
        points=sample["points"].double().numpy(),
        matrix=sample["matrix"].numpy(),
        photometric=sample["photometric"].numpy(),
        epoch=epoch,
    )


def colours(scheme: Scheme) -> list[tuple[int, int, int]]:
    """RGB of each of the K landmarks."""
    chosen = [COLOURS[2]] * scheme.landmarks
    for first, second in scheme.flip_pairs:
        chosen[first], chosen[second] = COLOURS[:2]
    return chosen


def draw_faces(index: Index, samples: Sequence[Sample]) -> Picture:
    """A page with one row per face, RGB: photo, crop, augmented crops, and details of the crop and of a
    mirrored one. Raises PoposError for a photo that cannot be read."""
    page = contact_sheet([_row(index, sample) for sample in samples], lines=2)
    names = ("first of a flip pair", "second", "in no pair")
    title = f"{index.name}: {len(samples)} of {len(index)} faces"
    return np.vstack([color_legend(dict(zip(names, COLOURS, strict=True)), title, page.shape[1]), page])


def _row(index: Index, sample: Sample) -> list[tuple[Picture, str]]:
    """The tiles of one face, with their captions."""
    plain, scheme = sample.plain, index.scheme
    row = [
        (_photo(index, sample), _ending(str(index.image[sample.face]))),
        (_drawn(plain, scheme), _ending(str(index.source[sample.face]))),
    ]
    row += [(_drawn(crop, scheme), caption(crop, plain)) for crop in sample.augmented]
    mirrored = [crop for crop in sample.augmented if crop.mirrored]
    mirrored.sort(key=lambda crop: bool(crop.photometric[3:].any()))  # the first one, if possible a sharp one
    detailed = [plain, *mirrored[:1]]
    landmark = eye_corner(scheme, [crop.points for crop in detailed])
    for crop in detailed:
        which = "not augmented" if crop.epoch is None else f"epoch {crop.epoch}, flip"
        row.append((_detail(crop, scheme, landmark), f"landmark {landmark}, x{ZOOM}, {which}"))
    return row


def caption(crop: TrainingCrop, plain: TrainingCrop) -> str:
    """What was done to an augmented crop: "epoch 3: flip -12 deg x0.93". Degrees are counter-clockwise
    as seen on the tile, after the mirror; the factor is that of the face's size. A second line has the
    photometric changes that are rare: "grey 40 px blur 1.5 JPEG 40"."""
    linear = crop.matrix[:, :2]
    degrees = np.rad2deg(np.arctan2(linear[0, 1], linear[1, 1]))
    size = np.sqrt(abs(np.linalg.det(linear) / np.linalg.det(plain.matrix[:, :2])))
    parts = [*(["flip"] if crop.mirrored else []), f"{round(degrees):+d} deg", f"x{size:.2f}"]
    saturation, width, sigma, quality = crop.photometric[2:]
    changes = {
        "grey": saturation == 0, f"{width:.0f} px": width, f"blur {sigma:.2g}": sigma,
        f"JPEG {quality:.0f}": quality,
    }  # fmt: skip
    second = " ".join(text for text, present in changes.items() if present)
    return f"epoch {crop.epoch}: {' '.join(parts)}" + (f"\n{second}" if second else "")


def eye_corner(scheme: Scheme, points: Sequence[Floats]) -> int:
    """The landmark for the details: one with a hard corner, labelled in all of `points` (K, 2) if any is."""
    eyes = (indices[0] for name, indices in scheme.groups.items() if "eye" in name)
    candidates = [*(scheme.eye_corners or ()), *eyes, *range(scheme.landmarks)]
    labelled = np.asarray(np.isfinite(np.stack(points)).all((0, 2)))
    return int(next((k for k in candidates if labelled[k]), candidates[0]))


def _photo(index: Index, sample: Sample) -> Picture:
    """The source picture around the crop, with the crop framed, and the labels straight from the index."""
    size = sample.plain.image.shape[0]
    margin = (size - 1) / 2 * (1 - 1 / WIDER)
    smaller = np.array([[1 / WIDER, 0, margin], [0, 1 / WIDER, margin]])
    matrix = compose(smaller, sample.plain.matrix)
    tile = warp(index.read_rgb(sample.face), matrix, size)
    ends = transform(np.array([[-0.5, -0.5], [size - 0.5, size - 0.5]]), smaller)
    cv2.rectangle(tile, fixed(ends[0]), fixed(ends[1]), BOX, 1, cv2.LINE_AA, SUBPIXEL_BITS)
    labelled = index.visible[sample.face][:, None] > 0
    _draw(tile, np.where(labelled, transform(index.points[sample.face], matrix), np.nan), index.scheme)
    return tile


def _drawn(crop: TrainingCrop, scheme: Scheme) -> Picture:
    tile = crop.image.copy()
    _draw(tile, crop.points, scheme)
    return tile


def _draw(tile: Picture, points: Floats, scheme: Scheme) -> None:
    """Edges and dots of points (K, 2), tile pixels, in place; those that are NaN are left out."""
    labelled = np.asarray(np.isfinite(points).all(-1))
    for a, b in scheme.edges:
        if labelled[a] and labelled[b]:
            cv2.line(tile, fixed(points[a]), fixed(points[b]), EDGE, 1, cv2.LINE_AA, SUBPIXEL_BITS)
    for point, colour, there in zip(points, colours(scheme), labelled, strict=True):
        if there:
            draw_dot(tile, point, 1.75, colour)


def _detail(crop: TrainingCrop, scheme: Scheme, landmark: int) -> Picture:
    """Pixels around a landmark, each a square of ZOOM; a cross at its sub-pixel place, the others dots
    with their numbers. White where it is not labelled."""
    size = crop.image.shape[0]
    if not np.isfinite(crop.points[landmark]).all():
        return np.full((size, size, 3), 255, np.uint8)
    corner = np.round(crop.points[landmark]) - size // ZOOM // 2
    # Pixel centres: x_tile = (x_crop - corner + .5) * ZOOM - .5
    offset = (0.5 - corner) * ZOOM - 0.5
    matrix = np.array([[ZOOM, 0, offset[0]], [0, ZOOM, offset[1]]])
    tile: Picture = cv2.warpAffine(crop.image, matrix, (size, size), flags=cv2.INTER_NEAREST)  # type: ignore[assignment]
    points = transform(crop.points, matrix)
    for number, (point, colour) in enumerate(zip(points, colours(scheme), strict=True)):
        if not ((point > -ZOOM) & (point < size + ZOOM)).all():
            continue
        draw_dot(tile, point, 1.0 if number == landmark else 2.5, colour)
        if number == landmark:
            for direction in np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]):  # the pixel itself stays visible
                start, end = fixed(point + direction * ZOOM), fixed(point + direction * 2 * size)
                cv2.line(tile, start, end, colour, 1, cv2.LINE_AA, SUBPIXEL_BITS)
        x, y = (int(v) for v in np.round(point))
        put_text(tile, str(number), (x + ZOOM + 2, y - ZOOM - 2), colour)
    return tile


def _ending(path: str, most: int = 34) -> str:
    """The end of a long path, which tells files apart."""
    return path if len(path) <= most else "..." + path[3 - most :]
