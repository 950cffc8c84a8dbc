"""The protocol of each benchmark in the papers: scheme, splits, subsets, and how many faces each has.

Counts: iBUG's lists (300W), the WFLW and COFW papers, AFLWinfo_release.mat; WFLW's subsets and
AFLW's frontal faces also follow from the failure rates that FaRL's logs print (k / N).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..core.schemes import AFLW, COFW, W300, WFLW, Scheme


@dataclass(frozen=True)
class Benchmark:
    """splits: split -> faces, None where the number is published nowhere. subsets: of the split "test".

    parts: split -> folder of the raw download -> faces. optional: splits that are a download of
    their own and may be absent as a whole.
    """

    name: str
    scheme: Scheme
    splits: Mapping[str, int | None]
    subsets: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()


BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "300w",
            W300,
            {"train": 3148, "test": 689, "private": 600},
            {"common": 554, "challenging": 135},
            {
                "train": {"helen/trainset": 2000, "lfpw/trainset": 811, "afw": 337},
                "test": {"helen/testset": 330, "lfpw/testset": 224, "ibug": 135},
                "private": {"01_Indoor": 300, "02_Outdoor": 300},
            },
            frozenset({"private"}),
        ),
        Benchmark(
            "wflw",
            WFLW,
            {"train": 7500, "test": 2500},
            {
                "largepose": 326, "expression": 314, "illumination": 698, "makeup": 206,
                "occlusion": 736, "blur": 773,
            },
        ),
        Benchmark("cofw", COFW, {"train": 1345, "test": 507}),
        Benchmark("aflw", AFLW, {"train": 20000, "test": 4386}, {"frontal": 1314}),
        Benchmark("coco-face", W300, {"train": None, "test": None}),
    )
}  # fmt: skip
