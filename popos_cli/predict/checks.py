"""What does not go together in a prediction, found before any work."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.pictures import max_pixels
from ..errors import UsageError
from ..processes.place import own_place
from .frames import Source, Span


def check_sources(
    sources: Sequence[Source], span: Span, boxes: bool, whole_image: bool, coco: bool = False
) -> None:
    """Raises UsageError for boxes and a part of a video that these sources cannot have, and for a wrong
    POPOS_MAX_PIXELS. boxes: whether some are given; whole_image: each picture is one face. coco: whether a
    COCO file is to be written."""
    max_pixels()
    if boxes and whole_image:
        raise UsageError("--box and --whole-image exclude each other")
    if boxes and len(sources) != 1:
        raise UsageError(f"--box is for one picture, but {len(sources)} were named")
    videos = [source.name for source in sources if source.moving]
    if videos and (boxes or whole_image):
        raise UsageError(f"{'--box' if boxes else '--whole-image'} is for pictures, and {videos[0]} is none")
    if videos and coco:
        raise UsageError(
            f"--coco is for pictures, and {videos[0]} is none",
            "Save its frames as pictures first: ffmpeg -i IN frames/%06d.png",
        )
    if not videos and span != Span():
        raise UsageError("--every, --start and --end are for videos, and none was named")


def check_processes(gpus: int, parts: bool, others: bool, one_place: bool) -> None:
    """Raises UsageError where several processes, or JSON lines in parts, cannot do what is asked for.

    gpus: processes to start. others: whether there are outputs beside the parts. one_place: whether a device
    is named, or where the faces are.
    """
    if (gpus or own_place().size > 1) and not parts:
        raise UsageError("several processes need a folder for what they find", "Add --parts DIR.")
    if parts and others:
        hint = "Leave out --out, --csv, --coco, --crops, --show."
        raise UsageError("--parts goes with no other output", hint)
    if gpus and one_place:
        raise UsageError("--gpus does not go with --box, --whole-image or --device")
