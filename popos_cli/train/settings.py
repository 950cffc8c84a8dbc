"""Everything that a training run lets a user choose, with unit and range of each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ..core.choices import DEFAULT_DECODER, Alignment, DecoderName, Fusion, Resolution
from ..data.augment import Augment

# Environment variables and --set give text, which pydantic turns into an int but not into a literal one.
_NUMBER = BeforeValidator(lambda value: int(value) if isinstance(value, str) and value.isdecimal() else value)
Recipe = Literal["popos", "reference"]
Share = Annotated[float, Field(gt=0, le=1)]
AUTO = 0  # as a batch size: to be measured
# Settings of how a run is carried out, which do not change what comes of it.
MACHINE = frozenset({"gpus", "processes", "workers", "checkpoint_minutes", "tensorboard"})


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _wide_enough(sigma: float) -> float:
    if 0 < sigma < 0.1:
        raise ValueError("must be 0 or at least 0.1: a narrower Gaussian falls between the pixels")
    return sigma


class CodecSettings(Frozen):
    sigma: Annotated[float, AfterValidator(_wide_enough)] = Field(
        0.0, ge=0, le=256, description="Gaussian's standard deviation, heatmap pixels; 0: by resolution"
    )
    decoder: DecoderName = Field(DEFAULT_DECODER, description="rule that turns heatmaps into points")
    alignment: Alignment = Field(
        "center",
        description="where heatmap pixel i sits on the crop: (i + .5) * stride - .5, i * stride, "
        "or (i + .5) * stride + .5",
    )


class ModelSettings(Frozen):
    resolution: Annotated[Resolution, _NUMBER] = Field(64, description="heatmap width and height, pixels")
    padding: float = Field(1.25, ge=1, le=3, description="crop side over the face square's side")
    fusion: Fusion = Field(
        "nearest",
        description="how coarser branches are enlarged: nearest (ImageNet's network, ours) or bilinear "
        "(mmpose's and POPoS's face models)",
    )
    stages: Annotated[Literal[0, 2, 3, 4], _NUMBER] = Field(
        0, description="stages of HRNet; 0: 4, but 3 at resolution 8 and 2 at 4, as published"
    )
    init: str = Field(
        "auto",
        description="first weights: auto (ImageNet if the Hub can be reached, else scratch), scratch, or a "
        "weights name or file to fine-tune",
    )


class LossSettings(Frozen):
    heatmap: Literal["mse", "huber", "adaptive-wing"] = Field(
        "mse", description="loss on heatmaps; the terms below are added to it"
    )
    huber_delta: float = Field(0.6, gt=0, description="huber: where it turns linear, heatmap height")
    points: float = Field(0.02, ge=0, description="weight of the smooth-L1 loss on decoded points; 0 is off")
    beta: float = Field(0.1, gt=0, description="where that smooth L1 turns linear, heatmap pixels")
    anchor: float = Field(
        0.0, ge=0, description="weight of the loss on distances at a decoder's anchors; 0 is off"
    )
    sinkhorn: float = Field(
        0.0, ge=0, description="weight of the Sinkhorn divergence (needs geomloss); 0 is off"
    )
    ramp: float = Field(3.0, ge=0, description="epochs over which points' and anchor's weights rise from 0")


class ScheduleSettings(Frozen):
    epochs: int = Field(60, ge=1, le=100_000, description="passes over the training faces")
    batch_size: Annotated[int, BeforeValidator(lambda value: AUTO if value == "auto" else value)] = Field(
        32,
        ge=0,
        le=65_536,
        description="faces per step, over all GPUs or processes; auto or 0: as many as fit, at most 256",
    )
    accumulate: int = Field(
        1,
        ge=1,
        le=4096,
        description="parts into which a step's faces are divided, one after the other in memory",
    )
    optimiser: Literal["adamw", "adam"] = Field(
        "adamw", description="adamw decays weights beside the gradient, adam (the reference's) within it"
    )
    learning_rate: float = Field(1e-3, gt=0, le=1, description="peak rate for rate_batch faces per step")
    rate_batch: int = Field(
        32,
        ge=0,
        description="faces per step that learning_rate is meant for; other batch sizes scale it by the "
        "square root of their ratio; 0 is off",
    )
    weight_decay: float = Field(0.01, ge=0, le=1, description="of convolutions, not of biases and norms")
    warmup: float = Field(1.0, ge=0, description="epochs of linear warm-up")
    warmup_steps: int = Field(
        0, ge=0, description="steps of linear warm-up, instead of warmup's epochs; 0: those epochs"
    )
    shape: Literal["cosine", "step"] = Field("cosine", description="how the rate falls after warm-up")
    floor: float = Field(0.0, ge=0, lt=1, description="cosine: share of the peak rate that it ends at")
    milestones: tuple[Share, Share] = Field(
        (0.67, 0.92), description="step: shares of the epochs after which the rate is divided by 10"
    )
    ema: float = Field(0.998, ge=0, lt=1, description="decay per step of the averaged weights; 0 is off")
    clip: float = Field(0.0, ge=0, description="largest gradient norm; 0 is off")
    patience: int = Field(
        0, ge=0, description="epochs without a better validation NME that end training; 0 is off"
    )
    freeze_batch_norm: bool = Field(
        False, description="keep the batch norms of the first weights (for fine-tuning in small batches)"
    )


class TrainSettings(Frozen):
    """One training run; `popos train --dry-run` prints it as TOML."""

    dataset: str = Field(min_length=1, description="prepared dataset")
    recipe: Recipe = Field(
        "popos", description="preset: popos (ours) or reference (the published training, as far as known)"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="fixes order, augmentation and first weights")
    gpus: int | None = Field(
        None, ge=0, description="GPUs; 0 is the CPU; absent: all there are, else the CPU"
    )
    processes: int = Field(1, ge=1, le=1024, description="training processes where gpus is 0")
    workers: int | None = Field(
        None, ge=0, le=128,
        description="loader processes of each training process; absent: on a GPU its share of the cores, at "
        "most 8, on the CPU 2, but none where crops are cached",
    )  # fmt: skip
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 on a GPU and on CPUs that compute in it, else fp32"
    )
    compile: bool = Field(False, description="torch.compile the network: minutes first, faster steps then")
    checkpoint_minutes: float = Field(
        5.0, gt=0, description="longest time between two checkpoints: what a power cut costs"
    )
    tensorboard: bool = Field(False, description="also write TensorBoard's event files")
    model: ModelSettings = ModelSettings()
    codec: CodecSettings = CodecSettings()
    augment: Augment = Augment()
    loss: LossSettings = LossSettings()
    schedule: ScheduleSettings = ScheduleSettings()
