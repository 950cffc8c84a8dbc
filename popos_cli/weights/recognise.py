"""Files that are no weights of ours: what they are instead, for refusals that help."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection
from pathlib import Path

from ..errors import PoposError

AGAIN = "Copy or download it again."


def refuse_file(path: Path, reason: Exception) -> PoposError:
    """Why a file that safetensors could not open (for `reason`) is no weight file."""
    told = _kind(path)
    if told is None:
        return PoposError(f"{path}: not a readable safetensors file: {reason}", AGAIN)
    return PoposError(f"{path}: {told[0]}", told[1])


def refuse_tensors(path: Path, names: Collection[str]) -> PoposError:
    """Why a safetensors file with tensors of these names, but without our metadata, is no weight file."""
    if is_backbone(names):
        return PoposError(
            f"{path}: an HRNet backbone (as trained on ImageNet), but landmarks need a face model",
            f"It is where training starts: popos train --weights {path}",
        )
    return PoposError(
        f"{path}: a safetensors file, but not popos weights (no 'popos' metadata)",
        "Name one that popos wrote: popos train, or popos import-weights for a .pth file of mmpose.",
    )


def is_backbone(names: Collection[str]) -> bool:
    """Whether these are HRNet's tensors without a prefix, as ImageNet weights have them."""
    return {"conv1.weight", "stage2.0.branches.0.0.conv1.weight"} <= set(names)


def _kind(path: Path) -> tuple[str, str] | None:
    """What a file is by its first bytes, and a hint; None: nothing that we know."""
    if path.is_dir():
        return "a folder", "Name a run's folder or a .safetensors file."
    if not path.is_file():
        return "not a file", "Name a run's folder or a .safetensors file."
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return None
    if not head:
        return "the file is empty", AGAIN
    if head.startswith(b"PK\x03\x04") and not _of_torch(path):
        return "a ZIP archive, not weights", "Unpack it, and name the file in it."
    if head.startswith(b"PK\x03\x04") or re.match(rb"\x80[\x02-\x05]", head):
        return "a checkpoint of PyTorch, not popos weights", f"Convert it: popos import-weights {path}"
    if head.startswith(b"version https://git-lfs"):
        return (
            "a Git LFS pointer: the name of the file, not its content",
            "Fetch the content with git lfs pull, or download the file from its page.",
        )
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        return "a web page, not weights: its download was answered with a message", AGAIN
    if re.match(rb'\s*(\{\s*["}]|\[)', head):
        return "JSON, not weights: its download may have been answered with a message", AGAIN
    # Protocol buffers have no signature: ONNX begins with its version, then its producer's name.
    if re.match(rb"\x08[\x01-\x20]\x12", head) or path.suffix.lower() == ".onnx":
        return (
            "an ONNX model, but landmarks need a face model of popos",
            "Name a .safetensors file; a detector's goes with --detector yunet.",
        )
    return None


def _of_torch(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return True  # torn: only a checkpoint's reader can say more
