"""How fast `popos predict` is on this machine, by stage and whole, and beside other programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.choices import DetectorName
from ..predict.pipeline import predict_sources
from ..predict.predictor import Predictor
from ..predict.runtime import TorchRuntime
from ..predict.sources import expand

ENGINES = ("onnx", "torch")
Picture = NDArray[np.uint8]


def bench_predict(
    sources: list[str], weights: list[str], detector: DetectorName, turns: int, note: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """A row for each of the weights in each engine, on the CPU; then one for each program beside ours that is
    installed.

    name; engine; read, detect, passes, entry: ms a picture of each stage on one thread, where passes is the
    network with its crops and decoder, and entry the plain data for JSON; photo: ms a picture of the whole
    command's pipeline on every core; faces. The fastest of `turns` counts: other programs on the machine only
    ever slow one down.
    """
    paths = [source.path for source in expand(sources)]
    for name in weights:
        for engine in ENGINES:
            note(f"{name}, {engine}")
            predictor = Predictor(name, "cpu", detector)
            if engine == "torch":
                predictor.runtime = TorchRuntime(predictor.runtime.path, "cpu")
            yield {"name": name, "engine": engine, **_stages(predictor, paths, turns)} | {
                "photo": _fastest(
                    lambda p=predictor: list(predict_sources(p, expand(sources))), len(paths), turns
                )
            }
    for name, run in PEERS.items():
        if find_spec(name):
            note(name)
            yield {"name": name, "engine": "", "photo": _fastest(run(paths), len(paths), turns)}


def _fastest(run: Callable[[], Any], pictures: int, turns: int) -> float:
    """ms a picture of the fastest of some turns, after one that does not count."""
    run()
    seconds = []
    for _ in range(turns):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds) / pictures * 1e3
