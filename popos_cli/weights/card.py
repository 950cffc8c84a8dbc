"""The model card of weights: what stands in the README.md of their repository on the Hub.

Names and settings come from whoever made the weights. They go into the card through `_code`, `_text` and
`_fenced`, which leave them what they are: no Markdown, no HTML, no further front matter.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import tomli_w

from .format import WeightsInfo

# Names of licences that the Hub knows; any other one is "other", with its name beside it.
LICENCES = frozenset(
    (
        "apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "cc", "cc0-1.0",
        "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0",
        "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "gpl",
        "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "openrail", "unknown", "other",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where weights are shared. repository: owner/repo. licence: identifier or name; None: not stated."""

    repository: str
    file: str
    licence: str | None = None

    @property
    def address(self) -> str:
        return f"hf://{self.repository}/{self.file}"


def model_card(info: WeightsInfo, place: Place, results: list[dict[str, Any]]) -> str:
    """Markdown with YAML front matter. results: as `popos evaluate --json` has them, maybe none.

    Raises PoposError where the weights' landmark scheme is unknown.
    """
    sections = (
        _front(info, place), _what(info, place), _data(info), _recipe(info), _figures(info, results),
        _use(place), _licence(place), _limits(info),
    )  # fmt: skip
    return "\n\n".join(section for section in sections if section) + "\n"


def _front(info: WeightsInfo, place: Place) -> str:
    from huggingface_hub import ModelCardData

    licence = (place.licence or "unknown").lower()
    known = licence in LICENCES
    data = ModelCardData(
        license=licence if known else "other",
        license_name=None if known else _line(place.licence),
        library_name="popos",
        pipeline_tag="keypoint-detection",
        tags=["facial-landmarks", "face-alignment", "hrnet", "popos", f"scheme-{_line(info.scheme)}"],
    )
    return f"---\n{data.to_yaml()}\n---"


def _line(value: object) -> str:
    """Any value on one line, without control characters and what UTF-8 cannot hold."""
    text = str(value).encode(errors="replace").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _code(value: object) -> str:
    """As inline code, in a table, too."""
    text = _line(value)
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence, pad = "`" * (longest + 1), " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}".replace("|", r"\|")


def _text(value: object) -> str:
    """As plain words."""
    return re.sub(r"([\\`*_\[\]<>|~&$]|^[#+-]|^\d+(?=[.)]))", r"\\\1", _line(value))


