"""What a weight file says about its network and codec. Needs no torch until one of them is built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..core.choices import (
    DEFAULT_DECODER,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Alignment,
    DecoderName,
    Fusion,
    StemNorm,
)
from ..core.crop_rule import FROM_300W, FROM_LANDMARKS, RULES, SAME, CropRule
from ..core.schemes import SCHEMES, Scheme
from ..errors import PoposError, UsageError, first_problem

if TYPE_CHECKING:
    from ..core.codec import Codec
    from ..core.model import Landmarker

FORMAT = 1
# Keys of an exported model's metadata: `WeightsInfo` as JSON, and the SHA-256 of the file it was made from.
# LINKED: the name of that file, where the model takes its tensors from it.
METADATA, SOURCE, LINKED = "popos", "popos_source", "popos_linked"
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
    """The `popos` metadata of a weight file; docs/reference/formats.md describes each key.

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

    def check(self) -> None:
        """Raises ValueError where the parts do not fit together. (This needs torch.)"""
        from ..core.hrnet import VARIANTS

        self.build_codec()
        if self.image_size // self.resolution not in VARIANTS:
            sizes = ", ".join(str(self.image_size // stride) for stride in VARIANTS)
            raise ValueError(f"resolution {self.resolution} of a {self.image_size}-pixel crop is not {sizes}")
        if self.codec.sigma > self.resolution:  # a nearly flat heatmap: a fit would put points anywhere
            raise ValueError(
                f"codec.sigma {self.codec.sigma:g} is wider than a heatmap of {self.resolution} pixels"
            )

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
        from ..core.calibration import Calibration
        from ..core.codec import Codec

        codec, fitted = self.codec, self.uncertainty
        calibration = Calibration(**fitted.model_dump(exclude={"dataset", "faces"})) if fitted else None
        return Codec(
            self.resolution, self.image_size, codec.sigma, codec.decoder, codec.alignment, calibration
        )

    def build_model(self, landmarks: int) -> Landmarker:
        from ..core.model import Landmarker

        norm = self.normalisation
        return Landmarker(
            landmarks, self.resolution, self.image_size, self.stem_norm, norm.mean, norm.std, self.fusion,
            self.stages,
        )  # fmt: skip


def parse_info(text: str, path: Path) -> WeightsInfo:
    """The metadata of the weight file `path`. Raises PoposError."""
    try:
        return WeightsInfo.model_validate_json(text, strict=True)  # JSON's true and "1" are not numbers
    except ValidationError as error:
        raise bad_metadata(path, ": ".join(filter(None, first_problem(error)))) from None


def bad_metadata(path: Path, problem: str) -> PoposError:
    return PoposError(
        f"{path}: its metadata does not describe weights that this popos can run: {problem}",
        "Upgrade popos, or take the file from its source again.",
    )
