"""Own weights -> a repository on the Hub, with their model card, through huggingface-hub."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PoposError, UsageError
from .card import Place, model_card
from .catalog import entry_of, load_catalog
from .find import BEST, find_weights
from .format import WeightsInfo, read_weights
from .hub import REPOSITORY, first_line, offline, quiet

CARD = "README.md"
NUMBERS = ("faces", "nme", "failure_rate", "auc")  # of a result and of each of its subsets
COMMON = (*NUMBERS, "dataset", "split", "weights", "resolution", "decoder", "normaliser", "threshold")


@dataclass(frozen=True)
class Upload:
    """What goes to the Hub: the file at `path` to `place`, and `card` beside it."""

    path: Path
    place: Place
    card: str


def check_place(repository: str, file: str | None) -> None:
    """Raises UsageError for a repository that is not owner/repo, or a file name that the Hub cannot take."""
    if not re.fullmatch(REPOSITORY, repository) or len(repository) > 96 or repository.endswith(".git"):
        raise UsageError(
            f"{repository}: not a repository OWNER/REPO of the Hub", "Like this: ada/landmarks-wflw"
        )
    if file is not None and not _is_file_name(file):
        raise UsageError(f"--file {file}: must be a plain name that ends in .safetensors")


def _is_file_name(name: str) -> bool:
    return bool(re.fullmatch(r"(\w[\w.+-]*/)*\w[\w.+-]*\.safetensors", name, re.ASCII))


def plan_upload(
    weights: str, repository: str, file: str | None, licence: str | None, metrics: list[Path]
) -> Upload:
    """Find the weights, read them whole, and write their card. Asks no network for weights that are here.

    weights: as `find_weights` takes them. file: its name there; None: its own, a run's folder's for a
    best.safetensors. licence: None: the catalog's. metrics: files of `popos evaluate`; a run folder's own
    metrics.json is taken, too. Raises PoposError for weights that are not whole, and for metrics that are
    not theirs; UsageError for names that cannot be.
    """
    check_place(repository, file)
    path = find_weights(weights)
    info = read_weights(path).info
    results = [row for one in metrics for row in read_results(one, weights, path, info)]
    beside = path.parent / "metrics.json"
    if not metrics and beside.exists():
        results = read_results(beside, weights, path, info)
    if licence is None and (entry := entry_of(weights, load_catalog())):
        licence = entry.licence
    place = Place(repository, file or _default_name(path), licence)
    return Upload(path, place, model_card(info, place, results))


def _default_name(path: Path) -> str:
    """A name that tells one from another: every run has a best.safetensors."""
    folder = path.resolve().parent.name
    name = f"{folder}.safetensors" if path.name in (BEST, "last.safetensors") else path.name
    return name if _is_file_name(name) else "model.safetensors"


def read_results(metrics: Path, weights: str, path: Path, info: WeightsInfo) -> list[dict[str, Any]]:
    """The results in a metrics.json that are of these weights, at `path`.

    Raises PoposError where there are none, or the file is not one of `popos evaluate`.
    """
    try:
        document = json.loads(metrics.read_text(encoding="utf-8"))
    except OSError as error:
        raise PoposError(f"{metrics}: {(error.strerror or str(error)).lower()}") from None
    except ValueError:
        raise PoposError(f"{metrics}: not JSON", "Name a metrics.json of popos evaluate.") from None
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, list) or not results or not all(map(_is_result, results)):
        raise PoposError(
            f"{metrics}: not what popos evaluate writes", "Name the metrics.json of one of its run folders."
        )
    mine = [r for r in results if r["resolution"] == info.resolution and _same(r["weights"], weights, path)]
    if not mine:
        others = dict.fromkeys(f"{r['weights']} ({r['resolution']} pixels)" for r in results)
        raise PoposError(
            f"{metrics}: has no result of {weights} ({info.resolution} pixels), but of {', '.join(others)}",
            f"Measure these weights: popos evaluate --weights {weights} --dataset NAME",
        )
    return mine


def _is_result(result: Any) -> bool:
    if not isinstance(result, dict) or not all(key in result for key in COMMON):
        return False
    if not isinstance(result["threshold"], int | float):
        return False
    subsets = result.get("subsets", {})
    parts = [result, *subsets.values()] if isinstance(subsets, dict) else [None]
    return all(
        isinstance(part, dict) and all(isinstance(part.get(key), int | float) for key in NUMBERS)
        for part in parts
    )


def _same(label: str, weights: str, path: Path) -> bool:
    """Whether evaluate's name for weights, a name, a file or a run folder, means the file at `path`."""
    found = Path(label).expanduser()
    return label == weights or (found / BEST if found.is_dir() else found).resolve() == path.resolve()


def push(upload: Upload, private: bool, message: str | None) -> str:
    """Make the repository where there is none, and commit both files at once; returns the commit's address.

    The Hub's token, HF_ENDPOINT and proxies are the client's. Raises PoposError.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    repository = upload.place.repository
    if offline():
        raise PoposError("HF_HUB_OFFLINE is set, so nothing can be uploaded", "Unset it.")
    if get_token() is None:
        raise PoposError("there is no token for the Hub", "Log in with hf auth login, or set HF_TOKEN.")
    api = HfApi(library_name="popos")
    operations = [
        CommitOperationAdd(upload.place.file, str(upload.path)),
        CommitOperationAdd(CARD, upload.card.encode()),
    ]
    try:
        with quiet(), warnings.catch_warnings(action="ignore"):
            # None leaves it to the owner's settings; an existing repository stays as it is.
            api.create_repo(repository, private=private or None, exist_ok=True)
            if private and not api.repo_info(repository).private:
                raise PoposError(
                    f"{repository}: exists already, and is public: nothing was uploaded",
                    "Choose another name, or make it private on its page.",
                )
            commit = api.create_commit(
                repository, operations, commit_message=message or f"Add {upload.place.file}"
            )
    except PoposError:
        raise
    except Exception as error:  # whichever HTTP library lies beneath the client raises its own kinds
        raise _explained(error, repository) from None
    return str(commit.commit_url)


def _explained(error: BaseException, repository: str) -> PoposError:
    """The refusal or the broken connection behind an error of the client, which wraps some."""
    cause: BaseException | None = error
    while cause and getattr(cause, "response", None) is None:
        cause = cause.__cause__
    if cause is None:
        return PoposError(
            f"{repository}: the Hub cannot be reached, or the upload broke off ({first_line(error)})",
            "Check the network and its proxy, and run the command again: no file was published.",
        )
    status = cause.response.status_code  # type: ignore[attr-defined]
    if status == 401:
        return PoposError(
            "the Hub does not know this token (401)", "Log in with hf auth login, or set HF_TOKEN to another."
        )
    if status == 403:
        owner = repository.partition("/")[0]
        return PoposError(
            f"{repository}: this token may not write there (403)",
            f"Use one with write access to {owner}'s repositories.",
        )
    if status == 429 or status >= 500:
        what = "gets too many requests" if status == 429 else "fails"
        return PoposError(f"{repository}: the Hub {what} ({status})", "Try again later.")
    told = getattr(cause, "server_message", None) if cause is error else str(error)
    told = " ".join((told or first_line(cause)).split())
    return PoposError(f"{repository}: the Hub refused ({status}): {told}")
