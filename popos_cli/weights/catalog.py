"""What weights exist: those inside the package, and those that the Hub has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BUNDLED = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class Entry:
    """kind: "face" (our format), or "backbone" (ImageNet, timm's tensor names).

    source: a file of `BUNDLED`, or hf://owner/repo/file. revision: the Hub's, None for its main branch.
    """

    name: str
    kind: str
    what: str
    source: str
    licence: str
    revision: str | None = None

    @property
    def bundled(self) -> bool:
        return not self.source.startswith("hf://")


CATALOG = {
    entry.name: entry
    for entry in (
        Entry(
            "default", "face", "68 points (300w), 16-pixel heatmaps, trained on television faces",
            "popos-300w-16.safetensors", "research only",
        ),
        Entry(
            "small", "face", "68 points (300w), 8-pixel heatmaps, for slow CPUs",
            "popos-300w-8.safetensors", "research only",
        ),
        Entry(
            "hrnet-w18-imagenet", "backbone", "HRNet-W18 trained on ImageNet, where training starts",
            "hf://timm/hrnet_w18.ms_in1k/model.safetensors", "MIT",
        ),
    )
}  # fmt: skip
