"""Own weights -> a repository on the Hub, with their model card, through huggingface-hub."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from ..errors import PoposError, UsageError
from .card import MeasuredResult, model_card
from .catalog import entry_of, load_catalog
from .find import BEST, find_weights
from .format import read_weights
from .hub import REPOSITORY, first_line, offline, quiet
from .info import WeightsInfo

FILE_NAME = re.compile(r"(\w[\w.+-]*/)*\w[\w.+-]*\.safetensors", re.ASCII)


class MetricsFile(BaseModel):
    """The metrics.json of `popos evaluate`."""

    results: list[MeasuredResult] = Field(min_length=1)


@dataclass(frozen=True)
class Upload:
    """What goes to the Hub: `path` as `file` of `repository` (owner/repo), and `card` beside it."""

    path: Path
    repository: str
    file: str
    licence: str | None
    card: str

    @property
    def address(self) -> str:
        return f"hf://{self.repository}/{self.file}"


def plan_upload(
    weights: str, repository: str, file: str | None, licence: str | None, metrics: list[Path]
) -> Upload:
    """Find the weights, read them whole, and write their card. Asks no network for weights that are here.

    weights: as `find_weights` takes them. file: its name there; None: its own, a run folder's for a
    best.safetensors. licence: None: the catalog's. metrics: files of `popos evaluate`; without any, the
    metrics.json beside the weights is taken if there is one. Raises PoposError for weights that are not
    whole, and for metrics of other weights; UsageError for names that are not possible.
    """
    if not re.fullmatch(REPOSITORY, repository) or len(repository) > 96 or repository.endswith(".git"):
        raise UsageError(f"{repository}: not a repository OWNER/REPO of the Hub", "Like this: ada/faces")
    if file is not None and not FILE_NAME.fullmatch(file):
        raise UsageError(f"--file {file}: must be a plain name that ends in .safetensors")
    path = find_weights(weights)
    if path.suffix == ".onnx":
        raise UsageError(f"{path}: an exported model", "Push the weights that it was made from.")
    info = read_weights(path).info
    beside = path.parent / "metrics.json"
    if not metrics and beside.exists():
        metrics = [beside]
    results = [result for one in metrics for result in read_results(one, weights, path, info)]
    if licence is None and (entry := entry_of(weights, load_catalog())) and entry.named:
        licence = entry.licence
    file = file or _default_name(path)
    card = model_card(info, repository, file, licence, results)
    return Upload(path, repository, file, licence, card)


def _default_name(path: Path) -> str:
    """The file's own name; its run's for the files that every run has."""
    run = path.resolve().parent.name
    name = f"{run}.safetensors" if path.name in (BEST, "last.safetensors") else path.name
    return name if FILE_NAME.fullmatch(name) else "model.safetensors"


def read_results(metrics: Path, weights: str, path: Path, info: WeightsInfo) -> list[MeasuredResult]:
    """The results in a metrics.json that are of these weights, at `path`.

    Raises PoposError where there are none, or the file is not one of `popos evaluate`.
    """
    try:
        results = MetricsFile.model_validate_json(metrics.read_bytes()).results
    except OSError as error:
        raise PoposError(f"{metrics}: {(error.strerror or str(error)).lower()}") from None
    except ValidationError:
        raise PoposError(
            f"{metrics}: not what popos evaluate writes", "Name the metrics.json of one of its run folders."
        ) from None
    mine = [r for r in results if r.resolution == info.resolution and _same(r.weights, weights, path)]
    if not mine:
        others = dict.fromkeys(f"{r.weights} ({r.resolution} pixels)" for r in results)
        raise PoposError(
            f"{metrics}: has no result of {weights} ({info.resolution} pixels), but of {', '.join(others)}",
            f"Measure these weights: popos evaluate --weights {weights} --dataset NAME",
        )
    return mine


def _same(label: str, weights: str, path: Path) -> bool:
    """Whether evaluate's name for weights, a name, a file or a run folder, means the file at `path`."""
    found = Path(label).expanduser()
    return label == weights or (found / BEST if found.is_dir() else found).resolve() == path.resolve()


def push(upload: Upload, private: bool, message: str | None) -> str:
    """Make the repository where there is none, and commit both files at once; returns the commit's address.

    The token, HF_ENDPOINT and proxies are those of the Hub's client. Raises PoposError.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    repository = upload.repository
    if offline():
        raise PoposError("HF_HUB_OFFLINE is set, so nothing can be uploaded", "Unset it.")
    if get_token() is None:
        raise PoposError("there is no token for the Hub", "Log in with hf auth login, or set HF_TOKEN.")
    api = HfApi(library_name="popos")
    operations = [
        CommitOperationAdd(upload.file, str(upload.path)),
        CommitOperationAdd("README.md", upload.card.encode()),
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
            commit = api.create_commit(repository, operations, commit_message=message or f"Add {upload.file}")
    except PoposError:
        raise
    except Exception as error:  # each HTTP library below the client raises its own kinds
        raise _explained(error, repository) from None
    return str(commit.commit_url)


def _explained(error: BaseException, repository: str) -> PoposError:
    """The Hub's refusal, or the broken connection, behind an error of the client, which wraps some."""
    cause: Any = error
    while cause and getattr(cause, "response", None) is None:
        cause = cause.__cause__
    said = getattr(cause, "server_message", None) or first_line(error)
    if cause is None:
        return PoposError(
            f"{repository}: the Hub cannot be reached, or the upload broke off ({said})",
            "Check the network and its proxy, and run the command again: no file was published.",
        )
    status = cause.response.status_code
    hints = {
        401: "Log in with hf auth login, or set HF_TOKEN to another token.",
        403: f"Use a token with write access to {repository.partition('/')[0]}'s repositories.",
    }
    message = f"{repository}: the Hub refused ({status}): {' '.join(said.split())}"
    return PoposError(message, hints.get(status, "Try again later."))
