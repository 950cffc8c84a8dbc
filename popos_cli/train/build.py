"""Settings -> what a training works with: metadata, loaders, optimiser, average, learning rate."""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from ..core.codec import Codec
from ..core.device import pick_device
from ..core.model import IMAGE_SIZE
from ..core.schemes import SCHEMES
from ..data.batches import TrainingBatches
from ..data.crops import REGION, Crops, open_crops
from ..data.dataset import FaceDataset
from ..data.index import Index
from ..data.loader import Loader, ordered_loader
from ..data.partial import shortfall
from ..errors import PoposError, UsageError
from ..processes.world import ALONE, World
from ..weights.info import CodecInfo, CropInfo, WeightsInfo
from .presets import SIGMA
from .settings import AUTO, MACHINE, ScheduleSettings, TrainSettings


def build_info(settings: TrainSettings, index: Index) -> WeightsInfo:
    """The metadata that this run's weights will carry; model and codec are built from it. Raises UsageError
    for a sigma wider than the heatmap."""
    codec = settings.codec
    if codec.sigma > settings.model.resolution:
        raise UsageError(
            f"codec.sigma = {codec.sigma:g}: wider than the heatmap of {settings.model.resolution} pixels",
            "Leave it out: 0 is the width that suits the resolution.",
        )
    builtin = SCHEMES.get(index.scheme.name) == index.scheme
    return WeightsInfo(
        resolution=settings.model.resolution,
        fusion=settings.model.fusion,
        stages=settings.model.stages or None,
        image_size=IMAGE_SIZE,
        scheme=index.scheme.name,
        scheme_definition=None if builtin else index.scheme.to_dict(),
        codec=CodecInfo(
            sigma=codec.sigma or SIGMA[settings.model.resolution],
            decoder=codec.decoder,
            alignment=codec.alignment,
        ),
        crop=CropInfo(padding=settings.model.padding),
        training={
            "dataset": index.name,
            "benchmark": index.notes.get("benchmark"),
            "selected_on": index.validation_split,
            **({"partial": missing} if (missing := shortfall(index, "train")) else {}),
            "settings": settings.model_dump(mode="json", exclude=set(MACHINE)),
        },
    )


def training_crops(settings: TrainSettings, index: Index) -> Crops | None:
    """The crop cache of these faces, where there is one that holds all of training's largest upright crop."""
    augment = settings.augment
    largest = settings.model.padding * (1 + augment.scale_clip * augment.scale)
    return open_crops(index) if largest <= REGION else None


def plain_faces(settings: TrainSettings, index: Index, codec: Codec) -> FaceDataset:
    """Unaugmented crops, from the cache where there is one."""
    crops = training_crops(settings, index)
    return FaceDataset(index, codec.image_width, settings.model.padding, codec.alignment, crops=crops)


def augmented_faces(settings: TrainSettings, index: Index, codec: Codec) -> FaceDataset:
    """Crops as training draws them, from the cache where there is one."""
    return FaceDataset(
        index, codec.image_width, settings.model.padding, codec.alignment, settings.augment, settings.seed,
        crops=training_crops(settings, index),
    )  # fmt: skip


def validation_loader(
    settings: TrainSettings, index: Index, codec: Codec, world: World = ALONE
) -> DataLoader[Any]:
    """Every face of `index` once, unaugmented; this process's share."""
    faces = plain_faces(settings, index, codec)
    return ordered_loader(faces, loader_processes(settings, faces.crops is not None, world), world)


def training_loader(
    settings: TrainSettings, index: Index, codec: Codec, world: World = ALONE
) -> tuple[DataLoader[Any], TrainingBatches]:
    """Augmented batches, in an order of their own each epoch; this process's part of each."""
    faces = augmented_faces(settings, index, codec)
    size = global_batch_size(settings.schedule, len(faces), world.size)
    batches = TrainingBatches(len(faces), size, settings.seed, world.rank, world.size)
    workers = loader_processes(settings, faces.crops is not None, world)
    loader = Loader(
        faces,
        workers,
        batch_sampler=batches,
        persistent_workers=workers > 0,  # a fork at each epoch would copy all memory, page by page
        pin_memory=pick_device(settings.gpus, world.local_rank).type == "cuda",
    )
    return loader, batches


