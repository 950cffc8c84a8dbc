"""popos import-weights: a checkpoint of mmpose, POPoS or HRNet -> a weight file of ours."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PoposError, UsageError
from . import console
from .options import JSON

if TYPE_CHECKING:
    from ..weights.foreign import Foreign

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
        int | None, typer.Option(help="Heatmap width: 64, 32, 16, 8 or 4.", show_default="by the tensors")
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option(help="Of the heatmaps it was trained on, heatmap pixels.", show_default="by its origin"),
    ] = None,
    decoder: Annotated[
        str | None,
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
    offset = _parse_offset(label_offset)
    if not file.is_file():
        raise PoposError(f"{file}: {'a folder' if file.is_dir() else 'no such file'}", "Name a .pth file.")
    from ..weights.foreign import check_hints, known_hints, read_foreign, with_flags
    from ..weights.format import save_weights

    hints = with_flags(
        known_hints(file),
        scheme=scheme,
        resolution=resolution,
        sigma=sigma,
        decoder=decoder,
        label_offset=offset,
    )
    check_hints(hints)
    targets = _targets(file, out, name)
    taken = next((target for target in targets if target.exists() and not force), None)
    if taken and file.suffix != ".safetensors":
        raise PoposError(f"{taken} exists already", "Choose another with --out, or overwrite with --force.")
    foreign = read_foreign(file, hints)
    save_weights(targets[0], foreign.state, foreign.info, half=False)
    for copy in targets[1:]:
        _copy(targets[0], copy)
    report = _report(file, targets[0], name, foreign)
    if json:
        console.print_json(report)
    else:
        _print(report)


def _parse_offset(text: str | None) -> tuple[float, float] | None:
    """ "x,y" -> numbers. Raises UsageError."""
    if text is None:
        return None
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--label-offset {text!r}: expected two numbers x,y") from None
    if not (abs(x) < 1e3 and abs(y) < 1e3):
        raise UsageError(f"--label-offset {text!r}: must be finite, a few pixels")
    return x, y


def _targets(file: Path, out: Path | None, name: str | None) -> list[Path]:
    """Where the weights go: --out, and --name's place; beside FILE without either. Raises UsageError."""
    if out is not None and out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: must end in .safetensors")
    targets = [out] if out is not None else []
    if name is not None:
        targets.append(_place(name))
    return targets or [file.with_suffix(".safetensors")]


def _place(name: str) -> Path:
    """The file in POPOS_HOME of weights that are known by a name. Raises UsageError."""
    from ..weights.catalog import converted_file, load_catalog

    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise UsageError(f"--name {name!r}: cannot be used as a name", "Use letters, digits and _ . + -")
    if name in load_catalog():
        raise UsageError(f"--name {name!r}: the catalog has weights of that name", "Choose another.")
    return converted_file(name)


def _copy(source: Path, target: Path) -> None:
    from ..home import replacing

    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _report(file: Path, weights: Path, name: str | None, foreign: Foreign) -> dict[str, Any]:
    info = foreign.info
    return {
        "weights": str(weights),
        "name": name,
        "source": str(file),
        "sha256": info.training["imported"]["sha256"],
        "known": info.training["imported"]["name"],
        "layout": foreign.layout,
        "scheme": info.scheme,
        "landmarks": foreign.state["head.3.bias"].shape[0],
        "resolution": info.resolution,
        "codec": info.codec.model_dump(),
        "label_offset": list(info.label_offset),
        "remarks": list(foreign.remarks),
    }


def _print(report: dict[str, Any]) -> None:
    codec, known = report["codec"], f", {report['known']}" if report["known"] else ""
    console.stdout.print(
        f"{report['source']} ({report['layout']}{known}): {report['landmarks']} points ({report['scheme']}), "
        f"{report['resolution']}-pixel heatmaps, sigma {codec['sigma']:g}, decoder {codec['decoder']}"
    )
    console.stdout.print(f"weights: {report['weights']}")
    for remark in report["remarks"]:
        console.note(f"note: {remark}")
    console.note(f"next: popos predict photo.jpg --weights {report['name'] or report['weights']}")
