"""What a file that cannot be read is instead, by its first bytes, for refusals that help."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from ..errors import PoposError

NOT_OURS = "popos export writes one of popos weights; a detector's goes with --detector yunet."
AGAIN = "Copy or download it again."
# A regular expression for the first bytes, what such a file is, and what to do.
KINDS = (
    (rb"\Z", "the file is empty", AGAIN),
    (rb'.{8}\{"', "a safetensors file, not a checkpoint", "Weights of popos need no import."),
    (rb"PK\x03\x04|\x80[\x02-\x05]", "a checkpoint of PyTorch, not popos weights",
     "Convert it: popos import-weights {path}"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself", "Fetch it with git lfs pull."),
    (rb"\s*<", "a web page, not weights", AGAIN),
    # ONNX has no signature: its version stands first, then its producer's name.
    (rb"\x08[\x01-\x20]\x12", "an ONNX model, not weights of popos", NOT_OURS),
)  # fmt: skip


def refuse_file(path: Path, wanted: str, reason: object) -> PoposError:
    """Why `path` cannot be read as a "safetensors file" or "PyTorch checkpoint"; reason: its reader's."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "not a file" if path.exists() else "no such file"
        return PoposError(f"{path}: {what}", "Name a weight file, or the folder of a run.")
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        return PoposError(f"{path}: cannot be read: {error.strerror or error}")
    if start.startswith(b"PK\x03\x04") and zipfile.is_zipfile(path):
        names = zipfile.ZipFile(path).namelist()
        if not any(name.endswith("data.pkl") for name in names):
            hint = f"Unpack it, and name the file in it: {', '.join(names[:3])}"
            return PoposError(f"{path}: a zip archive, not weights", hint)
    for pattern, what, hint in KINDS:
        if re.match(pattern, start, re.DOTALL):
            if wanted.split()[0] in what.split(",")[0]:  # the right kind, but torn or damaged
                return PoposError(f"{path}: not a readable {wanted}: {reason}", AGAIN)
            return PoposError(f"{path}: {what}", hint.format(path=path))
    return PoposError(f"{path}: not a {wanted}: {reason}", AGAIN)
