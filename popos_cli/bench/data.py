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

from ..core.geometry import tight_square
from ..core.inference import to_model_input
from ..core.model import IMAGE_SIZE
from ..core.schemes import SCHEMES
from ..data.augment import Augment
from ..data.crops import cache_crops, open_crops
from ..data.dataset import FaceDataset
from ..data.index import Index, load_index, write_index
from ..home import replacing, scratch_folder
from ..prepare.synthetic import prepare_synthetic
from .decoders import TURNS, fastest

INDEX_FACES = 20_000
SECONDS = 2.0  # of turns, at least
BATCH, PADDING = 64, 1.25
SIZES = ((1280, 1024), (1600, 1200), (2048, 1536))  # of the drawn photos, width and height


def bench_data(
    index: Index | None, faces: int, device: torch.device, note: Callable[[str], None]
) -> dict[str, Any]:
    """Times of `faces` of the index's faces, or of faces in drawn photos where it is None.

    What is written lies in a temporary folder, also the crop cache where the index has none. `note` gets the
    name of each part before it runs. All runs on one core, and the fastest of several turns counts:

    index   faces (20,000) and the seconds it takes to read such an index
    photos  faces; megapixels, the mean; decode_ms, reading and decoding a file with bare OpenCV; sample_ms,
            making an augmented sample of it; ratio, of these two; faces_per_second
    crops   the same from the crop cache; bytes, the mean file; temporary, whether it was written for this
    input   device, batch, faces_per_second: bytes to the network's floats, on the training device
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with scratch_folder("popos-bench-") as folder:
        note("index")
        found: dict[str, Any] = {"index": _bench_index(folder / "index.npz", device)}
        if index is None:
            note("drawing photos")
            index = _draw_photos(folder / "photos", faces)
        chosen = index.select(np.linspace(0, len(index) - 1, min(faces, len(index))).astype(int))
        note("photos")
        dataset = partial(FaceDataset, chosen, IMAGE_SIZE, PADDING, "center", Augment())
        paths = [chosen.root / image for image in chosen.image.tolist()]
        found["photos"] = {"megapixels": float(chosen.size.prod(1).mean() / 1e6), **_bench(paths, dataset())}
        note("cached crops")
        own = open_crops(chosen)
        crops = own or open_crops(chosen, cache_crops(chosen, folder=folder / "crops"))
        assert crops  # just written
        paths = [crops.folder / file for file in crops.files]
        size = round(float(np.mean([path.stat().st_size for path in paths])))
        cached = dataset(crops=crops)
        found["crops"] = {"temporary": own is None, "bytes": size, **_bench(paths, cached)}
        note("input")
        images = torch.stack([cached[face % len(cached)]["image"] for face in range(BATCH)])
        seconds = fastest(partial(to_model_input, images, device), device)
        found["input"] = {"device": str(device), "batch": BATCH, "faces_per_second": BATCH / seconds}
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
    """Milliseconds per face: to read and decode its file with bare OpenCV, and to make its sample."""
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
    """Seconds per call: the mean over the calls of each one's fastest of several turns."""
    best = np.full(len(calls), math.inf)
    turns, begun = 0, time.perf_counter()
    while turns < TURNS or time.perf_counter() - begun < SECONDS:
        for n, call in enumerate(calls):
            started = time.perf_counter()
            call()
            best[n] = min(best[n], time.perf_counter() - started)
        turns += 1
    return float(best.mean())


def _draw_photos(folder: Path, faces: int) -> Index:
    """Photos of one drawn face each, with grain and texture that cost a JPEG as much as real ones do."""
    drawn = prepare_synthetic(folder / "drawn", max(faces, 2), SCHEMES["300w"], seed=0)
    drawn = drawn.select(np.arange(faces))
    sizes = np.array([SIZES[face % len(SIZES)] for face in range(faces)], np.int32)
    points = (drawn.points + 0.5) * (sizes / drawn.size)[:, None] - 0.5  # pixel centres at integers
    names = [f"{face:05d}.jpg" for face in range(faces)]
    texture = _texture(np.random.default_rng(0))
    for face, (name, (width, height)) in enumerate(zip(names, sizes.tolist(), strict=True)):
        photo = cv2.resize(drawn.read_bgr(face), (width, height), interpolation=cv2.INTER_CUBIC)
        photo = cv2.add(photo, texture[:height, :width], dtype=cv2.CV_8U)
        with replacing(folder / name) as temporary:
            cv2.imwrite(str(temporary), photo, (cv2.IMWRITE_JPEG_QUALITY, 92))
    centers, sides = zip(*map(tight_square, points), strict=True)
    return replace(
        drawn, root=folder, image=np.array(names), size=sizes, points=points, center=np.array(centers),
        side=np.array(sides),
    )  # fmt: skip


def _texture(rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise of the largest photo's size, weaker the finer it is, as in real photos."""
    width, height = SIZES[-1]
    texture = rng.normal(0, 3, (height, width, 3)).astype(np.float32)
    for octave in range(1, 8):
        coarse = rng.normal(0, 3 + octave, (height >> octave, width >> octave, 3)).astype(np.float32)
        texture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return texture
