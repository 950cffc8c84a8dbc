"""Contact sheets: small pictures in rows, each with a caption below it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ..data.pictures import Picture

_CAPTION, _LINE = 18, 13  # pixels of height: of a caption of one line, and of each line more


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
            for line, text in enumerate(ascii_only(caption).split("\n")[:lines]):
                text = text[: size // 7]  # letters are about 7 pixels wide at this scale
                corner = (left + 3, top + size + 13 + line * _LINE)
                cv2.putText(page, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return page


def ascii_only(text: str) -> str:
    """What OpenCV can write: its letters are no others."""
    return text.encode("ascii", "replace").decode()
