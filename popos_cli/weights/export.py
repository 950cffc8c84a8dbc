"""Weights -> one ONNX model: crops in; points, scores and uncertainty out.

torch traces network and decoder, so that there is no second description of either. Batch norms stay apart
from convolutions, and every tensor keeps its name: an exported file is a weight file too, out of which the
network can be read again. Runtimes fold the batch norms when they load the model.
"""

from __future__ import annotations

import json
import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx_ir.passes import common as passes
from onnxscript import optimizer
from torch import Tensor, nn

from ..core.choices import ExportInput
from ..core.schemes import SCHEMES
from ..errors import PoposError, UsageError
from ..home import replacing
from ..prepare.synthetic import draw_face
from .download import sha256
from .find import find_weights
from .format import Weights, read_weights
from .info import LINKED, METADATA, SOURCE

PARITY = 0.01  # crop pixels by which the exported points may differ from torch's
SEEN = (
    0.1  # least score of a landmark whose points are compared: below, a decoder has next to nothing to read
)
OPSET = 20
DRAWN = 8  # faces
OUTPUTS = ("points", "scores", "uncertainty")


class Exported(nn.Module):
    """Crops (N, 3, S, S) RGB, uint8 or float 0..1 -> points (N, K, 2), scores (N, K), uncertainty (N, K), and
    the heatmaps (N, K, R, R) if wanted."""

    def __init__(self, weights: Weights, heatmaps: bool) -> None:
        super().__init__()
        self.network, self.codec, self.heatmaps = weights.model, weights.codec, heatmaps

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if images.dtype == torch.uint8:
            images = images.float() / 255
        heatmaps = self.network(images)
        found = self.codec.decode(heatmaps)
        outputs = found.points, found.scores, found.uncertainty
        return (*outputs, heatmaps) if self.heatmaps else outputs


def export(
    name: str | Path,
    out: str | Path | None = None,
    half: bool = False,
    heatmaps: bool = False,
    inputs: ExportInput = "uint8",
    link: bool = False,
    force: bool = False,
) -> tuple[Path, float]:
    """Write weights as one ONNX model: beside them where a file or a run is named, else in this folder.

    half, heatmaps, inputs, link: as `export_onnx` has them. Returns the new file and its parity, crop
    pixels. Raises UsageError where `out` does not end in .onnx or a link cannot be, and PoposError where it
    is there and not to be overwritten by `force`.
    """
    path = find_weights(name)
    beside = path.with_suffix(".onnx")
    named = Path(name) in (path, path.parent)
    target = Path(out) if out else (beside if link or named else Path(f"{Path(name).stem}.onnx"))
    if target.suffix != ".onnx":
        raise UsageError(f"--out {target}: must end in .onnx")
    if path.suffix == ".onnx":
        raise UsageError(f"{path}: is exported already", "Name the weights that it was made from.")
    if link and target.resolve().parent != path.resolve().parent:
        raise UsageError("--link: the model must lie beside its weights", f"Leave out --out: {beside}")
    if target.exists() and not force:
        raise PoposError(f"{target} exists already", "Choose another with --out, or overwrite with --force.")
    return target, export_onnx(path, target, half, heatmaps, inputs, link)


def export_onnx(
    path: Path,
    out: Path,
    half: bool = False,
    heatmaps: bool = False,
    inputs: ExportInput = "uint8",
    link: bool = False,
) -> float:
    """Write the weight file `path` as the ONNX model `out`. Returns the largest difference of its points from
    torch's on drawn faces, crop pixels.

    half: convolutions in float16, half the size. heatmaps: they are a fourth output. inputs: the type of the
    crops, 0..255 or 0..1. link: the tensors stay in `path`, a .safetensors file in the folder of `out`; the
    model is then 300 kB. Raises PoposError where the difference exceeds PARITY; nothing is written then.
    """
    weights = read_weights(path)
    network = Exported(weights, heatmaps).eval()
    model = _trace(network, inputs)
    for key, value in ((METADATA, weights.info.model_dump_json()), (SOURCE, sha256(path))):
        model.metadata_props.add(key=key, value=value)
    if link:
        model.metadata_props.add(key=LINKED, value=path.name)
        _link(model, path)
    elif half:
        for tensor in model.graph.initializer:
            if tensor.name in weights.model.state_dict() and len(tensor.dims) == 4:
                values = numpy_helper.to_array(tensor).astype(np.float16)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
                _read_as_float(model, tensor)
    with replacing(out) as temporary:
        temporary.write_bytes(model.SerializeToString())
        difference = _difference(network, temporary, inputs)
        if not difference <= PARITY:
            raise PoposError(
                f"{path}: the exported points differ from torch's by {difference:.3g} crop pixels, more than "
                f"{PARITY}: not written",
                "Leave out --half."
                if half
                else "Its decoder amplifies rounding: export it with another one.",
            )
    return difference


