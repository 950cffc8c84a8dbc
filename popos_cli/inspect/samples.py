"""A sheet of sample faces as training sees them, landmarks drawn so that a mistake catches the eye.

The colour of a landmark tells its side: COLOURS[0] for the first of a flip pair, COLOURS[1] for the
second, COLOURS[2] for those in no pair. A mirrored crop has the same colours in the same places, unless
the flip pairs are wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..core.geometry import Floats, compose, transform, warp
from ..core.schemes import Scheme
from ..data.index import Index
from ..data.pictures import Picture
from ..evaluate.contact_sheet import ascii_only, contact_sheet
from ..predict.overlay import BOX, SUBPIXEL_BITS, fixed

COLOURS = ((255, 150, 0), (0, 210, 255), (255, 255, 0))
EDGE = (190, 190, 190)
WIDER = 1.5  # the photo's tile shows this many times what the network sees
ZOOM = 6  # of the details
_LEGEND = 24  # pixels of height
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Crop:
    """What the network sees of a face: image (S, S, 3) uint8 RGB; points (K, 2) crop pixels, NaN where
    not labelled; matrix (2, 3) image -> crop; look (6,) in the order of `data.augment.PLAIN`; epoch in
    which training sees it, None for the crop that is not augmented."""

    image: Picture
    points: Floats
    matrix: Floats
    look: Floats
    epoch: int | None = None

    @property
    def mirrored(self) -> bool:
        return bool(np.linalg.det(self.matrix[:, :2]) < 0)


@dataclass(frozen=True)
class Sample:
    """One face, a row of the index, and its crops."""

    face: int
    plain: Crop
    augmented: tuple[Crop, ...]


def spread(faces: int, count: int, seed: int) -> list[int]:
    """Up to `count` of `faces` rows: one drawn from each of as many equal parts."""
    rng = np.random.default_rng(seed)
    return [int(rng.choice(part)) for part in np.array_split(np.arange(faces), min(count, faces))]


def colours(scheme: Scheme) -> list[tuple[int, int, int]]:
    """RGB of each of the K landmarks."""
    side = dict.fromkeys(range(scheme.landmarks), 2)
    for first, second in scheme.flip_pairs:
        side[first], side[second] = 0, 1
    return [COLOURS[side[k]] for k in range(scheme.landmarks)]


def draw_faces(index: Index, samples: Sequence[Sample]) -> Picture:
    """A page of one row a face, RGB: photo, crop, augmented crops, and details of the crop and of a
    mirrored one. Raises PoposError for a photo that cannot be read."""
    rows = [_row(index, sample) for sample in samples]
    page = contact_sheet(rows, lines=2)
    return np.vstack([_legend(f"{index.name}: {len(rows)} of {len(index)} faces", page.shape[1]), page])


def _row(index: Index, sample: Sample) -> list[tuple[Picture, str]]:
    plain, scheme = sample.plain, index.scheme
    row = [
        (_photo(index, sample), _tail(str(index.image[sample.face]))),
        (_drawn(plain, scheme), _tail(str(index.source[sample.face]))),
    ]
    row += [(_drawn(crop, scheme), caption(crop, plain)) for crop in sample.augmented]
    # The first mirrored crop, a sharp one if there is any.
    mirrored = [crop for crop in sample.augmented if crop.mirrored]
    mirrored.sort(key=lambda crop: bool(crop.look[3:].any()))
    shown = [plain, *mirrored[:1]]
    landmark = eye_corner(scheme, [crop.points for crop in shown])
    for crop in shown:
        where = "not augmented" if crop.epoch is None else f"epoch {crop.epoch}, flip"
        row.append((_detail(crop, scheme, landmark), f"landmark {landmark}, x{ZOOM}, {where}"))
    return row


def caption(crop: Crop, plain: Crop) -> str:
    """What was done to an augmented crop: "epoch 3: flip -12 deg x0.93". Degrees are counter-clockwise
    as seen on the tile, after the mirror; the factor is that of the face's size. A second line has the
    look, if it is odd: "grey 40 px blur 1.5 JPEG 40"."""
    linear = crop.matrix[:, :2]
    degrees = np.rad2deg(np.arctan2(linear[0, 1], linear[1, 1]))
    size = np.sqrt(abs(np.linalg.det(linear) / np.linalg.det(plain.matrix[:, :2])))
    parts = [*(["flip"] if crop.mirrored else []), f"{round(degrees):+d} deg", f"x{size:.2f}"]
    saturation, width, sigma, quality = crop.look[2:]
    odd = {
        "grey": saturation == 0, f"{width:.0f} px": width, f"blur {sigma:.2g}": sigma,
        f"JPEG {quality:.0f}": quality,
    }  # fmt: skip
    look = " ".join(text for text, there in odd.items() if there)
    return f"epoch {crop.epoch}: {' '.join(parts)}" + (f"\n{look}" if look else "")


def eye_corner(scheme: Scheme, points: Sequence[Floats]) -> int:
    """The landmark to look at closely: one with a hard corner, labelled in all of `points` (K, 2) if any."""
    eyes = (indices[0] for name, indices in scheme.groups.items() if indices and "eye" in name)
    candidates = [*(scheme.eye_corners or ()), *eyes, *range(scheme.landmarks)]
    labelled = np.asarray(np.isfinite(np.stack(points)).all((0, 2)))
    return int(next((k for k in candidates if labelled[k]), candidates[0]))


def _photo(index: Index, sample: Sample) -> Picture:
    """The stored picture around what the network sees, which is framed; labels straight from the index."""
    size = sample.plain.image.shape[0]
    rest = (size - 1) / 2 * (1 - 1 / WIDER)
    smaller = np.array([[1 / WIDER, 0, rest], [0, 1 / WIDER, rest]])
    matrix = compose(smaller, sample.plain.matrix)
    tile = warp(index.read_rgb(sample.face), matrix, size)
    ends = transform(np.array([[-0.5, -0.5], [size - 0.5, size - 0.5]]), smaller)
    cv2.rectangle(tile, fixed(ends[0]), fixed(ends[1]), BOX, 1, cv2.LINE_AA, SUBPIXEL_BITS)
    labelled = index.visible[sample.face][:, None] > 0
    _draw(tile, np.where(labelled, transform(index.points[sample.face], matrix), np.nan), index.scheme)
    return tile


def _drawn(crop: Crop, scheme: Scheme) -> Picture:
    tile = crop.image.copy()
    _draw(tile, crop.points, scheme)
    return tile


def _detail(crop: Crop, scheme: Scheme, landmark: int) -> Picture:
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
        if number == landmark:
            _cross(tile, point, colour)
        else:
            _dot(tile, point, colour, 2.5)
        x, y = (int(v) for v in np.round(point))
        cv2.putText(tile, str(number), (x + ZOOM + 2, y - ZOOM - 2), _FONT, 0.38, colour, 1, cv2.LINE_AA)
    return tile


def _draw(tile: Picture, points: Floats, scheme: Scheme) -> None:
    """Edges and dots of points (K, 2), tile pixels, in place; NaN is passed by."""
    labelled = np.asarray(np.isfinite(points).all(-1))
    for a, b in scheme.edges:
        if labelled[a] and labelled[b]:
            cv2.line(tile, fixed(points[a]), fixed(points[b]), EDGE, 1, cv2.LINE_AA, SUBPIXEL_BITS)
    for point, colour, there in zip(points, colours(scheme), labelled, strict=True):
        if there:
            _dot(tile, point, colour, 1.75)


def _dot(tile: Picture, point: Floats, colour: tuple[int, int, int], radius: float) -> None:
    size = round(radius * (1 << SUBPIXEL_BITS))
    cv2.circle(tile, fixed(point), size, colour, cv2.FILLED, cv2.LINE_AA, SUBPIXEL_BITS)


def _cross(tile: Picture, point: Floats, colour: tuple[int, int, int]) -> None:
    """Hairs to the tile's borders that leave the pixel below in sight."""
    for way in np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]):
        start, end = point + way * ZOOM, point + way * 2 * tile.shape[0]
        cv2.line(tile, fixed(start), fixed(end), colour, 1, cv2.LINE_AA, SUBPIXEL_BITS)
    _dot(tile, point, colour, 1.0)


def _legend(title: str, width: int) -> Picture:
    """A strip that says which colour is which, and what the page shows."""
    strip: Picture = np.full((_LEGEND, width, 3), 64, np.uint8)
    x = 10
    names = ("first of a flip pair", "second", "in no pair")
    for name, colour in [*zip(names, COLOURS, strict=True), (f"   {title}", None)]:
        if colour:
            _dot(strip, np.array([x, _LEGEND / 2]), colour, 4)
        place = (x + 10, _LEGEND - 8)
        cv2.putText(strip, ascii_only(name), place, _FONT, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
        x += 32 + cv2.getTextSize(name, _FONT, 0.42, 1)[0][0]
    return strip


def _tail(text: str, most: int = 34) -> str:
    """The end of a long path, which tells files apart."""
    return text if len(text) <= most else "..." + text[3 - most :]
