"""Settings -> objects. Settings end here: what this file returns knows nothing of them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..core.codec import Codec
from ..core.device import pick_device
from ..core.model import IMAGE_SIZE
from ..core.schemes import SCHEMES
from ..data.augment import Augment
from ..data.batches import TrainingBatches
from ..data.crops import REGION, Crops, open_crops
from ..data.dataset import FaceDataset
from ..data.index import Index
from ..data.loader import Loader, batch_bytes, ordered_loader
from ..errors import PoposError, UsageError
from ..processes.world import ALONE, World
from ..weights.format import CodecInfo, CropInfo, WeightsInfo
from .differences import MACHINE
from .flat import Flat
from .presets import SIGMA
from .settings import AUTO, ScheduleSettings, TrainSettings


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
            "settings": settings.model_dump(mode="json", exclude=set(MACHINE)),
        },
    )


def training_crops(settings: TrainSettings, index: Index) -> Crops | None:
    """The crop cache of these faces, where there is one and training's largest crop, upright, is in it."""
    augment = settings.augment
    largest = settings.model.padding * (1 + augment.scale_clip * augment.scale)
    return open_crops(index) if largest <= REGION else None


def validation_loader(
    settings: TrainSettings, index: Index, codec: Codec, world: World = ALONE
) -> DataLoader[Any]:
    """The faces that give the figures which training watches."""
    faces = plain_faces(settings, index, codec)
    return ordered_loader(faces, loader_processes(settings, faces.crops is not None, world), world)


def augmented_faces(settings: TrainSettings, index: Index, codec: Codec) -> FaceDataset:
    """Crops as training draws them, from the cache where there is one."""
    augment = Augment(**settings.augment.model_dump())
    return FaceDataset(
        index, codec.image_width, settings.model.padding, codec.alignment, augment, settings.seed,
        crops=training_crops(settings, index),
    )  # fmt: skip


def plain_faces(settings: TrainSettings, index: Index, codec: Codec) -> FaceDataset:
    """Unaugmented crops, from the cache where there is one."""
    crops = training_crops(settings, index)
    return FaceDataset(index, codec.image_width, settings.model.padding, codec.alignment, crops=crops)


def training_loader(
    settings: TrainSettings, index: Index, codec: Codec, world: World = ALONE
) -> tuple[DataLoader[Any], TrainingBatches]:
    """This process's part of augmented batches, in an order of their own each epoch."""
    faces = augmented_faces(settings, index, codec)
    step = faces_a_step(settings.schedule, len(faces), world.size)
    batches = TrainingBatches(len(faces), step, settings.seed, world.rank, world.size)
    workers = loader_processes(settings, faces.crops is not None, world)
    loader = Loader(
        faces,
        workers,
        batch_bytes(step // world.size, codec.image_width),
        world,
        batch_sampler=batches,
        persistent_workers=True,  # a fork at each epoch would have all memory copied, page by page
        pin_memory=pick_device(settings.gpus, world.local_rank).type == "cuda",
    )
    return loader, batches


def loader_processes(settings: TrainSettings, cached: bool, world: World = ALONE) -> int:
    """Loader processes of each training process: as set, or as many as do it good; `cached`: read crops.

    On a CPU a loader takes the network's cores, whose threads then wait for one another: on two cores that
    costs more than to make a batch of cached crops, 1/20 of a step, in between. Large photos take longer.
    """
    if settings.workers is not None:
        return settings.workers
    if pick_device(settings.gpus, world.local_rank).type == "cuda":
        return min((os.cpu_count() or 1) // world.local_size, 8)
    return 0 if cached else 2


def faces_a_step(schedule: ScheduleSettings, faces: int, processes: int) -> int:
    """The batch over all processes: as set, or less where there are fewer faces than that.

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


def build_optimiser(settings: TrainSettings, flat: Flat) -> torch.optim.Optimizer:
    """AdamW or Adam at the scaled rate, of a model's long tensors; biases and batch norms are not decayed."""
    groups: list[dict[str, Any]] = [
        {"params": [flat.decayed.whole], "weight_decay": settings.schedule.weight_decay},
        {"params": [flat.undecayed.whole], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if settings.schedule.optimiser == "adamw" else torch.optim.Adam
    # fused: one pass over each tensor, a third of the time on a CPU
    return kind(groups, lr=scaled_rate(settings.schedule), fused=True)


def scaled_rate(schedule: ScheduleSettings) -> float:
    """The peak learning rate for this batch size.

    It grows with the square root of the batch: the rule of Adam's kind (Malladi et al. 2022, "On the
    SDEs and Scaling Rules for Adaptive Gradient Algorithms"), where SGD's is linear.
    """
    meant_for = schedule.rate_batch or schedule.batch_size
    return schedule.learning_rate * math.sqrt(schedule.batch_size / meant_for)


def rate_factor(schedule: ScheduleSettings, steps_per_epoch: int) -> Callable[[float, int], float]:
    """(epochs done, steps taken) -> factor of the learning rate: linear warm-up, then cosine to `floor` or
    two steps of 10.

    Epochs may be a fraction. Steps count for a warm-up in steps alone: they depend on the batch size, which
    a resumed run may change. Steps of 10 count from the start of training, so that a long warm-up may still
    last at the first of them, as in mmcv; so does the cosine where the warm-up is in steps.
    """
    in_steps = schedule.warmup_steps > 0
    warmup = schedule.warmup_steps if in_steps else schedule.warmup * steps_per_epoch
    begin = 0.0 if in_steps else schedule.warmup
    fall = max(schedule.epochs - begin, 1 / steps_per_epoch)

    def factor(epochs: float, steps: int) -> float:
        warm = min(((steps if in_steps else epochs * steps_per_epoch) + 1) / (warmup + 1), 1.0)
        if schedule.shape == "step":
            return warm * 0.1 ** sum(epochs / schedule.epochs >= m for m in schedule.milestones)
        progress = min(max(epochs - begin, 0) / fall, 1)
        return warm * (schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * progress)))

    return factor