def loader_processes(settings: TrainSettings, cached: bool, world: World = ALONE) -> int:
    """Loader processes of each training process: as set, or a device-dependent default; `cached`: they read
    cached crops.

    On a CPU a loader process takes cores from the network. On two cores that costs more than making a batch
    of cached crops between two steps, 1/20 of a step. Decoding large photos takes longer.
    """
    if settings.workers is not None:
        return settings.workers
    if pick_device(settings.gpus, world.local_rank).type == "cuda":
        return min((os.cpu_count() or 1) // world.local_size, 8)
    return 0 if cached else 2


def global_batch_size(schedule: ScheduleSettings, faces: int, processes: int) -> int:
    """Faces of a step over all processes: as set, or less where the dataset is smaller than that.

    Raises PoposError where it does not divide into equal parts for every process and accumulation.
    """
    assert schedule.batch_size != AUTO  # it has become a number
    parts = processes * schedule.accumulate
    if schedule.batch_size % parts:
        raise PoposError(
            f"schedule.batch_size = {schedule.batch_size}: not divisible by {parts} ({processes} processes x "
            f"{schedule.accumulate} parts)",
            f"Take {max(schedule.batch_size // parts, 1) * parts}.",
        )
    if faces < parts:
        raise PoposError(f"{faces} training faces: too few for {processes} processes x {schedule.accumulate}")
    return min(schedule.batch_size, faces // parts * parts)


def freeze_batch_norms(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)


def build_optimiser(schedule: ScheduleSettings, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW or Adam at the scaled rate; convolutions' weights decay, biases and batch norms do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if schedule.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=scaled_rate(schedule), fused=True)


class Average(AveragedModel):
    """Exponential moving average of a model's parameters and buffers; whole numbers are copied.

    It starts with the first step's weights, not the random ones, and the decay grows to its value from 2/11,
    so that early steps do not weigh long.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, use_buffers=True)
        self.decay = decay
        # Listed once: walking through all modules at each step takes longer than averaging their tensors.
        own, theirs = ([*module.parameters(), *module.buffers()] for module in (self.module, model))
        pairs = list(zip(own, theirs, strict=True))
        self.means = [pair for pair in pairs if pair[0].is_floating_point()]
        self.counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take in one step of `model`, which must be the one that this was made of."""
        count = int(self.n_averaged)
        decay = min(self.decay, (1 + count) / (10 + count)) if count else 0.0
        get_ema_multi_avg_fn(decay)(*map(list, zip(*self.means, strict=True)), count)
        for own, value in self.counts:
            own.copy_(value)
        self.n_averaged += 1


def scaled_rate(schedule: ScheduleSettings) -> float:
    """The peak learning rate for this batch size.

    It grows with the square root of the batch size, the rule for Adam and its kin (Malladi et al. 2022, "On
    the SDEs and Scaling Rules for Adaptive Gradient Algorithms"); SGD's is linear.
    """
    meant_for = schedule.rate_batch or schedule.batch_size
    return schedule.learning_rate * math.sqrt(schedule.batch_size / meant_for)


def rate_factor(schedule: ScheduleSettings, steps_per_epoch: int, epochs: float, steps: int) -> float:
    """Factor of the peak rate after so many epochs (or a fraction of one) and steps: linear warm-up, then a
    cosine down to `floor`, or a division by 10 at each milestone.

    Steps count in a warm-up of `warmup_steps` alone: they depend on the batch size, which a resumed run may
    change. Milestones count from the start of training, so that a long warm-up may still last at the first of
    them, as in mmcv; so does the cosine where the warm-up is in steps.
    """
    in_steps = schedule.warmup_steps > 0
    warmup = schedule.warmup_steps if in_steps else schedule.warmup * steps_per_epoch
    warm = min(((steps if in_steps else epochs * steps_per_epoch) + 1) / (warmup + 1), 1.0)
    if schedule.shape == "step":
        return warm * 0.1 ** sum(epochs / schedule.epochs >= m for m in schedule.milestones)
    begin = 0.0 if in_steps else schedule.warmup
    progress = min(max(epochs - begin, 0) / max(schedule.epochs - begin, 1 / steps_per_epoch), 1)
    return warm * (schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * progress)))
