"""How steady, how prompt and how exact tracked landmarks are, on labelled photos that move along known paths.

Each frame is the photo warped to its place on the path, with its own noise and its own JPEG, so that the true
place of each landmark is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats, invert, transform
from ..data.index import Index
from ..predict.predictor import Predictor
from ..predict.tracks import Tracker
from ..weights.find import scheme_mismatch

SIZE, RATE = (640, 480), 30.0  # of the film: width and height, frames per second
FACE = 150.0  # pixels, the longer side of the face
LARGEST = 1.35  # times as large it becomes
NOISE, QUALITY = 4.0, 85  # standard deviation in grey levels, and JPEG's
WARM_UP = 5  # frames whose jitter does not count: the filter has seen too few before
SHIFTS = np.arange(-1.0, 2.01, 0.05)  # frames, for the lag


def _starts(time: float) -> float:
    """0, then 1, then 0: at rest for 0.8 of every second, and from one place to the other in between."""
    part = np.clip((time % 1 - 0.4) / 0.2, 0, 1)
    part = part * part * (3 - 2 * part)
    return float(part if int(time) % 2 == 0 else 1 - part)


# Of a time in seconds: right and down in sides of the face, degrees, and how many times as large.
PATHS: dict[str, Callable[[float], tuple[float, float, float, float]]] = {
    "at rest": lambda t: (0, 0, 0, 1),
    "at ease": lambda t: (
        0.25 * np.sin(1.9 * t), 0.1 * np.sin(3.1 * t), 6 * np.sin(2.5 * t), 1 + 0.08 * np.sin(2.2 * t)
    ),
    "shaken": lambda t: (0.4 * np.sin(6.3 * t), 0.1 * np.sin(10.7 * t), 0, 1),
    "turned": lambda t: (0, 0, 20 * np.sin(6.3 * t), 1),
    "zoomed": lambda t: (0, 0, 0, np.exp(0.3 * np.sin(4.4 * t))),
    "starts and stops": lambda t: (0.6 * _starts(t) - 0.3, 0, 0, 1),
}  # fmt: skip


def place(path: str, points: Floats, time: float) -> Floats:
    """The (2, 3) matrix photo -> frame at this time for a face of these landmarks (K, 2)."""
    right, down, degrees, growth = PATHS[path](time)
    low, high = points.min(0), points.max(0)
    scale, angle = growth * FACE / (high - low).max(), np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = np.array(SIZE) / 2 + FACE * np.array([right, down])
    matrix: Floats = np.c_[linear, middle - linear @ (low + high) / 2]
    return matrix


def shrunk(photo: NDArray[np.uint8], points: Floats) -> tuple[Any, Floats]:
    """The photo and its points, the face as large as on any path: bilinear warps then skip no pixels."""
    low, high = points.min(0), points.max(0)
    factor = float(min(LARGEST * FACE / (high - low).max(), 1))
    small = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return small, (points + 0.5) * factor - 0.5


def film(photo: NDArray[np.uint8], points: Floats, path: str, frames: int, seed: int) -> Iterator[Any]:
    """The frames, RGB (480, 640, 3), with their times in seconds. Beyond the photo its border is repeated."""
    rng = np.random.default_rng(seed)
    for time in np.arange(frames) / RATE:
        matrix = place(path, points, time)
        frame = cv2.warpAffine(photo, matrix, SIZE, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        frame = np.clip(frame + rng.normal(0, NOISE, frame.shape), 0, 255).astype(np.uint8)
        packed = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        yield cv2.imdecode(packed, cv2.IMREAD_COLOR), float(time)


def follow(predictor: Predictor, photo: Any, points: Floats, path: str, frames: int, seed: int) -> Floats:
    """The landmarks (2, T, K, 2) in every frame, first the network's and then the smoothed, in frame pixels.
    NaN where no face lies within half a face of the truth."""
    found = np.full((2, frames, len(points), 2), np.nan)
    for row, smooth in enumerate((False, True)):
        tracker = Tracker(predictor, smooth)
        for n, (frame, time) in enumerate(film(photo, points, path, frames, seed)):
            middle = transform(points.mean(0)[None], place(path, points, time))[0]
            faces = tracker(frame, time)  # another one may be near
            off = [float(np.hypot(*(face.points.mean(0) - middle))) for face in faces]
            if faces and min(off) < FACE / 2:
                found[row, n] = faces[int(np.argmin(off))].points
    return found


def measure(found: Floats, points: Floats, normaliser: float, path: str) -> dict[str, Any]:
    """Of one face's landmarks (T, K, 2) in frame pixels: nme and jitter, shares of the normaliser; off (S,),
    the mean squared distance in frame pixels where the truth is SHIFTS frames late; missed, frames.

    Jitter and lag ask how a landmark moves, not where it is: they go by where the network sees it on
    average on the photo.
    """
    times = np.arange(len(found)) / RATE
    on_photo = transform(found, invert(np.stack([place(path, points, time) for time in times])))
    steps = np.diff(on_photo[WARM_UP:], axis=0)
    seen = np.nanmean(on_photo, axis=0)
    late = [
        transform(seen, np.stack([place(path, points, max(time - shift / RATE, 0)) for time in times]))
        for shift in SHIFTS
    ]
    inside = slice(3, None)  # a film begins with its first frame: before it, there is nothing to be late for
    return {
        "nme": float(np.nanmean(np.linalg.norm(on_photo - points, axis=-1))) / normaliser,
        "jitter": float(np.sqrt(np.nanmean((steps**2).sum(-1)))) / normaliser,
        "off": np.array([np.nanmean(((found - where)[inside] ** 2).sum(-1)) for where in late]),
        "missed": int(np.isnan(found).all((1, 2)).sum()),
    }


def bench_tracking(
    predictor: Predictor, index: Index, faces: int, frames: int, seed: int, note: Callable[[int], None]
) -> tuple[list[dict[str, Any]], Floats]:
    """A row for each path, and for each row the first face's landmarks (P, 2, T, K, 2) in frame pixels.

    network, smoothed: nme and jitter (RMS of a landmark's change from frame to frame within the face) in
    percent of the normaliser, means over the faces; lag, frames by which the truth has to be late to fit
    best, None at rest; missed, frames without the face. `note` gets the number of films done. Raises
    PoposError where the dataset has other landmarks than the network.
    """
    if mismatch := scheme_mismatch(str(predictor.runtime.path), predictor.info, index):
        raise mismatch
    labelled = index.select(np.flatnonzero((index.visible > 0).all(1)))
    chosen = labelled.select(np.random.default_rng(seed).permutation(len(labelled))[:faces])
    normalisers = chosen.normalisers()
    rows, examples = [], []
    for path in PATHS:
        results: tuple[list[dict[str, Any]], ...] = ([], [])
        for n in range(len(chosen)):
            photo, points = shrunk(chosen.read_rgb(n), chosen.points[n])
            normaliser = float(normalisers[n] * np.ptp(points) / np.ptp(chosen.points[n]))
            found = follow(predictor, photo, points, path, frames, seed + n)
            for one, result in zip(found, results, strict=True):
                result.append(measure(one, points, normaliser, path))
            if n == 0:
                examples.append(found)
            note(1)
        rows.append({"path": path, "faces": len(chosen), "network": _mean(results[0], path),
                     "smoothed": _mean(results[1], path)})  # fmt: skip
    return rows, np.array(examples)


def _mean(results: list[dict[str, Any]], path: str) -> dict[str, Any]:
    off = np.mean([result["off"] for result in results], axis=0)
    lag = None if path == "at rest" else round(float(SHIFTS[np.argmin(off)]), 2)
    means = {key: 100 * float(np.mean([result[key] for result in results])) for key in ("nme", "jitter")}
    return means | {"lag": lag, "missed": sum(result["missed"] for result in results)}


def save_traces(examples: Floats, file: Path) -> None:
    """Draw what `bench_tracking` gives of the first face: how its last landmark moves to the right, at rest
    and where it starts and stops."""
    from matplotlib.figure import Figure

    from ..evaluate.plots import save_figure

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, path in zip(figure.subplots(1, 2), ("at rest", "starts and stops"), strict=True):
        network, smoothed = examples[list(PATHS).index(path), :, :, -1, 0]
        times = np.arange(len(network)) / RATE
        axes.plot(times, network, ".-", color="tab:orange", linewidth=0.7, markersize=4, label="network")
        axes.plot(times, smoothed, color="tab:blue", linewidth=1.6, label="smoothed")
        axes.set(title=path, xlabel="seconds", ylabel="x of a landmark, pixels")
    axes.legend()
    save_figure(figure, file)
