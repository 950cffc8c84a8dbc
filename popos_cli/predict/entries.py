"""A result as JSON: the contract that docs/how-to/predict.md describes."""

from __future__ import annotations

from typing import Any

from .aligned import alignment
from .pipeline import Result


def entry(result: Result) -> dict[str, Any]:
    """What the JSON document has of a picture."""
    frame = result.frame
    plain: dict[str, Any] = {
        "source": as_unicode(result.source.name),
        "frame": frame.number if frame else result.number,
    }
    if frame:
        height, width = frame.image.shape[:2]
        plain |= {"width": width, "height": height}
    plain["faces"] = [face.to_dict() for face in result.faces]
    if result.crop_size:
        for face, own in zip(result.faces, plain["faces"], strict=True):
            own["matrix"] = alignment(face.points, result.faces.scheme, result.crop_size).tolist()
    if result.error:
        plain["error"] = as_unicode(result.error)
    return plain


def line(result: Result, head: dict[str, Any]) -> dict[str, Any]:
    """What JSON lines have of a frame: its entry, its time in seconds (null for a picture), and which weights
    and scheme it comes from."""
    plain = entry(result)
    return {
        "source": plain.pop("source"),
        "frame": plain.pop("frame"),
        "time": result.frame.time if result.frame else None,
        **plain,
        "weights": head["weights"],
        "scheme": head["scheme"],
    }


def as_unicode(text: str) -> str:
    """`text` as every reader of JSON takes it: bytes of a file's name that are no UTF-8 become \\udcNN."""
    return text.encode("utf-8", "backslashreplace").decode()
