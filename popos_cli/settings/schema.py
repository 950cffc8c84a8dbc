"""Everything that a training run lets a user choose, with unit and range of each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

# Environment variables and --set give text, which pydantic turns into an int but not into a literal one.
Resolution = Annotated[
    Literal[64, 32, 16, 8, 4],
    BeforeValidator(lambda value: int(value) if isinstance(value, str) and value.isdecimal() else value),
]
RESOLUTIONS = (64, 32, 16, 8, 4)
DecoderName = Literal["one-hot", "two-hot", "dark", "keyposs", "gauss-newton", "popos", "ml"]
Share = Annotated[float, Field(gt=0, le=1)]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CodecSettings(Frozen):
    sigma: float | None = Field(
        None, gt=0, description="Gaussian's standard deviation, heatmap pixels; absent: by resolution"
    )
    decoder: DecoderName = Field("ml", description="rule that turns heatmaps into points")
    alignment: Literal["center", "mmpose"] = Field(
        "center", description="where heatmap pixel i sits on the crop: (i + .5) * stride - .5, or i * stride"
    )


class ModelSettings(Frozen):
    resolution: Resolution = Field(64, description="heatmap width and height, pixels")
    padding: float = Field(1.25, ge=1, le=3, description="crop side over the face square's side")
    fusion: Literal["nearest", "bilinear"] = Field(
        "nearest",
        description="how coarser branches are enlarged: nearest (ImageNet's network, ours) or bilinear "
        "(mmpose's and POPoS's face models)",
    )
    init: str = Field(
        "auto",
        description="where weights start: auto (ImageNet if the Hub can be reached, else scratch), "
        "scratch, or a weights name or file to fine-tune",
    )


class AugmentSettings(Frozen):
    rotation: float = Field(
        15.0, ge=0, le=90, description="standard deviation, degrees, clipped at twice that"
    )
    scale: float = Field(
        0.1, ge=0, le=0.5, description="standard deviation of the log of the side, clipped at twice that"
    )
    shift: float = Field(
        0.04, ge=0, le=0.5, description="standard deviation, fraction of the side, clipped at twice that"
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a mirror image")
    brightness: float = Field(0.4, ge=0, le=1, description="factor drawn from 1 - v to 1 + v")
    contrast: float = Field(0.4, ge=0, le=1, description="factor drawn from 1 - v to 1 + v")
    saturation: float = Field(0.4, ge=0, le=1, description="factor drawn from 1 - v to 1 + v")
    grey: float = Field(0.1, ge=0, le=1, description="probability of a grey picture")
    blur: float = Field(0.2, ge=0, le=1, description="probability of a low-resolution picture")
    occlusion: float = Field(0.3, ge=0, le=1, description="probability of an occluding patch")


class LossSettings(Frozen):
    points: float = Field(
        0.02, ge=0, description="weight of the smooth-L1 loss on decoded points, beside heatmap MSE"
    )
    beta: float = Field(0.1, gt=0, description="where smooth L1 turns linear, heatmap pixels")
    ramp: float = Field(3.0, ge=0, description="epochs over which the points' weight rises from 0")


class ScheduleSettings(Frozen):
    epochs: int = Field(60, ge=1, le=100_000, description="passes over the training faces")
    batch_size: int = Field(32, ge=1, le=65_536, description="faces a step")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="AdamW's peak rate")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's decoupled weight decay")
    warmup: float = Field(1.0, ge=0, description="epochs of linear warm-up")
    shape: Literal["cosine", "step"] = Field("cosine", description="how the rate falls after warm-up")
    milestones: tuple[Share, Share] = Field(
        (0.67, 0.92), description="step: shares of the epochs after which the rate is divided by 10"
    )
    ema: float = Field(0.998, ge=0, lt=1, description="decay a step of the averaged weights; 0 is off")
    clip: float = Field(0.0, ge=0, description="largest gradient norm; 0 is off")


class TrainSettings(Frozen):
    """One training run; `popos train --dry-run` prints it as TOML."""

    dataset: str = Field(min_length=1, description="prepared dataset")
    seed: int = Field(0, ge=0, lt=2**32, description="fixes order, augmentation and first weights")
    gpus: int | None = Field(
        None, ge=0, description="GPUs; 0 is the CPU; absent: all there are, else the CPU"
    )
    workers: int = Field(2, ge=0, le=128, description="loader processes")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 on a GPU and on CPUs that compute in it, else fp32"
    )
    model: ModelSettings = ModelSettings()
    codec: CodecSettings = CodecSettings()
    augment: AugmentSettings = AugmentSettings()
    loss: LossSettings = LossSettings()
    schedule: ScheduleSettings = ScheduleSettings()
