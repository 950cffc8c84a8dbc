"""What a user names to `popos predict`, as a list of pictures."""

from __future__ import annotations

import glob
import json
import os
import re
from pathlib import Path

from ..data.pictures import SUFFIXES, UNREADABLE, images_in
from ..errors import UsageError

OVERLAY = "_landmarks.jpg"  # `popos predict` draws NAME_landmarks.jpg beside NAME.json


def written_by_predict(document: Path) -> bool:
    """Whether this file is a JSON document of `popos predict`."""
    try:
        content = json.loads(document.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"images", "weights", "scheme"} <= content.keys()


def is_overlay(path: Path) -> bool:
    """Whether `popos predict` drew this picture: the JSON that it wrote lies beside it."""
    stem = path.name.removesuffix(OVERLAY)
    return stem != path.name and written_by_predict(path.with_name(f"{stem}.json"))


def expand(sources: list[str]) -> list[Path]:
    """What the user named, as files: an image, a folder (searched below) or a glob.

    A named file is kept even if it does not exist or is no picture: reading it will say so. The overlays of
    `popos predict` are left out in folders and globs, and also where their picture is named beside them, as
    when a shell expands *.jpg. Raises UsageError for an empty name, a web address, and a folder or a pattern
    with no picture.
    """
    paths: list[Path] = []
    named = {os.path.splitext(source)[0] for source in sources}
    for source in sources:
        if not source:
            raise UsageError("a source has an empty name", "The current folder is called '.'")
        if "://" in source:
            raise UsageError(f"{source}: an address, not a file", "Download the picture and name its file.")
        path = Path(source)
        if os.path.isdir(path):
            found = [p for p in images_in(path, SUFFIXES | UNREADABLE) if not is_overlay(p)]
            if not found:
                raise UsageError(
                    f"{source}: no picture below this folder", "Known endings: " + " ".join(sorted(SUFFIXES))
                )
        elif glob.has_magic(source) and not os.path.lexists(path):
            matches = map(Path, sorted(glob.glob(source, recursive=True)))
            found = [p for p in matches if not os.path.isdir(p) and not is_overlay(p)]
            if not found:
                raise UsageError(f"{source}: the pattern matches no file")
        else:
            stem = source.removesuffix(OVERLAY)  # of NAME, or NAME-2
            beside_its_picture = bool({stem, re.sub(r"-\d+$", "", stem)} & named) and is_overlay(path)
            found = [] if beside_its_picture else [path]
        paths += found
    return list(dict.fromkeys(paths))
