"""What a user may choose when preparing a dataset. Imports nothing slow, for `popos --help`."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

Orientation = Literal["stored", "upright"]
CropFormat = Literal["jpeg", "png"]


@dataclass(frozen=True)
class PrepareOptions:
    """The flags of `popos prepare-data`, whose help says what they mean. None: the default of the dataset."""

    name: str | None = None
    scheme: str | None = None
    split_by: str | None = None
    val_fraction: float | None = None
    seed: int | None = None
    base: int | None = None
    normalised: bool = False
    orientation: Orientation = "stored"
    allow_partial: bool = False
    skip_bad: bool = False
    cache_crops: bool = False
    crop_format: CropFormat = "jpeg"
    force: bool = False
    count: int = 500

    def command(self, dataset: str, root: Path) -> str:
        """The command line that prepares the dataset like this, wherever it is typed; without --force."""
        words = ["popos", "prepare-data", dataset, os.path.abspath(root)]
        for option in fields(self):
            value = getattr(self, option.name)
            if value == option.default or option.name == "force":
                continue
            if option.name == "scheme" and os.path.exists(value):
                value = os.path.abspath(value)
            words += [f"--{option.name.replace('_', '-')}", *([] if value is True else [str(value)])]
        return shlex.join(words)
