"""The model card of weights: the README.md of their repository on the Hub.

Names and settings come from whoever made the weights. They go into the card as code, so that
they cannot become Markdown, HTML or front matter.
"""

from __future__ import annotations

import math
import re
from pathlib import PurePath
from typing import Annotated, Any

import tomli_w
from pydantic import AfterValidator, BaseModel, FiniteFloat

from ..data.partial import beside, described, mark, trained_mark, trained_shortfall
from ..text import printable
from .info import WeightsInfo

# How the Hub's identifiers of licences look; anything else is "other", with its name beside it.
IDENTIFIER = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")

CARD = """\
---
{front}
---

# {name}: {landmarks} facial landmarks

Weights of popos (`popos-cli`), which finds facial landmarks with sub-pixel accuracy from small heatmaps.

| file | `{file}` |
|---|---|
| network | HRNet-W18, {info.image_size}-pixel crop, {info.resolution}x{info.resolution} heatmaps |
| points | {landmarks}, scheme {scheme} |
| codec | sigma {info.codec.sigma:g} heatmap pixels, decoder `{info.codec.decoder}` |
| alignment | `{info.codec.alignment}` |
| crop | square around the landmarks, {info.crop.padding:g} times their longer side |
| label_offset | {offset} source pixels, subtracted from the result |
| uncertainty | {uncertainty} |

## Data

{data}
{recipe}
## Figures

{figures}

## Use

```bash
pip install popos-cli
popos predict photo.jpg --weights {address}
```

```python
from popos_cli import Predictor, load

faces = Predictor("{address}")(image)  # RGB uint8 (H, W, 3)
model, codec = load("{address}")
```

The file's metadata hold the codec, the scheme and the crop: nothing else needs to be set.

## Licence

{licence}

## Limits

* Faces unlike those of the training data (turned farther, smaller, more covered, of other ages) have larger \
errors.
* Accuracy by age, gender or skin colour was not measured.{limits}
* NME on other data, schemes or normalisers cannot be compared with the figures above.
* Not for identifying people.
"""
RECIPE = "\n## Recipe\n\n`popos train --config settings.toml`, with these settings."
COLUMNS = """\
| test set | boxes | decoder | flip test | faces | NME % | FR % | AUC % | normaliser, threshold | averaging |
|---|---|---|---|---|---|---|---|---|---|"""
ABBREVIATIONS = (
    "NME: mean error over the normaliser. FR: faces whose error is above the threshold. AUC: area under the "
    "cumulative error curve up to the threshold. Measured by `popos evaluate`."
)
UNCALIBRATED = "\n* The uncertainty is not calibrated: use it to rank points, not as a tolerance."
NO_LICENCE = (
    "Not stated. Weights may be bound to the terms of the data, and of the weights, that they come from."
)


Line = Annotated[str, AfterValidator(printable)]  # what others wrote, on one line for the front matter


class MeasuredFigures(BaseModel):
    """In percent, but for the number of faces. partial: what of the test set was missing."""

    faces: int
    partial: dict[str, Any] | None = None
    nme: FiniteFloat
    failure_rate: FiniteFloat
    auc: FiniteFloat


class MeasuredResult(MeasuredFigures):
    """A result of `popos evaluate`, with what the card says of it."""

    dataset: Line
    split: Line
    weights: str
    resolution: int
    decoder: Line
    normaliser: Line
    threshold: FiniteFloat
    averaging: Line = "face"
    boxes: Line = "truth"
    detector: Line | None = None
    flip_test: bool = False
    remark: str | None = None
    trained_on_partial: dict[str, Any] | None = None
    subsets: dict[Line, MeasuredFigures] = {}

    def parts(self) -> dict[str, MeasuredFigures]:
        """The whole, "", and the subsets by name."""
        return {"": self, **self.subsets}


def model_card(
    info: WeightsInfo, repository: str, file: str, licence: str | None, results: list[MeasuredResult]
) -> str:
    """Markdown with YAML front matter, for weights that will be `file` in `repository` (owner/repo).

    licence: identifier or name; None: not stated. Raises PoposError for an unknown landmark scheme.
    """
    from huggingface_hub import ModelCardData

    scheme, fitted, settings = info.landmark_scheme(file), info.uncertainty, _settings(info)
    identifier = (licence or "unknown").lower()
    known = IDENTIFIER.fullmatch(identifier)
    front = ModelCardData(
        license=identifier if known else "other",
        license_name=None if known else printable(str(licence)),
        library_name="popos",
        pipeline_tag="keypoint-detection",
        tags=["facial-landmarks", "face-alignment", "hrnet", "popos", f"scheme-{printable(info.scheme)}"],
        model_name=PurePath(file).stem,
        eval_results=_eval_results(results) or None,
    )
    calibrated = f"calibrated on {fitted.faces} faces of {_code(fitted.dataset)}" if fitted else None
    return CARD.format(
        front=front.to_yaml(), name=PurePath(file).stem, landmarks=scheme.landmarks, file=file, info=info,
        scheme=_code(scheme.name), uncertainty=calibrated or "not calibrated",
        offset="({:g}, {:g})".format(*info.label_offset), data=_data(info, settings),
        recipe=_recipe(info, settings), figures=_figures(info, results),
        address=f"hf://{repository}/{file}", licence=_code(licence) if licence else NO_LICENCE,
        limits="" if calibrated else UNCALIBRATED,
    )  # fmt: skip


