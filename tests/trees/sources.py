"""Every benchmark in every form that it is found in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import aflw, coco, cofw, w300, wflw
from .common import TruthFace
from .converted import encoded, write_hrnet, write_mmpose

SOURCES = [
    *((name, kind) for name in ("300w", "wflw", "aflw") for kind in ("raw", "archives", "mmpose", "hrnet")),
    *(("cofw", kind) for kind in ("raw", "archives", "mmpose")),
    *(("coco-face", kind) for kind in ("raw", "archives")),
]  # fmt: skip


def build(name: str, kind: str, folder: Path) -> Sequence[TruthFace]:
    """Write a benchmark into a folder as "raw" (the download, unpacked), "archives", "mmpose" or "hrnet";
    returns its faces."""
    if kind in ("raw", "archives"):
        builders = {
            "300w": w300.build_w300, "wflw": wflw.build_wflw, "cofw": cofw.build_cofw,
            "aflw": aflw.build_aflw, "coco-face": coco.build_coco,
        }  # fmt: skip
        return builders[name](folder, archives=kind == "archives")
    truth, files = {
        "300w": (w300.w300_truth, w300.pictures),
        "wflw": (wflw.wflw_truth, wflw.pictures),
        "cofw": (cofw.cofw_truth, encoded),
        "aflw": (lambda: aflw.aflw_truth()[0], aflw.photos),
    }[name]
    faces = truth()
    (write_mmpose if kind == "mmpose" else write_hrnet)(folder, name, faces, files(faces))
    return faces
