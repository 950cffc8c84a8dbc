"""popos import-weights: a checkpoint of mmpose, POPoS or HRNet -> a weight file of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.choices import DecoderName, Resolution
from . import console
from .options import JSON, parse_numbers

EXAMPLES = (
    "Examples:  popos import-weights hrnetv2_w18_wflw_256x256-2bf032a6_20210125.pth   |   "
    "popos import-weights best_NME_epoch_60.pth --name wflw-popos   |   "
    "popos import-weights mine.pth --scheme mine.toml --resolution 8 --out mine-8.safetensors"
)


def import_weights(
    file: Annotated[Path, typer.Argument(help="A .pth file of mmpose 0.x, mmpose 1.x, POPoS or HRNet.")],
    scheme: Annotated[
        str | None,
        typer.Option(help="Landmark scheme, or a TOML file.", show_default="by the number of landmarks"),
    ] = None,
    resolution: Annotated[
        Resolution | None, typer.Option(help="Heatmap width, pixels.", show_default="by the tensors")
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option(help="Of the heatmaps it was trained on, heatmap pixels.", show_default="by its origin"),
    ] = None,
    decoder: Annotated[
        DecoderName | None,
        typer.Option(help="How its heatmaps are read.", show_default="two-hot, dark or popos, by its origin"),
    ] = None,
    label_offset: Annotated[
        str | None,
        typer.Option(metavar="X,Y", help="What its labels were off by, picture pixels.", show_default="0,0"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The new file.", show_default="beside FILE, .safetensors")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Keep it in POPOS_HOME, so that --weights NAME finds it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    json: JSON = False,
) -> None:
    """Turn a checkpoint of mmpose, POPoS or HRNet's own code (HRNetV2-W18 face models) into weights of popos.

    Size, number of landmarks and codec are read off its tensors, or known for published files. The file
    is read as data: one whose pickle could run code is refused.
    """
    flags = {
        "scheme": scheme, "resolution": resolution, "sigma": sigma, "decoder": decoder,
        "label_offset": label_offset and parse_numbers("--label-offset", label_offset, "x,y"),
    }  # fmt: skip
    from ..weights.foreign import import_file

    weights, foreign = import_file(file, flags, out, name, force)
    info, imported = foreign.info, foreign.info.training["imported"]
    landmarks = foreign.state["head.3.bias"].shape[0]
    if json:
        console.print_json({
            "weights": str(weights), "name": name, "source": str(file), "sha256": imported["sha256"],
            "known": imported["name"], "layout": foreign.layout, "scheme": info.scheme,
            "landmarks": landmarks, "resolution": info.resolution, "codec": info.codec.model_dump(),
            "label_offset": list(info.label_offset), "remarks": list(foreign.remarks),
        })  # fmt: skip
        return
    known = f", {imported['name']}" if imported["name"] else ""
    console.stdout.print(
        f"{file} ({foreign.layout}{known}): {landmarks} points ({info.scheme}), "
        f"{info.resolution}-pixel heatmaps, sigma {info.codec.sigma:g}, decoder {info.codec.decoder}"
    )
    console.stdout.print(f"weights: {weights}")
    for remark in foreign.remarks:
        console.note(f"note: {remark}")
    console.note(f"next: popos predict photo.jpg --weights {name or weights}")
