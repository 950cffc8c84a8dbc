"""The tensors and metadata of an exported model, as `safetensors.safe_open` gives those of its files."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError

from ..errors import PoposError
from .download import check_link
from .file_kinds import NOT_OURS, refuse_file
from .info import METADATA


class OnnxFile:
    """Raises PoposError for a file that `popos export` did not write."""

    def __init__(self, path: Path) -> None:
        try:
            model = onnx.load(path, load_external_data=False)
            self.properties = {entry.key: entry.value for entry in model.metadata_props}
            check_link(path, self.properties)
            onnx.load_external_data_for_model(model, str(path.parent))
        except (DecodeError, OSError, ValueError) as error:
            raise refuse_file(path, "ONNX model", error) from None
        if METADATA not in self.properties:
            raise PoposError(f"{path}: an ONNX model, not weights of popos", NOT_OURS)
        named = {tensor.name: tensor for tensor in model.graph.initializer}
        self.tensors = {n: t for n, t in named.items() if n.startswith(("backbone.", "head."))}

    def metadata(self) -> dict[str, str]:
        return self.properties

    def keys(self) -> list[str]:
        """With the counters of batches, which a model that does not train has no use for."""
        norms = [n.removesuffix("running_mean") for n in self.tensors if n.endswith(".running_mean")]
        return [*self.tensors, *(f"{norm}num_batches_tracked" for norm in norms)]

    def get_tensor(self, name: str) -> torch.Tensor:
        if name.endswith(".num_batches_tracked"):
            return torch.tensor(0)
        return torch.from_numpy(onnx.numpy_helper.to_array(self.tensors[name]).copy())