def _code(value: object) -> str:
    """Any value as inline code on one line, in a table, too."""
    text = printable(str(value))
    ticks, pad = _fence(text, 1), " " if "`" in text else ""
    return f"{ticks}{pad}{text}{pad}{ticks}".replace("|", r"\|")


def _fence(text: str, least: int) -> str:
    """More backticks than stand anywhere in a row in the text."""
    return "`" * max(least, *(len(ticks) + 1 for ticks in re.findall("`*", text)))


def _eval_results(results: list[MeasuredResult]) -> list[Any]:
    """EvalResults for the Hub's model index: one for each dataset, subset and figure."""
    from huggingface_hub import EvalResult

    conditions = {"decoder", "boxes", "detector", "flip_test", "normaliser", "threshold", "averaging"}
    return [
        EvalResult(
            task_type="keypoint-detection",
            dataset_type=result.dataset,
            dataset_name=" ".join(
                filter(None, (result.dataset, subset, "(partial)" if mark(figures.partial) else ""))
            ),
            dataset_config=subset or None,
            dataset_split=result.split,
            metric_type=metric,
            metric_value=getattr(figures, metric),
            metric_args=result.model_dump(include=conditions, exclude_none=True),
        )
        for result in results
        for subset, figures in result.parts().items()
        for metric in ("nme", "failure_rate", "auc")
    ]


def _data(info: WeightsInfo, settings: dict[str, Any]) -> str:
    if dataset := info.training.get("dataset"):
        model = settings.get("model")
        init = model.get("init") if isinstance(model, dict) else None
        start = f", starting from {_code(init)}, whose terms hold for these weights, too"
        known = "" if init in (None, "", "auto", "scratch") else start
        missing = trained_shortfall(info.training)
        part = (
            f", on part of {_code(missing.get('benchmark'))}: {_code(described(missing))}" if missing else ""
        )
        return f"Trained on the faces of the dataset {_code(dataset)}{part}{known}."
    if isinstance(imported := info.training.get("imported"), dict):
        return (
            f"Converted by `popos import-weights` from the checkpoint {_code(imported.get('file'))} "
            f"(SHA-256 {_code(imported.get('sha256'))}). The file does not say more about its data."
        )
    return "Not stated in the weight file."


def _settings(info: WeightsInfo) -> dict[str, Any]:
    """The run's settings without nulls, which TOML has not, and without folders of the machine."""
    settings = _without_nulls(info.training.get("settings"))
    if not isinstance(settings, dict):
        return {}
    model = settings.get("model")
    if isinstance(model, dict) and re.match(r"[/~\\]|\.\.|[A-Za-z]:", init := str(model.get("init"))):
        model["init"] = re.split(r"[/\\]", init.rstrip("/\\"))[-1]
    return settings


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value if inner is not None]
    return value


def _recipe(info: WeightsInfo, settings: dict[str, Any]) -> str:
    if not settings:
        return ""
    epoch = info.training.get("epoch")
    best = f" These are the weights after epoch {epoch}." if isinstance(epoch, int) and epoch else ""
    toml = tomli_w.dumps(settings).encode(errors="replace").decode().rstrip()
    fence = _fence(toml, 3)
    return f"{RECIPE}{best}\n\n{fence}toml\n{toml}\n{fence}\n"


def _figures(info: WeightsInfo, results: list[MeasuredResult]) -> str:
    parts = []
    nme = info.training.get("val_nme")
    if isinstance(nme, int | float) and math.isfinite(nme):
        normaliser = info.landmark_scheme("weights").normaliser
        test = info.training.get("selected_on") == "test"
        faces = "Test faces, on which this epoch was selected," if test else "Validation faces,"
        missing = trained_mark(trained_shortfall(info.training))
        scale = f"{normaliser}; {_code(missing)}" if missing else normaliser
        parts.append(f"{faces} while training and without the flip test: NME {nme:.2f} % ({scale}).")
    if results:
        rows = [_row(result, *part) for result in results for part in result.parts().items()]
        parts += ["\n".join((COLUMNS, *rows)), ABBREVIATIONS]
    return "\n\n".join(parts or ["None were given."])


def _row(result: MeasuredResult, subset: str, figures: MeasuredFigures) -> str:
    test_set = f"{result.dataset} {result.split}" + (f": {subset}" if subset else "")
    scale = f"{result.normaliser}, {result.threshold:g}"
    measured = beside(scale, figures.partial, result.remark, result.trained_on_partial)
    cells = (
        _code(test_set), _code(result.detector or result.boxes), _code(result.decoder),
        "on" if result.flip_test else "off", str(figures.faces), f"{figures.nme:.2f}",
        f"{figures.failure_rate:.2f}", f"{figures.auc:.2f}", _code(measured), _code(result.averaging),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"
