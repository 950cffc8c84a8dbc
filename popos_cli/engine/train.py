"""The training loop, top to bottom."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..core.codec import Codec
from ..core.losses import heatmap_mse, points_smooth_l1
from ..data.index import Index
from ..errors import PoposError
from ..settings.schema import TrainSettings
from ..weights.format import WeightsInfo, save_weights
from . import build
from .checkpoint import load_state, save_state
from .evaluate import measure
from .runlog import Progress, append_row


def batch_loss(
    heatmaps: torch.Tensor, points: torch.Tensor, codec: Codec, weight: float, beta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Heatmap MSE and `weight` times smooth L1 of decoded points; `points` (N, K, 2) crop px."""
    counted = codec.within_reach(points)
    heatmap_loss = heatmap_mse(heatmaps, codec.encode(points), counted.float())
    if not weight:
        return heatmap_loss, heatmap_loss.new_zeros(())
    truth = torch.where(counted[..., None], codec.to_heatmap(points), 0.0)
    points_loss = points_smooth_l1(codec.locate(heatmaps), truth, counted.float(), beta)
    return heatmap_loss, weight * points_loss


def fit(
    settings: TrainSettings, index: Index, initial: dict[str, Any] | None, run: Path,
    resume: bool, progress: Progress,
) -> float:  # fmt: skip
    """Train on the index's train faces into folder `run`; returns the best validation NME in %.

    Writes best.safetensors and last.safetensors, results.csv and state.ckpt. `initial` is a state
    dictionary of names that the model knows (missing ones start at random). A KeyboardInterrupt
    saves the state first. Raises PoposError when the loss is not finite.
    """
    torch.manual_seed(settings.seed)
    device = build.pick_device(settings.gpus)
    dtype = build.autocast_dtype(settings.precision, device)
    info = build.build_info(settings, index)
    codec = info.build_codec()
    model: torch.nn.Module = info.build_model(index.scheme.landmarks)
    if initial:
        model.load_state_dict(initial, strict=False)
    model = model.to(device, memory_format=torch.channels_last)
    average = AveragedModel(
        model, multi_avg_fn=get_ema_multi_avg_fn(settings.schedule.ema), use_buffers=True
    )
    loader, sampler = build.training_loader(settings, index.of_split("train"), codec)
    if not len(loader):
        raise PoposError(f"dataset {index.name!r} has no training faces")
    validation = index.of_split("val" if "val" in index.splits else "test")
    steps_per_epoch, epochs = len(loader), settings.schedule.epochs
    optimiser = build.build_optimiser(settings, model)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, build.rate_factor(settings.schedule, steps_per_epoch)
    )
    step, best = 0, float("inf")
    if resume:
        state = load_state(run)
        try:
            model.load_state_dict(state["model"])
            average.load_state_dict(state["average"])
            optimiser.load_state_dict(state["optimiser"])
            schedule.load_state_dict(state["schedule"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise PoposError(f"{run}: its checkpoint is of another network: {str(error).splitlines()[0]}") from None
        step, best = state["step"], state["best"]

    def save() -> None:
        parts = {"model": model, "average": average, "optimiser": optimiser, "schedule": schedule}
        states = {name: part.state_dict() for name, part in parts.items()}  # type: ignore[attr-defined]
        save_state(run, {**states, "step": step, "best": best})

    progress.start(epochs * steps_per_epoch, step)
    try:
        while step < epochs * steps_per_epoch:
            epoch = step // steps_per_epoch
            sampler.epoch = epoch
            sampler.start = step % steps_per_epoch * (loader.batch_size or 1)
            started, sums, seen = time.monotonic(), [0.0, 0.0], 0
            model.train()
            for batch in loader:
                images = build.to_model_input(batch["image"], device)
                points = batch["points"].to(device, non_blocking=True)
                with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                    heatmaps = model(images)
                ramp = min(step / max(settings.loss.ramp * steps_per_epoch, 1), 1.0)
                parts = batch_loss(
                    heatmaps.float(), points, codec, settings.loss.points * ramp, settings.loss.beta
                )
                optimiser.zero_grad(set_to_none=True)
                (parts[0] + parts[1]).backward()
                if settings.schedule.clip:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.schedule.clip)
                optimiser.step()
                schedule.step()
                # Young averages follow closely: the decay grows to its final value.
                decay = min(settings.schedule.ema, (1 + step) / (10 + step))
                average.multi_avg_fn = get_ema_multi_avg_fn(decay)
                average.update_parameters(model)
                step += 1
                values = [float(part.detach()) for part in parts]  # synchronises with the GPU
                if not sum(values) < float("inf"):
                    raise PoposError(
                        f"the loss is not finite at epoch {epoch + 1}, step {step}",
                        "Lower schedule.learning_rate, or set schedule.clip to 1.",
                    )
                sums = [s + v for s, v in zip(sums, values, strict=True)]
                seen += len(images)
                progress.step(epoch + 1, sum(values))
            seconds = time.monotonic() - started
            nme = validate(average.module, codec, info, validation, settings.workers, device, dtype)
            if nme < best:
                best = nme
                trained = {**info.training, "epoch": epoch + 1, "val_nme": nme}
                save_weights(run / "best.safetensors", average.module.state_dict(),
                             info.model_copy(update={"training": trained}), half=False)  # fmt: skip
            steps = max(seen // (loader.batch_size or 1), 1)
            row = {
                "epoch": epoch + 1, "loss": sum(sums) / steps, "heatmap_loss": sums[0] / steps,
                "points_loss": sums[1] / steps, "learning_rate": schedule.get_last_lr()[0],
                "val_nme": nme, "best_nme": best, "faces_per_second": seen / seconds,
                "seconds": seconds,
            }  # fmt: skip
            append_row(run, row)
            save()
            progress.epoch(row)
    except KeyboardInterrupt:
        save()
        raise
    trained = {**info.training, "epoch": epochs}
    save_weights(run / "last.safetensors", average.module.state_dict(),
                 info.model_copy(update={"training": trained}), half=False)  # fmt: skip
    return best


def validate(
    model: torch.nn.Module, codec: Codec, info: WeightsInfo, index: Index, workers: int,
    device: torch.device, dtype: torch.dtype | None,
) -> float:  # fmt: skip
    """Mean NME in percent over the index's faces, without the flip test."""
    loader = build.evaluation_loader(index, codec, info.crop.padding, workers)
    found = measure(model, {"own": codec}, loader, device, None, info.label_offset, dtype)
    errors = found["own"].error
    return float(errors[torch.isfinite(torch.from_numpy(errors)).numpy()].mean() * 100)
