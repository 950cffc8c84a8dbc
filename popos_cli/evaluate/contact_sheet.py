"""Contact sheets: small pictures in rows, each with a caption below it, and a legend above all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from ..data.pictures import Picture
from ..predict.overlay import draw_dot

_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.4
_CAPTION, _LINE = 18, 13  # pixels of height: of a caption of one line, and of each line more
_LEGEND = 24  # pixels of height

Color = tuple[int, int, int]


def contact_sheet(rows: Sequence[Sequence[tuple[Picture, str]]], lines: int = 1) -> Picture:
    """RGB tiles (S, S, 3) of one size with their captions, of at most `lines` lines; shorter rows end in
    white."""
    size = rows[0][0][0].shape[0]
    columns = max(len(row) for row in rows)
    height = size + _CAPTION + (lines - 1) * _LINE
    page = np.full((len(rows) * height, columns * size, 3), 255, np.uint8)
    for n, row in enumerate(rows):
        for m, (picture, caption) in enumerate(row):
            top, left = n * height, m * size
            page[top : top + size, left : left + size] = picture
            for line, text in enumerate(caption.split("\n")[:lines]):
                text = text[: size // 7]  # letters are about 7 pixels wide at this scale
                put_text(page, text, (left + 3, top + size + 13 + line * _LINE), (0, 0, 0))
    return page


def color_legend(colors: Mapping[str, Color], title: str, width: int) -> Picture:
    """An RGB strip (24, width, 3) that names colours, and says what the page shows."""
    strip: Picture = np.full((_LEGEND, width, 3), 64, np.uint8)
    x = 10
    for name, color in colors.items():
        draw_dot(strip, np.array([x, _LEGEND / 2]), 4, color)
        put_text(strip, name, (x + 10, _LEGEND - 8))
        x += 32 + cv2.getTextSize(name, _FONT, _SCALE, 1)[0][0]
    put_text(strip, title, (x + 16, _LEGEND - 8))
    return strip


def put_text(image: Picture, text: str, corner: tuple[int, int], color: Color = (255, 255, 255)) -> None:
    """Write on RGB `image` in place, the lower left corner given; OpenCV's letters are ASCII alone."""
    ascii_text = text.encode("ascii", "replace").decode()
    cv2.putText(image, ascii_text, corner, _FONT, _SCALE, color, 1, cv2.LINE_AA)