def _trace(network: Exported, inputs: ExportInput) -> ModelProto:
    size = network.codec.image_width
    example = torch.zeros(3, 3, size, size, dtype=torch.uint8 if inputs == "uint8" else torch.float32)
    count = torch.export.Dim("N", min=1, max=1 << 16)
    with _quiet():
        program = torch.onnx.export(
            network, (example,), dynamo=True, dynamic_shapes={"images": {0: count}}, input_names=["images"],
            output_names=[*OUTPUTS, *(["heatmaps"] if network.heatmaps else [])],
            opset_version=OPSET, optimize=False, verbose=False,
        )  # fmt: skip
        assert program is not None
        # Without the exporter's own optimisation, which would also fold the batch norms.
        passes.InlinePass()(program.model)
        optimizer.fold_constants(program.model)
        passes.RemoveUnusedNodesPass()(program.model)
        passes.CommonSubexpressionEliminationPass()(program.model)
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(program.model)
    model = program.model_proto
    own = set(network.network.state_dict())
    for tensor in model.graph.initializer:
        if (name := tensor.name.removeprefix("network.")) in own:
            _rename_inputs(model, tensor.name, name)
            tensor.name = name
    del model.graph.value_info[:]  # shapes between the nodes, and where torch traced each: half a megabyte
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings of its own deprecations."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _link(model: ModelProto, path: Path) -> None:
    """Let the tensors of `model` be those in the .safetensors file `path`: ONNX reads external data at any
    offset, and a safetensors file is an 8-byte length, a JSON header of that length, and raw tensors."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    for tensor in model.graph.initializer:
        if entry := header.get(tensor.name):
            first, last = entry["data_offsets"]
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (
                ("location", path.name), ("offset", 8 + length + first), ("length", last - first)
            ):  # fmt: skip
                tensor.external_data.add(key=key, value=str(value))
            if entry["dtype"] == "F16":
                tensor.data_type = TensorProto.FLOAT16
                _read_as_float(model, tensor)


def _read_as_float(model: ModelProto, tensor: TensorProto) -> None:
    """Put a cast to float32 behind a float16 tensor. (It is done once, when a runtime loads the model.)"""
    as_float = f"{tensor.name}.float"
    _rename_inputs(model, tensor.name, as_float)
    model.graph.node.insert(0, helper.make_node("Cast", [tensor.name], [as_float], to=TensorProto.FLOAT))


def _rename_inputs(model: ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for n, name in enumerate(node.input):
            if name == old:
                node.input[n] = new


def _difference(network: Exported, graph: Path, inputs: ExportInput) -> float:
    """Between the points of torch and of ONNX Runtime on drawn faces, crop pixels.

    Of landmarks that do not hang on rounding: noise of 1e-5 in torch's heatmaps moves them by less than a
    tenth of PARITY. (gauss-newton diverges on some maps, and then anywhere.)
    """
    size, codec = network.codec.image_width, network.codec
    crops = np.stack([cv2.resize(draw_face(0, n, SCHEMES["300w"])[0], (size, size)) for n in range(DRAWN)])
    images = np.ascontiguousarray(crops[..., ::-1].transpose(0, 3, 1, 2))
    with torch.inference_mode():
        heatmaps = network.network(torch.from_numpy(images) / 255)
        rng = torch.Generator().manual_seed(0)
        noisy = [heatmaps + torch.empty_like(heatmaps).uniform_(-1e-5, 1e-5, generator=rng) for _ in range(8)]
        points, *moved = (codec.decode(maps).points.numpy() for maps in (heatmaps, *noisy))
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    given = images if inputs == "uint8" else (images / 255).astype(np.float32)
    (exported,) = session.run(["points"], {"images": given})
    sure = np.abs(points - np.array(moved)).max(axis=(0, 3)) <= PARITY / 10
    far = np.abs(exported - points).max(axis=2)
    return float((far[sure] if sure.any() else far).max())
