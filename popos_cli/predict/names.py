"""What the files of each source are called below the folder of outputs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

from .frames import Source
from .sources import OUTPUTS, written_by_predict

LONGEST_STEM = 200  # bytes of the 255 that a file's name may have


def output_names(sources: Sequence[Source], folder: Path | None) -> dict[Source, PurePath]:
    """A path below `folder`, without ending, for each source: that in the folder that was named, or its name.
    One that is taken, by another source or a file of the user's, gets a number behind it."""
    names: dict[Source, PurePath] = {}
    taken: set[str] = set()
    last: Counter[str] = Counter()  # number of each, so that 8,000 pictures of one name need no search
    for source in sources:
        encoded = os.fsencode(source.place.name)
        long = len(encoded) > LONGEST_STEM
        stem = encoded[:LONGEST_STEM].decode("utf-8", "ignore") if long else source.place.name
        place = source.place.with_name(stem)
        name: PurePath | None = None
        while name is None or str(name).lower() in taken or (folder and _is_kept(folder / name, source)):
            last[str(place).lower()] += 1
            number = last[str(place).lower()]
            name = place if number == 1 else place.with_name(f"{stem}-{number}")
        taken.add(str(name).lower())
        names[source] = name
    return names


def _is_kept(path: Path, source: Source) -> bool:
    """Whether there are files of this name that must not be replaced: those that `popos predict` did not
    write, and what it recorded of a camera or stream before."""
    for document, overlay in OUTPUTS:
        files = path.with_name(path.name + document), path.with_name(path.name + overlay)
        if any(file.exists() for file in files) and not (source.is_file and written_by_predict(files[0])):
            return True
    return False
