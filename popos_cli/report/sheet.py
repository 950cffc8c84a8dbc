"""Contact sheets: small pictures in rows, each with a line of text below it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.home import replacing

Picture = NDArray[np.uint8]
_LONGEST_JPEG = 65_500
_CAPTION, _LINE = 18, 13  # pixels of height: of a caption of one line, and of each line more


def sheet(rows: Sequence[Sequence[tuple[Picture, str]]], lines: int = 1) -> Picture:
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


def save_picture(picture: Picture, path: Path) -> None:
    """Write RGB (H, W, 3) uint8 in the format of the path's ending, whole or not at all. A JPEG whose longer
    side would be above 65,500 pixels, which it cannot have, is made that small."""
    if path.suffix == ".jpg" and max(picture.shape) > _LONGEST_JPEG:
        scale = _LONGEST_JPEG / max(picture.shape)
        width, height = (max(int(side * scale), 1) for side in picture.shape[1::-1])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    done, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done, path
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())
