"""What a user names to `popos predict`, as a list of pictures, videos, cameras and streams."""

from __future__ import annotations

import glob
import json
import os
import re
from pathlib import Path, PurePath
from urllib.parse import urlsplit

from ..data.formats import VIDEO, foreign
from ..data.pictures import SUFFIXES, UNREADABLE, VIDEO_SUFFIXES, images_in, read_head
from ..errors import PoposError, UsageError
from .frames import PictureFile, Source, Span, Video

# What `popos predict` writes of a picture NAME: NAME.json and NAME_landmarks.jpg. And of a video.
PICTURE_OUTPUT = (".json", "_landmarks.jpg")
VIDEO_OUTPUT = (".jsonl", "_landmarks.mp4")
OUTPUTS = (PICTURE_OUTPUT, VIDEO_OUTPUT)
STREAMS = frozenset({"rtsp", "rtsps", "rtmp", "http", "https", "udp"})  # schemes that FFmpeg reads


def written_by_predict(document: Path) -> bool:
    """Whether this file is a JSON document, or JSON lines, of `popos predict`."""
    try:
        with document.open("rb") as file:
            content = json.loads(file.read() if document.suffix == ".json" else file.readline())
    except (OSError, ValueError, RecursionError):
        return False
    own = {"images", "source"} & content.keys() if isinstance(content, dict) else None
    return bool(own) and {"weights", "scheme"} <= content.keys()


def is_overlay(path: Path) -> bool:
    """Whether `popos predict` drew this picture or video: the JSON that it wrote lies beside it."""
    for document, overlay in OUTPUTS:
        stem = path.name.removesuffix(overlay)
        if stem != path.name and written_by_predict(path.with_name(stem + document)):
            return True
    return False


def expand(sources: list[str], span: Span | None = None) -> list[Source]:
    """What the user named: pictures and videos, folders of them (searched below), globs, the numbers of
    cameras, and the addresses of streams. span: which frames of videos.

    A named file is kept even if it does not exist or is no picture: reading it will say so. The overlays of
    `popos predict` are left out in folders and globs, and also where their picture is named beside them, as
    when a shell expands *.jpg. Raises UsageError for an empty name, an address that is not a video's, and a
    folder or a pattern with no picture.
    """
    found: dict[str, Source] = {}
    named = {os.path.splitext(source)[0] for source in sources}
    for source in sources:
        for one in _expanded(source, named, span or Span()):
            found.setdefault(one.name, one)
    return list(found.values())


def _expanded(source: str, named: set[str], span: Span) -> list[Source]:
    if not source:
        raise UsageError("a source has an empty name", "The current folder is called '.'")
    if "://" in source:
        return [_stream(source, span)]
    path = Path(source)
    camera = re.fullmatch(r"(?:/dev/video)?(\d{1,3})", source)
    if camera and (source.startswith("/") or not os.path.lexists(path)):
        return [Video(source, int(camera[1]), PurePath(f"camera-{camera[1]}"), span)]
    if os.path.isdir(path):
        below = [p for p in images_in(path, SUFFIXES | UNREADABLE | VIDEO_SUFFIXES) if not is_overlay(p)]
        if not below:
            raise UsageError(
                f"{source}: no picture or video below this folder",
                "Known endings: " + " ".join(sorted(SUFFIXES | VIDEO_SUFFIXES)),
            )
        return [_file(p, p.relative_to(path), span) for p in below]
    if glob.has_magic(source) and not os.path.lexists(path):
        matches = map(Path, sorted(glob.glob(source, recursive=True)))
        files = [p for p in matches if not os.path.isdir(p) and not is_overlay(p)]
        if not files:
            raise UsageError(f"{source}: the pattern matches no file")
        return [_file(p, PurePath(p.name), span) for p in files]
    for _, overlay in OUTPUTS:
        stem = source.removesuffix(overlay)  # of NAME, or NAME-2
        if {stem, re.sub(r"-\d+$", "", stem)} & named and is_overlay(path):
            return []
    return [_file(path, PurePath(path.name), span)]


def _file(path: Path, below: PurePath, span: Span) -> Source:
    """below: the path in the folder that was named."""
    place = below.with_suffix("") if below.suffix else PurePath(below.name or path.name)
    return Video(str(path), path, place, span) if _is_video(path) else PictureFile(path, place)


def _is_video(path: Path) -> bool:
    """By its ending; where that is unknown, by its content."""
    ending = path.suffix.lower()
    if ending in VIDEO_SUFFIXES or ending in SUFFIXES | UNREADABLE:
        return ending in VIDEO_SUFFIXES
    try:
        return foreign(read_head(path)) == VIDEO
    except PoposError:
        return False


def _stream(address: str, span: Span) -> Video:
    """Its name has no password: names are printed and stand in results."""
    parts = urlsplit(address)
    if parts.scheme.lower() not in STREAMS or PurePath(parts.path).suffix.lower() in SUFFIXES | UNREADABLE:
        raise UsageError(f"{address}: an address, not a file", "Download the picture and name its file.")
    name = address.replace(f":{parts.password}@", ":***@", 1) if parts.password else address
    where = f"{parts.hostname}{parts.path}"
    return Video(name, address, PurePath(re.sub(r"[^\w.-]+", "_", where).strip("_")), span)
