"""Weights on disk: one .safetensors file that says what network and codec it belongs to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..core.calibration import FEATURES, Calibration
from ..core.codec import Codec
from ..core.crop_rule import FROM_300W, FROM_LANDMARKS, SAME, CropRule
from ..core.model import IMAGENET_MEAN, IMAGENET_STD, Landmarker
from ..core.schemes import SCHEMES, Scheme
from ..data.home import replacing
from ..detect import RULES
from ..errors import PoposError, UsageError
from .recognise import refuse_file, refuse_tensors

FORMAT = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class CodecInfo(_Part):
    sigma: float = 2.0
    decoder: str = "ml"
    alignment: Literal["center", "mmpose"] = "center"


class CropInfo(_Part):
    """The network's crop is `padding` times a square. landmarks: where that lies about the tight square of
    its landmarks; detectors: about the box of each detector. None, or left out: not measured."""

    padding: float = 1.25
    landmarks: CropRule | None = None
    detectors: dict[str, CropRule] = Field(default_factory=dict)


class Normalisation(_Part):
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


Features = Annotated[tuple[float, ...], Field(min_length=len(FEATURES), max_length=len(FEATURES))]


class UncertaintyInfo(_Part):
    """A `Calibration` (core/calibration.py), and the dataset and number of faces it was fitted to."""

    landmarks: tuple[float, ...]
    own: Features
    face: Features
    lowest: tuple[Features, Features]
    highest: tuple[Features, Features]
    dataset: str
    faces: int


class WeightsInfo(_Part):
    """The `popos` metadata of a weight file; docs/weights.md describes each key.

    label_offset: source pixels that the network's labels were off by, subtracted from its points.
    scheme_definition: the scheme as plain data where it is not a built-in one. stages: how many of HRNet's
    run, where that is not what goes with the resolution.
    """

    format: int = FORMAT
    architecture: Literal["hrnet-w18"] = "hrnet-w18"
    stem_norm: Literal["own", "shared"] = "own"
    fusion: Literal["nearest", "bilinear"] = "nearest"
    stages: Literal[2, 3, 4] | None = None
    resolution: int
    image_size: int = 256
    scheme: str
    scheme_definition: dict[str, Any] | None = None
    codec: CodecInfo = CodecInfo()
    crop: CropInfo = CropInfo()
    label_offset: tuple[float, float] = (0.0, 0.0)
    normalisation: Normalisation = Normalisation()
    uncertainty: UncertaintyInfo | None = None
    training: dict[str, Any] = Field(default_factory=dict)

    def landmark_scheme(self, where: str) -> Scheme:
        if self.scheme_definition is not None:
            try:
                return Scheme.from_dict(self.scheme_definition, where)
            except UsageError as error:  # no flag of the user's is wrong
                raise PoposError(error.message, error.hint) from None
        if self.scheme not in SCHEMES:
            raise PoposError(f"{where}: unknown landmark scheme {self.scheme!r}", "Upgrade popos.")
        return SCHEMES[self.scheme]

    def rule_from_300w(self, detector: str) -> CropRule | None:
        """From the tight square of 300W's 68 points, which a detector promises, to this network's square:
        as measured with this detector, else with another, else by the scheme. None where nobody knows."""
        for name in (detector, *RULES):
            if name in self.crop.detectors and name in RULES:
                return RULES[name].inverse().then(self.crop.detectors[name])
        return FROM_300W.get(self.scheme) if self.scheme_definition is None else None

    @property
    def crop_is_a_guess(self) -> str:
        """What to say where `rule_from_300w` does not know."""
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
        codec, told = self.codec, self.uncertainty
        calibration = Calibration(**told.model_dump(exclude={"dataset", "faces"})) if told else None
        return Codec(
            self.resolution, self.image_size, codec.sigma, codec.decoder, codec.alignment, calibration
        )

    def build_model(self, landmarks: int) -> Landmarker:
        norm = self.normalisation
        return Landmarker(
            landmarks, self.resolution, self.image_size, self.stem_norm, norm.mean, norm.std, self.fusion,
            self.stages,
        )  # fmt: skip


def save_weights(path: Path, state: dict[str, torch.Tensor], info: WeightsInfo, half: bool) -> None:
    """Write a model's state. half=True stores convolutions in float16, halving the file; biases
    and batch norm stay float32."""
    tensors = {}
    for name, tensor in state.items():
        kept = tensor.detach().cpu().contiguous()
        tensors[name] = kept.half() if half and kept.ndim == 4 else kept
    _write(path, tensors, info)


def replace_info(source: Path, target: Path, info: WeightsInfo) -> None:
    """Write a weight file with other metadata to `target`, which may be `source`."""
    _write(target, _read_tensors(source), info)


def _write(path: Path, tensors: dict[str, torch.Tensor], info: WeightsInfo) -> None:
    metadata = {"popos": info.model_dump_json()}
    with replacing(path) as temporary, temporary.open("wb") as file:
        # Not save_file: it makes files that their owner alone may read.
        file.write(save(tensors, metadata))
        file.flush()
        os.fsync(file.fileno())  # a checkpoint that knows these weights must not outlive them


def read_info(path: Path) -> WeightsInfo:
    """The metadata alone. Raises PoposError where the file is not ours, torn, or newer."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
    except FileNotFoundError:
        raise PoposError(f"{path}: no such weight file") from None
    except (SafetensorError, OSError) as error:
        raise refuse_file(path, error) from None
    if "popos" not in metadata:
        raise refuse_tensors(path, names)
    try:
        data = json.loads(metadata["popos"])
        if isinstance(data, dict) and data.get("format", 0) > FORMAT:
            raise PoposError(
                f"{path}: weight format {data['format']} is newer than this popos reads ({FORMAT})",
                "Upgrade popos.",
            )
        return WeightsInfo.model_validate(data)
    except (ValueError, TypeError) as error:
        what = str(error)
        if isinstance(error, ValidationError):  # its own text has several lines and a link
            first = error.errors()[0]
            what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise PoposError(f"{path}: its metadata does not describe popos weights: {what}") from None


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """All tensors, floating ones as float32."""
    return {k: v.float() if v.is_floating_point() else v for k, v in _read_tensors(path).items()}


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise refuse_file(path, error) from None


def read_weights(path: Path) -> tuple[Landmarker, Codec, WeightsInfo, Scheme]:
    """Model (eval mode, CPU, float32), its codec, metadata and scheme."""
    info = read_info(path)
    scheme = info.landmark_scheme(str(path))
    try:
        codec, model = info.build_codec(), info.build_model(scheme.landmarks)
    except ValueError as error:
        raise PoposError(f"{path}: this popos cannot run these weights: {error}", "Upgrade popos.") from None
    state = read_state(path)
    bias = state.get("head.3.bias")
    if bias is not None and bias.numel() != scheme.landmarks:
        raise PoposError(
            f"{path}: finds {bias.numel()} landmarks, but its scheme {scheme.name!r} has {scheme.landmarks}"
        )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise PoposError(f"{path}: the tensors are not those of its network: {first}") from None
    return model.eval(), codec, info, scheme
