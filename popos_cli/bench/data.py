"""How fast this machine reads an index, photos and cached crops, on one core."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..core.geometry import tight_square, transform
from ..core.model import IMAGE_SIZE, IMAGENET_MEAN, IMAGENET_STD
from ..core.schemes import SCHEMES
from ..data.augment import Augment, to_training_input
from ..data.crops import cache_crops, open_crops
from ..data.dataset import FaceDataset
from ..data.index import Index, load_index, write_index
from ..home import replacing, scratch_folder
from ..prepare.synthetic import prepare_synthetic
from .decoders import TURNS, fastest

INDEX_FACES = 20_000
SECONDS = 2.0  # of turns, at least
BATCH, PADDING = 64, 1.25
# The drawn photos, width and height: 1.3, 1.9 and 3.1 megapixels.
SIZES = ((1280, 1024), (1600, 1200), (2048, 1536))


def bench_data(
    index: Index | None, faces: int, augment: Augment, device: torch.device, told: Callable[[str], None]
) -> dict[str, Any]:
    """Times of `faces` of the index's faces, or of faces in drawn photos where it is None.

    What is written lies in a temporary folder, also the crop cache where the index has none. `told`
    is told what comes next. Everything runs on one core, and the fastest of several turns counts:

    index        faces (20,000) and the seconds it takes to read such an index
    photos       faces; megapixels, the mean; decode_ms, reading and decoding a file with bare OpenCV;
                 sample_ms, making an augmented sample of it; ratio, of these two; faces_per_second
    crops        the same from the crop cache; bytes, the mean file; temporary, whether it was written
                 for this
    photometry   device, batch, faces_per_second: look and normalisation, which training leaves to
                 its device
    """
    cv2.setNumThreads(1)
    with scratch_folder("popos-bench-") as folder:
        told("index")
        found: dict[str, Any] = {"index": _bench_index(folder / "index.npz", device)}
        if index is None:
            told("drawing photos")
            index = _draw_photos(folder / "photos", faces)
        chosen = index.select(np.linspace(0, len(index) - 1, min(faces, len(index))).astype(int))
        told("photos")
        dataset = partial(FaceDataset, chosen, IMAGE_SIZE, PADDING, "center", augment)
        paths = [chosen.root / image for image in chosen.image.tolist()]
        found["photos"] = {"megapixels": float(chosen.size.prod(1).mean() / 1e6), **_bench(paths, dataset())}
        told("cached crops")
        own = open_crops(chosen)
        crops = own or open_crops(chosen, cache_crops(chosen, folder=folder / "crops"))
        assert crops  # just written
        paths = [crops.folder / file for file in crops.files]
        size = round(float(np.mean([path.stat().st_size for path in paths])))
        cached = dataset(crops=crops)
        found["crops"] = {"temporary": own is None, "bytes": size, **_bench(paths, cached)}
        told("photometry")
        found["photometry"] = _bench_device(cached, device)
    return found


def _bench_index(path: Path, device: torch.device) -> dict[str, Any]:
    """Seconds to read an index of 20,000 faces of 68 points."""
    rng = np.random.default_rng(0)
    scheme, count = SCHEMES["300w"], INDEX_FACES
    center, side = rng.uniform(200, 1000, (count, 2)), rng.uniform(50, 600, count)
    points = center[:, None] + rng.uniform(-0.5, 0.5, (count, scheme.landmarks, 2)) * side[:, None, None]
    names = np.array([f"images/{number // 100:04d}/photo_{number:06d}.jpg" for number in range(count)])
    index = Index(
        name="bench", scheme=scheme, root=path.parent, image=names,
        size=np.full((count, 2), 1280, np.int32), points=points,
        visible=np.full(points.shape[:2], 2, np.uint8), center=center, side=side,
        split=np.where(np.arange(count) % 10 < 9, "train", "val"), group=names, source=names,
        subset=np.zeros((count, 0), bool), rect=np.full((count, 4), np.nan),
    )  # fmt: skip
    write_index(index, path)
    return {"faces": count, "seconds": fastest(partial(load_index, path), device)}


def _bench(paths: Sequence[Path], faces: FaceDataset) -> dict[str, Any]:
    """Milliseconds a face: to read and decode its file with bare OpenCV, and to make its sample."""
    decode = _mean_of_best([partial(_decode, path) for path in paths])
    sample = _mean_of_best([partial(faces.__getitem__, face) for face in range(len(faces))])
    return {
        "faces": len(paths), "decode_ms": decode * 1e3, "sample_ms": sample * 1e3,
        "ratio": sample / decode, "faces_per_second": 1 / sample,
    }  # fmt: skip


def _decode(path: Path) -> Any:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)


def _mean_of_best(calls: Sequence[Callable[[], Any]]) -> float:
    """Seconds a call, each call's the fastest of several turns: other programs only slow one down."""
    best = np.full(len(calls), math.inf)
    turns, begun = 0, time.perf_counter()
    while turns < TURNS or time.perf_counter() - begun < SECONDS:
        for n, call in enumerate(calls):
            started = time.perf_counter()
            call()
            best[n] = min(best[n], time.perf_counter() - started)
        turns += 1
    return float(best.mean())


