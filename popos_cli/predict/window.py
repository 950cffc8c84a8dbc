"""Results in a window, as they are found."""

from __future__ import annotations

import subprocess
import sys

import cv2

from ..core.schemes import Scheme
from ..errors import PoposError
from .overlay import draw_faces
from .pipeline import Result

TITLE = "popos (q: quit)"
QUIT = (ord("q"), 27)  # 27: Esc


class Closed(Exception):
    """The user has closed the window."""


class Window:
    """Frames of videos as they come; a picture until a key is pressed. Raises PoposError where there is no
    display."""

    def __init__(self, scheme: Scheme, uncertainty: bool = False) -> None:
        # Without a display some of OpenCV's libraries end the process: another one tries it.
        trial = subprocess.run(
            [sys.executable, "-c", f"import cv2; cv2.namedWindow({TITLE!r})"], capture_output=True
        )
        if trial.returncode:
            raise PoposError(
                "--show: OpenCV can open no window here",
                "It needs a display, and opencv-python instead of opencv-python-headless. "
                "--out writes pictures and videos instead.",
            )
        self.scheme, self.uncertainty = scheme, uncertainty
        cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL)

    def write(self, result: Result) -> None:
        """Show it. Raises Closed."""
        if not result.frame:
            return
        drawn = draw_faces(result.frame.image, result.faces, self.scheme.edges, self.uncertainty)
        cv2.imshow(TITLE, cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1)
        while not result.source.moving and key < 0 and self._is_open():
            key = cv2.waitKey(50)
        if key in QUIT or not self._is_open():
            raise Closed

    def _is_open(self) -> bool:
        return cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        cv2.destroyAllWindows()
