"""Aligned crops of `popos predict` as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core.schemes import Scheme
from ..data.pictures import save_picture
from ..errors import PoposError
from .aligned import align
from .frames import Source
from .names import output_names
from .pipeline import Result
from .writers import make_folder


class CropFiles:
    """NAME-FACE.png of each face of a picture, NAME/FRAME-FACE.png of a video's, `size` pixels wide; FACE is
    the number in the overlay. No file is ever replaced. Raises PoposError where the folder `crops` cannot be
    made, or has files already.

    folder: where the other outputs go, whose names the crops share.
    """

    def __init__(
        self, crops: Path, size: int, sources: Sequence[Source], folder: Path | None, scheme: Scheme
    ) -> None:
        make_folder(crops)
        if any(crops.iterdir()):
            raise PoposError(f"{crops} has files already", "Choose a new folder with --crops.")
        self.crops, self.size, self.scheme = crops, size, scheme
        self.names = output_names(sources, folder)

    def write(self, result: Result) -> None:
        """Raises PoposError or OSError where that fails."""
        if not result.frame:
            return
        name = self.crops / self.names[result.source]
        for place, face in enumerate(result.faces, start=1):
            number = place if face.id is None else face.id
            path = name.with_name(f"{name.name}-{number}.png")
            if result.source.moving:
                path = name / f"{result.frame.number:06d}-{number}.png"
            if path.exists():  # of another source with such a name
                raise PoposError(f"{path} exists already")
            path.parent.mkdir(parents=True, exist_ok=True)
            save_picture(align(result.frame.image, face.points, self.scheme, self.size)[0], path)

    def close(self) -> None:
        """Each file is complete."""
