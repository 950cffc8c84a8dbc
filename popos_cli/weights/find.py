"""A name that a user gives -> a weight file here, and models out of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..core.codec import Codec
from ..core.model import Landmarker
from ..data.index import Index
from ..errors import PoposError, UsageError, did_you_mean
from ..home import remembered
from .catalog import Entry, converted_file, entry_of, entry_of_address, load_catalog
from .download import Check, fetch, file_name, find_here, short_hash
from .format import WeightsInfo, is_backbone, read_info, read_state, read_weights
from .pins import read_pins

if TYPE_CHECKING:
    from .foreign import Hints

_log = logging.getLogger(__name__)
BEST = "best.safetensors"  # in a run's folder
IMAGENET = "hrnet-w18-imagenet"
OTHER_KINDS = {"backbone": "ImageNet backbone", "detector": "face detector"}


def find_weights(name: str) -> Path:
    """The file behind a catalog name, a path, a run's folder, hf://owner/repo/file or an https address.

    Foreign checkpoints of the catalog and of addresses are converted. Raises UsageError for an unknown
    name and for one that is no face model, PoposError for a file that cannot be had.
    """
    catalog = load_catalog()
    entry = entry_of(name, catalog) or (entry_of_address(name) if "://" in name else None)
    if entry:
        if entry.kind != "face":
            raise UsageError(
                f"{name}: {OTHER_KINDS[entry.kind]}, but landmarks need a face model",
                "popos train --weights takes the backbone, --detector the detector.",
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
    weights = read_weights(find_weights(name))
    return weights.model, weights.codec


def obtain(entry: Entry, no_network: bool = False) -> Path:
    """An entry's file, downloaded and converted where it is not here yet: ours, an ImageNet backbone as
    timm has it, or a detector's .onnx. Raises PoposError.
    """
    if not _needs_conversion(entry):
        return fetch(entry, no_network, CHECKS[entry.kind])
    target = _converted(entry)
    if not target.exists():
        from .foreign import hints_of, import_checkpoint, known_hints, read_foreign

        def hints(file: Path) -> Hints:
            return known_hints(file) if entry.name == entry.source else hints_of(entry)

        file = fetch(entry, no_network, lambda path: read_foreign(path, hints(path)))
        import_checkpoint(file, target, hints(file))
    return target


def _check_detector(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(1) != b"\x08":  # ONNX has no signature; the field of its version stands first
            raise PoposError(f"{path}: not an ONNX model")


# What refuses a new file that is not what an entry is for, by the entry's kind. A face model's tensors are
# read, too: the pinned hash would keep a broken file for good.
CHECKS: dict[str, Check] = {"face": read_weights, "backbone": read_state, "detector": _check_detector}


def _needs_conversion(entry: Entry) -> bool:
    return entry.kind == "face" and entry.format != "popos"


def _converted(entry: Entry) -> Path:
    """Where a foreign checkpoint's conversion lies; one without a name gets its file's, and its address's."""
    if entry.name != entry.source:
        return converted_file(entry.name)
    return converted_file(f"{file_name(entry.name).partition('.pth')[0]}-{short_hash(entry.name)}")


def file_here(entry: Entry) -> Path | None:
    """Where an entry's file lies, converted or as it came, if it is here; its hash is not looked at."""
    if _needs_conversion(entry) and _converted(entry).exists():
        return _converted(entry)
    return find_here(entry, verify=False)


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
    """`face_weights` with what is wrong with the broken ones."""
    for name, place in _places():
        try:
            if isinstance(place, Path):
                path = place if place.exists() else None
            else:
                entry = place if isinstance(place, Entry) else entry_of_address(place)
                if _needs_conversion(entry):  # its conversion is among the files
                    continue
                path = fetch(entry) if entry.local else find_here(entry)
            if path:
                yield name, (path, read_info(path))
        except PoposError as error:
            yield name, error


def _places() -> Iterator[tuple[str, Path | Entry | str]]:
    """Names of face models, and their files, catalog entries, or addresses. Downloaded ones are in the
    catalog's order; then come other converted or imported files, and other downloads."""
    for run in remembered("runs"):
        yield str(run), run / BEST
    catalog = load_catalog()
    faces = [entry for entry in catalog.values() if entry.kind == "face"]
    downloads = {entry.name: entry for entry in faces if not entry.local}
    for name, entry in downloads.items():
        yield name, _converted(entry) if _needs_conversion(entry) else entry
    for path in sorted(converted_file("*").parent.glob("*.safetensors")):
        if path.stem not in downloads:
            yield path.stem, path
    for address in read_pins():
        if not entry_of(address, catalog):
            yield address, address
    for entry in faces:
        if entry.local:
            yield entry.name, entry


def scheme_mismatch(label: str, info: WeightsInfo, index: Index) -> PoposError | None:
    """Why weights cannot be used on a dataset: their schemes differ. None where they can."""
    if info.scheme != index.scheme.name:
        differ = f"scheme {info.scheme!r}, but dataset {index.name!r} has {index.scheme.name!r}"
    elif (count := info.landmark_scheme(label).landmarks) != index.scheme.landmarks:
        differ = (
            f"scheme {info.scheme!r} with {count} landmarks, but that of dataset {index.name!r} has "
            f"{index.scheme.landmarks}"
        )
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


def initial_state(init: str, model: Landmarker) -> tuple[dict[str, Tensor] | None, str]:
    """First weights for training, and a sentence that says what they are.

    init: see `ModelSettings.init`. Tensors whose name and shape the model shares are taken; a
    stem or head that another resolution or scheme shaped differently starts at random. Where the stem's
    convolutions shared one batch norm, each starts from a copy. Raises PoposError where a named file has
    nothing in common with the model, or is of a network that enlarges branches in another way.
    """
    if init == "scratch":
        return None, "starting from scratch"
    if init in ("auto", IMAGENET):
        try:
            path = obtain(load_catalog()[IMAGENET])
        except PoposError as error:
            if init == IMAGENET:
                raise
            return None, f"starting from scratch, without ImageNet weights ({error.message})"
    else:
        path = find_weights(init)
    wanted, state = model.state_dict(), read_state(path)
    if is_backbone(state):
        state = {f"backbone.{name}": tensor for name, tensor in state.items()}
    else:
        info = read_info(path)  # refuses another program's file, and a newer one of ours
        if info.fusion != model.backbone.fusion:
            raise PoposError(
                f"{path}: its network enlarges coarser branches by {info.fusion!r}, this run's by "
                f"{model.backbone.fusion!r}",
                f"Train the same network: --set model.fusion={info.fusion}",
            )
        if info.stem_norm == "shared":
            for name in [name for name in wanted if name.startswith(("backbone.bn3.", "backbone.bn4."))]:
                state[name] = state[f"backbone.bn2.{name.rpartition('.')[2]}"]
    shared = {k: v for k, v in state.items() if k in wanted and wanted[k].shape == v.shape}
    if not any(name.startswith("backbone.") for name in shared):
        raise PoposError(f"{path}: none of its tensors fits HRNet-W18")
    return shared, f"starting from {path} ({len(shared)} of {len(wanted)} tensors)"
