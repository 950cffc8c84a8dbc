"""The network and its decoder behind one call, by ONNX Runtime (a CPU's default, three times as fast there)
or by torch (GPUs, the flip test, and weights that were not exported)."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.decoded import Decoded
from ..core.schemes import Scheme
from ..errors import PoposError, PoposWarning
from ..processes.place import own_cores
from ..weights.download import check_link, sha256
from ..weights.file_kinds import NOT_OURS, refuse_file
from ..weights.info import METADATA, SOURCE, WeightsInfo, parse_info

Crops = NDArray[np.uint8]  # (N, S, S, 3) RGB


class Runtime(Protocol):
    """crops (N, S, S, 3) uint8 RGB -> `Decoded` NumPy in crop pixels.

    threads: how many calls at once it gains from; any number may share it.
    """

    path: Path
    threads: int
    info: WeightsInfo
    scheme: Scheme

    def __call__(self, crops: Crops) -> Decoded[NDArray[Any]]: ...


def load_runtime(
    path: Path, device: str | None = None, flip_test: bool = False, quick_start: bool = False
) -> Runtime:
    """The engine for a weight file (.safetensors or .onnx) on a device; None: a GPU if there is one.
    quick_start: see `OnnxRuntime`.

    On a CPU a .safetensors file runs in ONNX Runtime where `popos export` wrote its model beside it and it
    has not changed since. Raises PoposError for a file that is not ours; warns of a model beside it that
    cannot be used.
    """
    graph = path.with_suffix(".onnx")
    on_cpu = device == "cpu" or (device is None and not _nvidia_driver())
    if on_cpu and not flip_test and graph.exists():
        try:
            runtime = OnnxRuntime(graph, path, quick_start)
        except PoposError as error:
            if path == graph:
                raise
            warnings.warn(f"{error.message}: {path.name} runs in torch", PoposWarning, stacklevel=3)
        else:
            if path == graph:
                check_link(graph, runtime.metadata)
            if path == graph or runtime.metadata.get(SOURCE) == sha256(path):
                return runtime
    return TorchRuntime(path, device, flip_test)


def _nvidia_driver() -> bool:
    """Whether it is worth the seconds of importing torch to ask it for a GPU."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


class OnnxRuntime:
    """An exported network on the CPU. Needs no torch.

    Each call computes on one thread: eight faces on each of two threads take 1.1 ms a face at R=8, sixteen
    by one call on both take 1.35.
    """

    def __init__(self, graph: Path, path: Path | None = None, quick_start: bool = False) -> None:
        """path: the weights that the graph was made from. quick_start: leave the graph as it is: it loads in
        a third of the time, and each call takes a third longer; for a picture or two."""
        import onnxruntime

        self.graph, self.path, self.threads = graph.absolute(), path or graph, own_cores()
        self.quick_start = quick_start
        options = onnxruntime.SessionOptions()
        if quick_start:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # errors
        try:
            self.session = onnxruntime.InferenceSession(
                str(graph), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own, which have no common base
            raise refuse_file(graph, "ONNX model", str(error).strip().splitlines()[0]) from None
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        if METADATA not in self.metadata:
            raise PoposError(f"{graph}: an ONNX model, not weights of popos", NOT_OURS)
        self.info = parse_info(self.metadata[METADATA], graph)
        self.scheme = self.info.landmark_scheme(str(graph))

    def __reduce__(self) -> tuple[Any, ...]:
        return OnnxRuntime, (self.graph, self.path, self.quick_start)

    def __call__(self, crops: Crops) -> Decoded[NDArray[Any]]:
        images = np.ascontiguousarray(crops.transpose(0, 3, 1, 2))
        if self.session.get_inputs()[0].type == "tensor(float)":
            images = images.astype(np.float32) / 255  # type: ignore[assignment]
        return Decoded(*self.session.run(["points", "scores", "uncertainty"], {"images": images}))


class TorchRuntime:
    """The network in torch, on any of its devices."""

    threads = 1  # torch spreads one call over a CPU's cores

    def __init__(self, path: Path, device: str | None = None, flip_test: bool = False) -> None:
        import torch

        from ..core.device import pick_inference_device
        from ..core.hrnet import fold_batch_norms
        from ..core.inference import mirror_index
        from ..weights.format import read_weights

        self.path, self.device = path, pick_inference_device(device)
        weights = read_weights(path)
        self.codec, self.info, self.scheme = weights.codec, weights.info, weights.scheme
        fold_batch_norms(weights.model)
        self.model = weights.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.flip_index = mirror_index(self.scheme, flip_test, self.device)

    def __call__(self, crops: Crops) -> Decoded[NDArray[Any]]:
        import torch

        from ..core.inference import predict_heatmaps, to_model_input

        batch = to_model_input(torch.from_numpy(crops).permute(0, 3, 1, 2), self.device)
        heatmaps = predict_heatmaps(self.model, batch, self.flip_index, self.codec.alignment)
        if not heatmaps.isfinite().all():
            raise PoposError(f"{self.path}: these weights give heatmaps that are not finite")
        decoded = self.codec.decode(heatmaps)
        return Decoded(*(v.cpu().numpy() for v in (decoded.points, decoded.scores, decoded.uncertainty)))
