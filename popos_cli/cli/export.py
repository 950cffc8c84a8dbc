"""popos export: weights -> one ONNX model with everything from crop to points inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.choices import ExportInput
from . import console
from .options import JSON

EXAMPLES = (
    "Examples:  popos export default   |   popos export runs/300w-16-1 --half   |   "
    "popos export small --heatmaps --out small.onnx"
)


def export(
    weights: Annotated[str, typer.Argument(help="A catalog name, a .safetensors file or a run folder.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The new file.", show_default="beside a named file, else NAME.onnx here"),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Convolutions in float16: half the size.")] = False,
    heatmaps: Annotated[
        bool, typer.Option("--heatmaps", help="A fourth output, for decoders of your own.")
    ] = False,
    inputs: Annotated[
        ExportInput, typer.Option("--input", help="Crops of 0..255 (uint8) or of 0..1 (float).")
    ] = "uint8",
    link: Annotated[
        bool,
        typer.Option("--link", help="Leave the tensors in the .safetensors file; the model lies beside it."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    json: JSON = False,
) -> None:
    """Write weights as one ONNX model: crops in; points, scores and uncertainty out.

    Normalisation, network, decoder and calibration are inside, and the number of crops is free. The result
    is a weight file too. Beside its weights, popos predict runs it on a CPU instead of torch.
    """
    from ..weights.export import export as export_weights

    target, parity = export_weights(weights, out, half, heatmaps, inputs, link, force)
    size = target.stat().st_size
    if json:
        console.print_json({"file": str(target), "weights": weights, "bytes": size, "parity": parity})
    else:
        console.stdout.print(f"{target}: {size / 1e6:.1f} MB", soft_wrap=True)
        console.note(f"its points are within {parity:.2g} crop pixels of torch's")
