"""popos bench: figures of this machine."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import console
from .options import DEVICE, JSON, one_of

EXAMPLES = (
    "Examples:  popos bench decoders   |   popos bench decoders --resolution 16 --decoder ml --decoder popos"
)

bench = typer.Typer(no_args_is_help=True, help="Measure error and speed on this machine.", epilog=EXAMPLES)


@bench.callback()
def _bench() -> None:
    """Keeps `decoders` a word of its own: typer lets an only command take its group's place."""


@bench.command(epilog=EXAMPLES)
def decoders(
    resolution: Annotated[
        list[int] | None, typer.Option(help="Heatmap size in pixels; repeatable.", show_default="64 to 4")
    ] = None,
    decoder: Annotated[
        list[str] | None, typer.Option(help="Reading rule; repeatable.", show_default="all")
    ] = None,
    landmarks: Annotated[int, typer.Option(min=10, max=100_000, help="Landmarks for the errors.")] = 2048,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Fixes landmarks and noise.")] = 0,
    device: DEVICE = None,
    json: JSON = False,
) -> None:
    """Errors of every decoder on synthetic heatmaps with known defects, in crop pixels of a
    256-pixel crop, beside the Cramer-Rao bound; and its time, for a batch of 64 faces of 68 points.
    """
    from ..core.decoders import DECODERS
    from ..core.trials import DEFECTS
    from ..settings.schema import RESOLUTIONS

    for name in decoder or []:
        one_of(name, tuple(DECODERS), "decoder")
    for size in resolution or []:
        one_of(str(size), tuple(map(str, RESOLUTIONS)), "resolution")
    import torch

    from ..engine.bench import bench_decoders
    from ..weights.find import pick_inference_device

    torch.set_num_threads(threads)
    torch_device = pick_inference_device(device)
    rows: list[dict[str, Any]] = []
    sizes, names = resolution or list(RESOLUTIONS), decoder or list(DECODERS)
    with console.progress_bar("decoders") as (bar, task):
        bar.update(task, total=len(sizes) * (len(names) + 1))
        for row in bench_decoders(sizes, names, torch_device, landmarks, seed):
            rows.append(row)
            bar.update(task, advance=1)
    if json:
        console.print_json({"decoders": rows, "device": str(torch_device), "threads": threads})
        return
    console.print_table(
        f"mean error, crop pixels; {torch_device}, {threads} thread{'s' if threads > 1 else ''}",
        ["R", "decoder", *DEFECTS, "ms per 1000 faces", "x amax"],
        [
            [
                str(r["resolution"]), r["decoder"],
                *("" if e is None else f"{e:.3f}" for e in r["error"].values()),
                "" if r["ms"] is None else f"{r['ms']:.0f}", "" if r["amax"] is None else f"{r['amax']:.1f}",
            ]
            for r in rows
        ],
    )  # fmt: skip
