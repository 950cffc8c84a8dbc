"""A name that a user gives -> a weight file here, and models out of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PoposError, UsageError, did_you_mean
from ..home import remembered, weights_folder
from .catalog import Entry, converted_file, entry_of, load_catalog
from .download import Check, fetch, find_here, place_of, read_pins
from .info import WeightsInfo

if TYPE_CHECKING:
    from ..core.codec import Codec
    from ..core.model import Landmarker
    from ..data.index import Index

_log = logging.getLogger(__name__)
BEST = "best.safetensors"  # in a run's folder
OTHER_KINDS = {"backbone": "ImageNet backbone", "detector": "face detector"}


def find_weights(name: str | Path) -> Path:
    """The file behind a catalog name, a path, a run's folder, hf://owner/repo/file or an https address.

    Foreign checkpoints of the catalog and of addresses are converted. Raises UsageError for an unknown
    name and for one that is no face model, PoposError for a file that cannot be had.
    """
    name, catalog = str(name), load_catalog()
    if entry := entry_of(name, catalog):
        if entry.kind != "face":
            raise UsageError(
                f"{name}: {OTHER_KINDS[entry.kind]}, but landmarks need a face model",
                "A backbone is for popos train --weights, a detector for popos predict --detector.",
            )
        return obtain(entry)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / BEST).exists():
            raise PoposError(
                f"{path}: a folder without {BEST}", "Name a run's folder or a .safetensors file."
            )
        return path / BEST
    if path.exists():
        return path
    if len(path.parts) == 1 and converted_file(name).exists():
        return converted_file(name)
    if path.suffix or len(path.parts) > 1:
        raise PoposError(f"{path}: no such weight file")
    faces = [entry.name for entry in catalog.values() if entry.kind == "face"]
    raise UsageError(
        f"unknown weights {name!r}",
        f"{did_you_mean(name, faces)}Known: {', '.join(faces)}; or a .safetensors file, a run folder, "
        "hf://owner/repo/file, an https address.",
    )


def load(name: str = "default") -> tuple[Landmarker, Codec]:
    """Model (eval mode, CPU) and codec of the weights that `find_weights` finds.

    model: RGB crops (N, 3, S, S) in 0..1 -> heatmaps (N, K, R, R); codec.decode reads them.
    """
    from .format import read_weights

    weights = read_weights(find_weights(name))
    return weights.model, weights.codec


def obtain(entry: Entry, no_network: bool = False) -> Path:
    """An entry's file, downloaded and converted where it is not here yet: ours, an ImageNet backbone as
    timm has it, or a detector's .onnx. Raises PoposError.
    """
    if entry.converted is None:
        return fetch(entry, no_network, CHECKS[entry.kind])
    from .foreign import import_checkpoint, read_foreign

    if not entry.converted.exists():
        known = entry if entry.named else None
        file = fetch(entry, no_network, lambda path: read_foreign(path, known))
        import_checkpoint(file, entry.converted, known)
    return entry.converted


def _check_detector(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(1) != b"\x08":  # ONNX has no signature; the field of its version stands first
            raise PoposError(f"{path}: not an ONNX model")


def _check_face(path: Path) -> None:
    from .format import read_weights

    read_weights(path)


def _check_backbone(path: Path) -> None:
    from .format import read_state

    read_state(path)


# Checks a new download, by the entry's kind. A face model is read completely: once its hash is pinned, a
# broken file would be accepted for ever.
CHECKS: dict[str, Check] = {"face": _check_face, "backbone": _check_backbone, "detector": _check_detector}


def file_here(entry: Entry) -> Path | None:
    """Where an entry's file lies, converted or as it came, if it is here; its hash is not checked."""
    converted = entry.converted
    return converted if converted and converted.exists() else place_of(entry)


def face_weights() -> Iterator[tuple[str, Path, WeightsInfo]]:
    """Every face model here: own runs (newest first), downloaded or imported ones, then bundled ones.

    Broken ones are passed over with a note. The first of each name is what `find_weights` takes.
    """
    for name, found in weights_here():
        if isinstance(found, PoposError):
            _log.warning("passed over: %s", found.message)
        else:
            yield name, *found


def weights_here() -> Iterator[tuple[str, tuple[Path, WeightsInfo] | PoposError]]:
    """`face_weights` with what is wrong with the broken ones.

    Downloads are in the catalog's order; then come other converted or imported files, and other downloads.
    """
    from .format import read_info

    catalog = load_catalog()
    faces = [entry for entry in catalog.values() if entry.kind == "face"]
    downloads = {entry.name: entry for entry in faces if not entry.local}
    places: list[tuple[str, Path | Entry]] = [
        *((str(run), run / BEST) for run in remembered("runs")),
        *((name, entry.converted or entry) for name, entry in downloads.items()),
        *((p.stem, p) for p in sorted(weights_folder().glob("*.safetensors")) if p.stem not in downloads),
        *((entry.name, entry) for entry in _pinned(catalog)),
        *((entry.name, entry) for entry in faces if entry.local),
    ]
    for name, place in places:
        try:
            if isinstance(place, Path):
                path = place if place.exists() else None
            else:
                path = fetch(place) if place.local else find_here(place)
            if path:
                yield name, (path, read_info(path))
        except PoposError as error:
            yield name, error


def _pinned(catalog: dict[str, Entry]) -> Iterator[Entry]:
    """Downloads that the catalog does not name; those that were converted are among the files."""
    for address in read_pins():
        with suppress(UsageError):  # somebody edited pins.json
            entry = entry_of(address, catalog)
            if entry and not entry.named and not entry.converted:
                yield entry


def scheme_mismatch(label: str, info: WeightsInfo, index: Index) -> PoposError | None:
    """Why weights cannot be used on a dataset: their schemes differ. None where they can."""
    found, wanted, dataset = info.landmark_scheme(label), index.scheme, repr(index.name)
    if found.name != wanted.name:
        differ = f"scheme {found.name!r}, but dataset {dataset} has {wanted.name!r}"
    elif found.landmarks != wanted.landmarks:
        counts = f"{found.landmarks} landmarks, but that of dataset {dataset} has {wanted.landmarks}"
        differ = f"scheme {found.name!r} with {counts}"
    else:
        return None
    return PoposError(
        f"{label}: finds the points of {differ}",
        f"Name other weights, or train some: popos train --dataset {index.name}",
    )


def trained_on(info: WeightsInfo) -> str | None:
    """The dataset that weights were trained on, where that is known."""
    dataset, imported = info.training.get("dataset"), info.training.get("imported")
    if dataset is None and isinstance(imported, dict):
        entry = load_catalog().get(str(imported.get("name")))
        return entry.dataset if entry else None
    return dataset if isinstance(dataset, str) else None
