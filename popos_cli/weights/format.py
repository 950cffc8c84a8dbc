"""Weights on disk: one .safetensors file that says which network and codec it belongs to."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..core.calibration import Calibration
from ..core.choices import DEFAULT_DECODER, Alignment, DecoderName, Fusion, StemNorm
from ..core.codec import Codec
from ..core.crop_rule import FROM_300W, FROM_LANDMARKS, RULES, SAME, CropRule
from ..core.hrnet import VARIANTS
from ..core.model import IMAGENET_MEAN, IMAGENET_STD, Landmarker
from ..core.schemes import SCHEMES, Scheme
from ..errors import PoposError, UsageError, first_problem
from ..home import replacing
from .file_kinds import refuse_file

FORMAT = 1
Offset = Annotated[float, Field(ge=-1000, le=1000)]
Deviation = Annotated[float, Field(ge=1e-3, le=1000)]
Numbers = tuple[float, ...]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class CodecInfo(_Part):
    """What `Codec` takes beside the sizes; it checks the values."""

    sigma: float = 2.0
    decoder: DecoderName = DEFAULT_DECODER
    alignment: Alignment = "center"


class CropInfo(_Part):
    """The network's crop is a square around the face, `padding` times as wide.

    landmarks: where that square lies about the tight square of its landmarks. detectors: where it lies about
    the box of each detector. None, or left out: not measured.
    """

    padding: Annotated[float, Field(ge=0.5, le=10)] = 1.25
    landmarks: CropRule | None = None
    detectors: dict[str, CropRule] = Field(default_factory=dict)


class Normalisation(_Part):
    mean: tuple[Offset, Offset, Offset] = IMAGENET_MEAN
    std: tuple[Deviation, Deviation, Deviation] = IMAGENET_STD


class UncertaintyInfo(_Part):
    """The numbers of a `Calibration`, which checks them, with the dataset and number of faces behind them."""

    landmarks: Numbers
    own: Numbers
    face: Numbers
    lowest: tuple[Numbers, Numbers]
    highest: tuple[Numbers, Numbers]
    dataset: str
    faces: Annotated[int, Field(ge=1)]


class WeightsInfo(_Part):
    """The `popos` metadata of a weight file; docs/weights.md describes each key.

    label_offset: source pixels, the error of the training labels, subtracted from the network's points.
    scheme_definition: a scheme that is not built in, as plain data. stages: of HRNet, if not the usual ones.
    """

    format: Annotated[int, Field(ge=1)] = FORMAT
    architecture: Literal["hrnet-w18"] = "hrnet-w18"
    stem_norm: StemNorm = "own"
    fusion: Fusion = "nearest"
    stages: Literal[2, 3, 4] | None = None
    resolution: Annotated[int, Field(ge=1)]
    image_size: Annotated[int, Field(ge=32, le=512)] = 256
    scheme: str
    scheme_definition: dict[str, Any] | None = None
    codec: CodecInfo = CodecInfo()
    crop: CropInfo = CropInfo()
    label_offset: tuple[Offset, Offset] = (0.0, 0.0)
    normalisation: Normalisation = Normalisation()
    uncertainty: UncertaintyInfo | None = None
    training: dict[str, Any] = Field(default_factory=dict)

    @field_validator("format")
    @classmethod
    def _not_newer(cls, version: int) -> int:
        if version > FORMAT:
            raise ValueError(f"weight format {version} is newer than this popos reads ({FORMAT})")
        return version

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.build_codec()
        if self.image_size // self.resolution not in VARIANTS:
            sizes = ", ".join(str(self.image_size // stride) for stride in VARIANTS)
            raise ValueError(f"resolution {self.resolution} of a {self.image_size}-pixel crop is not {sizes}")
        if self.codec.sigma > self.resolution:  # a nearly flat heatmap: a fit would put points anywhere
            raise ValueError(
                f"codec.sigma {self.codec.sigma:g} is wider than a heatmap of {self.resolution} pixels"
            )
        return self

    def landmark_scheme(self, where: str) -> Scheme:
        """Raises PoposError, which begins with `where`, for a scheme that is unknown or not valid."""
        if self.scheme_definition is None:
            if self.scheme not in SCHEMES:
                raise PoposError(f"{where}: unknown landmark scheme {self.scheme!r}", "Upgrade popos.")
            return SCHEMES[self.scheme]
        try:
            scheme = Scheme.from_dict(self.scheme_definition, where)
        except UsageError as error:  # not a usage error: the fault is in the file
            raise PoposError(error.message, error.hint) from None
        if scheme.name != self.scheme:
            raise PoposError(f"{where}: its scheme is {self.scheme!r}, but describes {scheme.name!r}")
        return scheme

    def rule_from_300w(self, detector: str) -> CropRule | None:
        """From the tight square of 300W's 68 points, which a detector promises, to this network's square:
        as measured with this detector, else with another one, else by the scheme. None: not known."""
        for name in (detector, *RULES):
            if name in self.crop.detectors and name in RULES:
                return RULES[name].inverse().then(self.crop.detectors[name])
        return FROM_300W.get(self.scheme) if self.scheme_definition is None else None

    @property
    def crop_warning(self) -> str:
        """The warning where `rule_from_300w` gives None."""
        return (
            f"these weights do not say where the landmarks of scheme {self.scheme!r} lie in a detector's "
            "box, so that the crop is a guess (right for 68 points, jaw to brows) and landmarks may be far "
            "off: measure it with popos calibrate, or give boxes of your own"
        )

    def around_landmarks(self) -> CropRule:
        """From the tight square of the landmarks to this network's square."""
        known = FROM_LANDMARKS.get(self.scheme, SAME) if self.scheme_definition is None else SAME
        return self.crop.landmarks or known

    def build_codec(self) -> Codec:
        codec, fitted = self.codec, self.uncertainty
        calibration = Calibration(**fitted.model_dump(exclude={"dataset", "faces"})) if fitted else None
        return Codec(
            self.resolution, self.image_size, codec.sigma, codec.decoder, codec.alignment, calibration
        )

    def build_model(self, landmarks: int) -> Landmarker:
        norm = self.normalisation
        return Landmarker(
            landmarks, self.resolution, self.image_size, self.stem_norm, norm.mean, norm.std, self.fusion,
            self.stages,
        )  # fmt: skip