def _bench_device(faces: FaceDataset, device: torch.device) -> dict[str, Any]:
    """What training does to a batch before the network's first layer: look and normalisation."""
    samples = [faces[face % len(faces)] for face in range(BATCH)]
    images, look = (torch.stack([sample[key] for sample in samples]) for key in ("image", "look"))
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))

    def prepare() -> Any:
        return (to_training_input(images, device, look) - mean) / std

    seconds = fastest(prepare, device)
    return {"device": str(device), "batch": BATCH, "faces_per_second": BATCH / seconds}


def _draw_photos(folder: Path, faces: int) -> Index:
    """Photos of one drawn face each, with grain and texture that cost a JPEG as much as real ones do."""
    drawn = prepare_synthetic(folder / "drawn", max(faces, 2), SCHEMES["300w"], seed=0)
    rng = np.random.default_rng(0)
    texture = _texture(rng)
    names, sizes, points = [], [], []
    for face in range(faces):
        width, height = SIZES[face % len(SIZES)]
        tile = drawn.read_bgr(face)
        zoom = rng.uniform(1, 3)
        tile = cv2.resize(tile, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)  # type: ignore[assignment]
        factor = np.array(tile.shape[1::-1]) / drawn.size[face]
        left, top = (rng.random(2) * ((width, height) - np.array(tile.shape[1::-1]))).astype(int)
        photo = np.full((height, width, 3), 128, np.uint8)
        photo[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        photo = cv2.add(photo, texture[:height, :width], dtype=cv2.CV_8U)  # type: ignore[assignment]
        data = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
        path = folder / f"{face:05d}.jpg"
        with replacing(path) as temporary:
            temporary.write_bytes(data.tobytes())
        # Pixel centres: x_photo = (x_tile + .5) * factor - .5 + left
        to_photo = np.column_stack([np.diag(factor), (factor - 1) / 2 + (left, top)])
        names.append(path.name)
        sizes.append((width, height))
        points.append(transform(drawn.points[face], to_photo))
    squares = [tight_square(face) for face in points]
    return replace(
        drawn.select(np.arange(faces)), root=folder, image=np.array(names), size=np.array(sizes, np.int32),
        points=np.array(points), center=np.array([c for c, _ in squares]),
        side=np.array([s for _, s in squares]),
    )  # fmt: skip


def _texture(rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise of the largest photo's size, weaker the finer it is, as in pictures of the world."""
    width, height = SIZES[-1]
    texture = rng.normal(0, 3, (height, width, 3)).astype(np.float32)
    for octave in range(1, 8):
        coarse = rng.normal(0, 3 + octave, (height >> octave, width >> octave, 3)).astype(np.float32)
        texture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return texture