def _fenced(text: str, language: str) -> str:
    """As a block of code."""
    longest = max((len(ticks) for ticks in re.findall("`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.encode(errors='replace').decode().rstrip()}\n{fence}"


def _what(info: WeightsInfo, place: Place) -> str:
    scheme = info.landmark_scheme(place.file)
    codec, size, heatmaps = info.codec, info.image_size, f"{info.resolution}x{info.resolution}"
    offset = ", ".join(f"{value:g}" for value in info.label_offset)
    told = info.uncertainty
    rows = [
        ("network", f"HRNet-W18, crop {size}x{size}, {heatmaps} heatmaps"),
        ("points", f"{scheme.landmarks}, scheme {_code(scheme.name)}"),
        ("codec", f"sigma {codec.sigma:g} heatmap pixels, decoder `{codec.decoder}`"),
        ("alignment", f"`{codec.alignment}`"),
        ("crop", f"square around the landmarks, {info.crop.padding:g} times their longer side"),
        ("label_offset", f"({offset}) source pixels, subtracted from the result"),
        (
            "uncertainty",
            f"calibrated on {told.faces} faces of {_code(told.dataset)}" if told else "not calibrated",
        ),
    ]  # fmt: skip
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return (
        f"# {PurePath(place.file).stem}: {scheme.landmarks} facial landmarks\n\n"
        "Weights of popos (`popos-cli`), which finds facial landmarks with sub-pixel "
        f"accuracy from small heatmaps.\n\n| file | `{place.file}` |\n|---|---|\n{table}"
    )


def _data(info: WeightsInfo) -> str:
    training = info.training
    if dataset := training.get("dataset"):
        text = f"Trained on the faces of the dataset {_code(dataset)}"
        model = _settings(info).get("model")
        init = model.get("init") if isinstance(model, dict) else None
        if init and init not in ("auto", "scratch"):
            text += f", starting from {_code(init)}, whose terms hold for these weights, too"
        text += "."
    elif isinstance(imported := training.get("imported"), dict):
        text = (
            f"Converted by `popos import-weights` from the checkpoint {_code(imported.get('file'))} "
            f"(SHA-256 {_code(imported.get('sha256'))}). The file does not say more about its data."
        )
    else:
        text = "Not stated in the weight file."
    return f"## Data\n\n{text}"


def _settings(info: WeightsInfo) -> dict[str, Any]:
    """The run's settings without nulls, which TOML has not, and without folders of the machine."""
    settings = info.training.get("settings")
    settings = _without_nulls(settings) if isinstance(settings, dict) else {}
    model = settings.get("model")
    if isinstance(model, dict) and re.match(r"[/~\\]|\.\.|[A-Za-z]:", init := str(model.get("init"))):
        settings["model"] = {**model, "init": re.split(r"[/\\]", init.rstrip("/\\"))[-1]}
    return settings


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return (
        [_without_nulls(inner) for inner in value if inner is not None] if isinstance(value, list) else value
    )


def _recipe(info: WeightsInfo) -> str:
    settings = _settings(info)
    if not settings:
        return ""
    epoch = info.training.get("epoch")
    best = f" These are the weights after epoch {epoch}." if isinstance(epoch, int) and epoch else ""
    return (
        f"## Recipe\n\n`popos train --config settings.toml`, with these settings.{best}\n\n"
        f"{_fenced(tomli_w.dumps(settings), 'toml')}"
    )


def _figures(info: WeightsInfo, results: list[dict[str, Any]]) -> str:
    parts = []
    nme = info.training.get("val_nme")
    if isinstance(nme, int | float) and math.isfinite(nme):
        normaliser = info.landmark_scheme("weights").normaliser
        test = info.training.get("selected_on") == "test"
        faces = "Test faces, on which this epoch was selected," if test else "Validation faces,"
        parts.append(f"{faces} while training and without the flip test: NME {nme:.2f} % ({normaliser}).")
    if results:
        columns = (
            "dataset", "boxes", "decoder", "flip test", "faces", "NME %", "FR %", "AUC %",
            "normaliser, threshold", "averaging",
        )  # fmt: skip
        rows = [columns, ("---",) * len(columns), *(row for result in results for row in _rows(result))]
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
        parts.append(
            "NME: mean error over the normaliser. FR: faces whose error is above the threshold. AUC: area "
            "under the cumulative error curve up to the threshold. Measured by `popos evaluate`."
        )  # fmt: skip
    return "## Figures\n\n" + "\n\n".join(parts or ["None were given."])


def _rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """A result and its subsets as cells."""
    name = f"{result['dataset']} {result['split']}"
    boxes = _text(result.get("detector") or result.get("boxes", "truth"))
    flip = "on" if result.get("flip_test") else "off"
    remark = result.get("remark")
    scale = _text(f"{result['normaliser']}, {result['threshold']:g}" + (f"; {remark}" if remark else ""))
    parts = [("", result), *((f": {subset}", part) for subset, part in result.get("subsets", {}).items())]
    return [
        (
            _text(name + suffix), boxes, _code(result["decoder"]), flip, str(part["faces"]),
            f"{part['nme']:.2f}", f"{part['failure_rate']:.2f}", f"{part['auc']:.2f}", scale,
            _text(result.get("averaging", "face")),
        )
        for suffix, part in parts
    ]  # fmt: skip


def _use(place: Place) -> str:
    return (
        "## Use\n\n```bash\npip install popos-cli\n"
        f"popos predict photo.jpg --weights {place.address}\n```\n\n"
        f'```python\nfrom popos_cli import Predictor, load\n\nfaces = Predictor("{place.address}")(image)  # '
        f'RGB uint8 (H, W, 3)\nmodel, codec = load("{place.address}")\n```\n\n'
        "The file's metadata hold the codec, the scheme and the crop: nothing else needs to be set."
    )


def _licence(place: Place) -> str:
    text = _text(place.licence or "") or (
        "Not stated. Weights may be bound to the terms of the data, and of the weights, that they come from."
    )
    return f"## Licence\n\n{text}"


def _limits(info: WeightsInfo) -> str:
    uncalibrated = "The uncertainty is not calibrated: use it to rank points, not as a tolerance."
    limits = [
        "Faces unlike those of the training data (turned farther, smaller, more covered, of other ages) have "
        "larger errors.",
        "Accuracy by age, gender or skin colour was not measured.",
        "" if info.uncertainty else uncalibrated,
        "NME on other data, schemes or normalisers cannot be compared with the figures above.",
        "Not for identifying people.",
    ]  # fmt: skip
    return "## Limits\n\n" + "\n".join(f"* {limit}" for limit in limits if limit)
