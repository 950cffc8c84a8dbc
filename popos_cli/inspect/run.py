"""`popos inspect` from a prepared dataset to its figures and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.schemes import Scheme
from ..data.index import check_pictures, read_index
from ..data.pictures import save_picture
from ..evaluate.plots import noted
from ..home import new_run_folder, refuse_taken
from ..progress import Bar
from ..train.build import augmented_faces, build_info, plain_faces
from ..train.settings import TrainSettings
from .describe import describe, save_histograms
from .samples import draw_faces, make_sample, spread


def inspect_dataset(
    settings: TrainSettings, split: str | None, faces: int, seed: int, out: Path | None, bar: Bar
) -> tuple[dict[str, Any], Scheme]:
    """The JSON document of the settings' dataset or of one split, and its scheme.

    Writes faces.jpg, `faces` drawn faces that `seed` picks from the split (else "train", else the first),
    and histograms.png into a run folder (`out`: a new or empty one). Raises UsageError and PoposError
    before that folder is made: for a dataset that is not prepared, pictures that are missing or cannot
    be read, a folder that is taken.
    """
    refuse_taken(out)
    index = read_index(settings.dataset)
    if split is not None:
        index = index.of_split(split)
    check_pictures(index)
    report = describe(index)
    shown = split or ("train" if "train" in index.splits else index.splits[0])
    drawn = index.of_split(shown)
    codec = build_info(settings, drawn).build_codec()
    plain, augmented = plain_faces(settings, drawn, codec), augmented_faces(settings, drawn, codec)
    chosen, samples = spread(len(drawn), faces, seed), []
    with bar("drawing faces", len(chosen)) as advance:
        for face in chosen:
            samples.append(make_sample(face, plain, augmented))
            advance(1)
    page = draw_faces(drawn, samples)
    run = new_run_folder(out, f"inspect-{index.name}")
    sheet, histograms = run / "faces.jpg", run / "histograms.png"
    save_picture(page, sheet)
    with noted(histograms):
        save_histograms(index, histograms)
    report |= {
        "sheet": {"split": shown, "file": str(sheet)},
        "histograms": str(histograms) if histograms.exists() else None,
        "run": str(run),
    }
    return report, index.scheme