@dataclass(frozen=True)
class Weights:
    """The content of a weight file. model: eval mode, CPU, float32."""

    model: Landmarker
    codec: Codec
    info: WeightsInfo
    scheme: Scheme


def save_weights(path: Path, state: dict[str, torch.Tensor], info: WeightsInfo, half: bool) -> None:
    """Write a model's state. half=True stores convolutions in float16, which halves the file; biases
    and batch norm stay float32."""
    tensors = {}
    for name, tensor in state.items():
        kept = tensor.detach().cpu().contiguous()
        tensors[name] = kept.half() if half and kept.ndim == 4 else kept
    with replacing(path) as temporary, temporary.open("wb") as file:
        # Not save_file, whose files only their owner may read.
        file.write(save(tensors, {"popos": info.model_dump_json()}))
        file.flush()
        os.fsync(file.fileno())  # on the disk before a checkpoint that refers to these weights


def replace_info(source: Path, target: Path, info: WeightsInfo) -> None:
    """Write a weight file with other metadata to `target`, which may be `source`."""
    save_weights(target, _read_tensors(source), info, half=False)


def read_info(path: Path) -> WeightsInfo:
    """The metadata alone. Raises PoposError where the file is not ours, torn or newer, and where its metadata
    is out of range or inconsistent."""
    with _opened(path) as file:
        metadata, names = file.metadata() or {}, list(file.keys())
    if "popos" not in metadata:
        what = "a safetensors file, but not popos weights (no 'popos' metadata)"
        hint = "Name one that popos wrote: popos train, or popos import-weights for a .pth file of mmpose."
        if is_backbone(names):
            what = "an HRNet backbone (as trained on ImageNet), but landmarks need a face model"
            hint = f"It is where training starts: popos train --weights {path}"
        raise PoposError(f"{path}: {what}", hint)
    try:
        # Strict: JSON's true and "1" are not numbers.
        info = WeightsInfo.model_validate_json(metadata["popos"], strict=True)
    except ValidationError as error:
        raise PoposError(
            f"{path}: its metadata does not describe weights that this popos can run: "
            + ": ".join(filter(None, first_problem(error))),
            "Upgrade popos, or take the file from its source again.",
        ) from None
    scheme = info.landmark_scheme(str(path))
    if info.uncertainty and len(info.uncertainty.landmarks) != scheme.landmarks:
        raise PoposError(
            f"{path}: calibrated for {len(info.uncertainty.landmarks)} landmarks, but its scheme "
            f"{scheme.name!r} has {scheme.landmarks}"
        )
    return info


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """All tensors, floating ones as float32. Raises PoposError where one cannot be a network's."""
    state = {}
    for name, tensor in _read_tensors(path).items():
        if not (tensor.is_floating_point() or name.endswith(".num_batches_tracked")):
            raise PoposError(f"{path}: {name} is of {tensor.dtype}, not of floating-point numbers")
        state[name] = tensor.float() if tensor.is_floating_point() else tensor
    check_values(path, state)
    return state


def check_values(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Raises PoposError for a value with which a network computes nothing useful."""
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise PoposError(f"{path}: {name} has NaN or infinite values", "Take another file.")
        if name.endswith(".running_var") and (tensor < 0).any():
            raise PoposError(f"{path}: {name} has negative values, which no variance has")


def read_weights(path: Path) -> Weights:
    """Raises PoposError for a file that is not ours, or whose tensors do not fit its metadata."""
    info = read_info(path)
    scheme = info.landmark_scheme(str(path))
    state = read_state(path)
    model = info.build_model(scheme.landmarks)
    wanted = tuple(model.state_dict()["head.3.weight"].shape)
    head = tuple(state["head.3.weight"].shape) if "head.3.weight" in state else "missing"
    if head != wanted:
        raise PoposError(
            f"{path}: the head's last tensor, head.3.weight, is {head}, but scheme {scheme.name!r} with "
            f"{scheme.landmarks} landmarks, at resolution {info.resolution}, needs {wanted}"
        )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise PoposError(f"{path}: the tensors are not those of its network: {first}") from None
    return Weights(model.eval(), info.build_codec(), info, scheme)


def is_backbone(names: Collection[str]) -> bool:
    """Whether these are HRNet's tensors without a prefix, as ImageNet weights have them."""
    return {"conv1.weight", "stage2.0.branches.0.0.conv1.weight"} <= set(names)


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as `safe_open` gives it. Raises PoposError for any other kind of file, or a torn one."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise FileNotFoundError
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise refuse_file(path, "safetensors file", error) from None
