"""A name that a user gives -> a weight file here, and models out of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..core.codec import Codec
from ..core.model import Landmarker
from ..data.home import remembered
from ..data.index import Index
from ..errors import PoposError, UsageError, did_you_mean
from .catalog import BUNDLED, CATALOG
from .format import WeightsInfo, read_info, read_state, read_weights

BEST = "best.safetensors"


def in_cache(source: str) -> Path | None:
    """Where the Hub client's cache holds hf://owner/repo/file, without asking the network."""
    from huggingface_hub import try_to_load_from_cache

    repo, file = _hub_parts(source)
    found = try_to_load_from_cache(repo, file)
    return Path(found) if isinstance(found, str) else None


def _hub_parts(source: str) -> tuple[str, str]:
    parts = source.removeprefix("hf://").split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise UsageError(f"{source}: not hf://owner/repo/file")
    return f"{parts[0]}/{parts[1]}", parts[2]


def fetch_from_hub(source: str, revision: str | None = None) -> Path:
    """Download hf://owner/repo/file through huggingface-hub into its cache, or find it there.

    HF_HOME, HF_TOKEN, HF_HUB_OFFLINE and proxies are respected by the library. Raises PoposError.
    """
    repo, file = _hub_parts(source)
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        # Asked once, without the download's 25 seconds of retries: without a network the answer
        # should come at once.
        get_hf_file_metadata(hf_hub_url(repo, file, revision=revision), timeout=10)
        return Path(hf_hub_download(repo, file, revision=revision))
    except HfHubHTTPError as error:
        raise PoposError(f"{source}: the Hub refused: {_first_line(error)}") from None
    except Exception as error:  # whichever HTTP library lies beneath the client raises its own kinds
        if cached := in_cache(source):
            return cached
        raise PoposError(
            f"{source}: the Hub cannot be reached ({_first_line(error)}), and the file is not in its cache",
            "Check the network and HF_HUB_OFFLINE, or copy the file here and name its path.",
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def scheme_mismatch(label: str, info: WeightsInfo, index: Index) -> PoposError | None:
    """Why weights cannot be used on a dataset, None where they can: their schemes differ."""
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


def find_weights(name: str) -> Path:
    """The file behind a catalog name, a path, a run's folder or hf://owner/repo/file.

    Raises UsageError for an unknown name, PoposError for a file that is missing.
    """
    if name in CATALOG:
        entry = CATALOG[name]
        path = BUNDLED / entry.source if entry.bundled else fetch_from_hub(entry.source, entry.revision)
        if not path.exists():
            raise PoposError(f"{name}: {path} is missing from this installation", "Reinstall popos-cli.")
        return path
    if name.startswith("hf://"):
        return fetch_from_hub(name)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / BEST).exists():
            raise PoposError(
                f"{path}: a folder without {BEST}", "Name a run's folder or a .safetensors file."
            )
        return path / BEST
    if path.exists():
        return path
    if path.suffix or len(path.parts) > 1:
        raise PoposError(f"{path}: no such weight file")
    raise UsageError(
        f"unknown weights {name!r}",
        f"{did_you_mean(name, CATALOG)}Known: {', '.join(CATALOG)}; or a .safetensors file, a run folder, "
        "hf://owner/repo/file.",
    )


def load(name: str = "default") -> tuple[Landmarker, Codec]:
    """Model (eval mode, CPU) and codec of the weights that `find_weights` finds.

    model: RGB crops (N, 3, S, S) in 0..1 -> heatmaps (N, K, R, R); codec.decode reads them.
    """
    model, codec, _, _ = read_weights(find_weights(name))
    return model, codec


def face_weights() -> Iterator[tuple[str, Path, WeightsInfo]]:
    """Every face model here: own runs (newest first), then bundled ones; unreadable are passed by."""
    runs = [(str(run), run / BEST) for run in remembered("runs")]
    bundled = [(e.name, BUNDLED / e.source) for e in CATALOG.values() if e.kind == "face"]
    for name, path in runs + bundled:
        if path.exists():
            try:
                yield name, path, read_info(path)
            except PoposError:
                continue


def initial_state(init: str, model: Landmarker) -> tuple[dict[str, Tensor] | None, str]:
    """First weights for training, and a sentence that says what they are.

    init: see `ModelSettings.init`. Tensors whose name and shape the model shares are taken; a
    stem or head that another resolution or scheme shaped differently starts at random. Raises
    PoposError where a named file has nothing in common with the model.
    """
    if init == "scratch":
        return None, "starting from scratch"
    wanted = model.state_dict()
    if init == "auto":
        try:
            path = find_weights("hrnet-w18-imagenet")
        except PoposError as error:
            return None, f"starting from scratch, without ImageNet weights ({error.message})"
        state = {f"backbone.{name}": tensor for name, tensor in read_state(path).items()}
    else:
        path = find_weights(init)
        state = read_state(path)
    shared = {k: v for k, v in state.items() if k in wanted and wanted[k].shape == v.shape}
    if not any(name.startswith("backbone.") for name in shared):
        raise PoposError(f"{path}: none of its tensors fits HRNet-W18")
    return shared, f"starting from {path} ({len(shared)} of {len(wanted)} tensors)"


def pick_inference_device(name: str | None) -> torch.device:
    """None: a GPU if there is one, else the CPU. Raises UsageError for a device that is not here."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        raise UsageError(
            f"device {name!r} cannot be used here", "Use cpu, or cuda where torch sees a GPU."
        ) from None
    return device
