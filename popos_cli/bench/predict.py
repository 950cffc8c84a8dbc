"""How fast `popos predict` is on this machine: by stage, whole, at its start, and beside other programs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2

from ..core.choices import DetectorName
from ..data.pictures import read_image
from ..errors import PoposError, UsageError
from ..predict.frames import Source
from ..predict.pipeline import BATCH, predict_sources
from ..predict.predictor import Predictor
from ..predict.run import Outputs, run_prediction
from ..predict.runtime import TorchRuntime
from ..weights.find import find_weights

ENGINES = ("onnx", "torch")
LIBRARIES = "import onnxruntime, cv2, numpy"  # what a cold start is compared with


def bench_predict(
    sources: list[Source], weights: list[str], detector: DetectorName, turns: int, note: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """A row for each of the weights in each engine, on the CPU; then one for each other program that is
    installed.

    name, engine, faces. read, detect, passes: ms a picture of these stages on one thread, as many pictures
    together as in `popos predict`; passes is crops, network and decoder. total: ms a picture of the whole, on
    all cores; written: with overlays and JSON. start: seconds of the first picture, from the shell, and
    libraries, of importing what it needs. Of several turns the fastest counts: other programs on the machine
    only ever slow one down. Raises PoposError for a picture that cannot be read, UsageError for none.
    """
    if not sources:
        raise UsageError("the speed of predict is measured on pictures, and no picture was named")
    paths = [Path(source.name) for source in sources]
    for name in weights:
        for engine in ENGINES:
            note(f"{name}, {engine}")
            predictor = Predictor(name, "cpu", detector)
            if engine == "torch":
                predictor.runtime = TorchRuntime(find_weights(name), "cpu")
            row = {"name": name, "engine": engine, **_stages(predictor, paths, turns)}
            row["total"] = _fastest(partial(_predict, predictor, sources), paths, turns)
            row["written"] = _fastest(partial(_write, predictor, sources), paths, turns)
            if engine == "onnx":
                command = ["-m", "popos_cli", "predict", str(paths[0]), "--json", "--weights", name]
                row["start"] = _start([*command, "--device", "cpu", "--detector", detector], turns)
                row["libraries"] = _start(["-c", LIBRARIES], turns)
            yield row
    for name, begin in PEERS.items():
        if find_spec(name):
            note(name)
            yield {
                "name": name,
                "engine": "",
                "total": _fastest(partial(_peer, begin(), paths), paths, turns),
            }


def _stages(predictor: Predictor, paths: list[Path], turns: int) -> dict[str, Any]:
    images = [read_image(path, upright=True) for path in paths]
    found = [predictor.detect(image) for image in images]
    batches = [range(first, min(first + BATCH, len(paths))) for first in range(0, len(paths), BATCH)]

    def locate() -> None:
        for batch in batches:
            pairs = [(images[n], detection) for n in batch for detection in found[n]]
            predictor.locate([image for image, _ in pairs], [detection for _, detection in pairs], threads=1)

    return {
        "faces": sum(map(len, found)),
        "read": _fastest(lambda: [read_image(path, upright=True) for path in paths], paths, turns),
        "detect": _fastest(lambda: [predictor.detect(image) for image in images], paths, turns),
        "passes": _fastest(locate, paths, turns),
    }


def _fastest(run: Callable[[], Any], paths: list[Path], turns: int) -> float:
    """ms a picture of the fastest turn."""
    return _seconds(run, turns) / len(paths) * 1e3


def _seconds(run: Callable[[], Any], turns: int) -> float:
    """Of the fastest turn."""
    seconds = []
    for _ in range(turns):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _predict(predictor: Predictor, sources: list[Source]) -> None:
    _use_up(predict_sources(predictor, sources))


def _use_up(results: Iterator[Any]) -> None:
    for result in results:
        if result.error:
            raise PoposError(result.error)


def _write(predictor: Predictor, sources: list[Source]) -> None:
    head = {"weights": "", "scheme": predictor.scheme.name, "groups": predictor.scheme.groups}
    with tempfile.TemporaryDirectory() as folder:
        _use_up(run_prediction(predictor, sources, Outputs(head, Path(folder))))


def _start(arguments: list[str], turns: int) -> float:
    """Seconds of the fastest run of Python."""
    run = partial(subprocess.run, [sys.executable, *arguments], check=True, capture_output=True)
    return _seconds(run, turns)


def _peer(find: Callable[[Any], Any], paths: list[Path]) -> None:
    for path in paths:
        find(cv2.imread(str(path)))


def _mediapipe() -> Callable[[Any], Any]:
    import mediapipe  # type: ignore[import-not-found]

    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=5)
    return lambda image: mesh.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


# Programs beside ours: a function that loads one, for BGR pictures (H, W, 3).
PEERS: dict[str, Callable[[], Callable[[Any], Any]]] = {"mediapipe": _mediapipe}
