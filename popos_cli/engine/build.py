"""Settings -> objects. Settings end here: what this file returns knows nothing of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..core.codec import Codec
from ..core.geometry import Floats
from ..core.schemes import SCHEMES
from ..data.augment import Augment
from ..data.crops import REGION, Crops, open_crops
from ..data.dataset import EpochSampler, FaceDataset
from ..data.index import Index
from ..errors import PoposError
from ..settings.presets import SIGMA
from ..settings.schema import ScheduleSettings, TrainSettings
from ..weights.format import CodecInfo, CropInfo, WeightsInfo
from .interrupt import ignore_interrupts

IMAGE_SIZE = 256
EVALUATION_BATCH = 64


def pick_device(gpus: int | None) -> torch.device:
    """gpus None: a GPU if there is one; 0: the CPU. Raises PoposError for GPUs that are missing."""
    there = torch.cuda.device_count()
    if gpus is not None and gpus > there:
        raise PoposError(
            f"--gpus {gpus}: this machine has {there} usable GPU{'s' if there != 1 else ''}",
            "Use --gpus 0 to train on the CPU." if there == 0 else f"Use --gpus {there}.",
        )
    if gpus is not None and gpus > 1:
        raise PoposError(
            f"--gpus {gpus}: this version trains in one process, on one GPU or the CPU",
            "Use --gpus 1.",
        )
    if gpus == 0 or there == 0:
        return torch.device("cpu")
    return torch.device("cuda", 0)


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """bfloat16 or None (float32). "auto" takes bf16 where the device computes in it: a CPU without
    such instructions emulates it, five times slower than float32."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" or _cpu_has_bf16() else "fp32"
    return torch.bfloat16 if precision == "bf16" else None


def _cpu_has_bf16() -> bool:
    """AVX512-BF16 or AMX; torch has only private names for the question, and not in all versions."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    checks = (getattr(torch.cpu, name, None) for name in names)
    return any(check() for check in checks if check)


def build_info(settings: TrainSettings, index: Index) -> WeightsInfo:
    """The metadata that this run's weights will carry; model and codec are built from it."""
    codec = settings.codec
    builtin = SCHEMES.get(index.scheme.name) == index.scheme
    return WeightsInfo(
        resolution=settings.model.resolution,
        fusion=settings.model.fusion,
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
            "settings": settings.model_dump(mode="json", exclude={"workers", "gpus"}),
        },
    )


def training_crops(settings: TrainSettings, index: Index) -> Crops | None:
    """The crop cache of these faces, where there is one and training's largest crop, upright, is in it."""
    largest = settings.model.padding * math.exp(2 * settings.augment.scale)
    return open_crops(index) if largest <= REGION else None


def evaluation_loader(
    index: Index, codec: Codec, padding: float, workers: int,
    squares: tuple[Floats, Floats] | None = None,
) -> DataLoader[Any]:  # fmt: skip
    """Unaugmented crops of the photos around the index's squares, or around `squares` (centres, sides)."""
    faces = FaceDataset(index, codec.image_width, padding, codec.alignment, squares=squares)
    return ordered_loader(faces, workers)


def validation_loader(settings: TrainSettings, index: Index, codec: Codec) -> DataLoader[Any]:
    """The faces that give the figures which training watches."""
    return ordered_loader(plain_faces(settings, index, codec), settings.workers)


def ordered_loader(faces: Dataset[dict[str, Any]], workers: int) -> DataLoader[Any]:
    """Every face once, in order."""
    return Loader(faces, EVALUATION_BATCH, num_workers=workers, worker_init_fn=start_worker)


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
    settings: TrainSettings, index: Index, codec: Codec
) -> tuple[DataLoader[Any], EpochSampler]:
    """Augmented crops in an order of their own each epoch."""
    faces = augmented_faces(settings, index, codec)
    sampler = EpochSampler(len(faces), settings.seed)
    loader = Loader(
        faces,
        batch_size=min(settings.schedule.batch_size, len(faces)),
        sampler=sampler,
        num_workers=settings.workers,
        worker_init_fn=start_worker,
        persistent_workers=False,  # the sampler's epoch changes between epochs
        drop_last=True,
        pin_memory=torch.cuda.is_available(),
    )
    return loader, sampler


class Loader(DataLoader[Any]):
    """Its processes run OpenCV on one core each: threads of OpenCV's own would fight over the others'.

    The number is set before they begin and taken over by a forked process; changing it there, where
    OpenCV's threads ran before the fork, hangs every other time.
    """

    def __iter__(self) -> Any:
        threads = cv2.getNumThreads()
        if self.num_workers:
            cv2.setNumThreads(1)
        try:
            return super().__iter__()
        finally:
            cv2.setNumThreads(threads)


def start_worker(worker: int) -> None:
    """What a loader process does first."""
    ignore_interrupts()
    cv2.setNumThreads(1)  # where processes are not forked; else they have it from `Loader`


def build_optimiser(settings: TrainSettings, model: torch.nn.Module) -> torch.optim.AdamW:
    """AdamW; biases and batch norms are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    free = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": settings.schedule.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.schedule.learning_rate)


def rate_factor(schedule: ScheduleSettings, steps_per_epoch: int) -> Callable[[int], float]:
    """step -> factor of the learning rate: linear warm-up, then cosine to 0 or two steps of 10."""
    warmup = schedule.warmup * steps_per_epoch
    total = schedule.epochs * steps_per_epoch

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = step / total
        if schedule.shape == "step":
            return 0.1 ** sum(progress >= milestone for milestone in schedule.milestones)
        return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(total - warmup, 1), 1)))

    return factor


def to_model_input(images: Tensor, device: torch.device) -> Tensor:
    """uint8 (N, 3, S, S) -> float32 0..1 on the device, channels last (twice as fast on a CPU)."""
    moved = images.to(device, non_blocking=True)
    return moved.float().div_(255).contiguous(memory_format=torch.channels_last)
