"""popos bench: figures of this machine."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import console
from .options import DEVICE, JSON, one_of

EXAMPLES = (
    "Examples:  popos bench decoders --resolution 16 --decoder ml --decoder popos   |   "
    "popos bench data   |   popos bench data --dataset wflw --faces 200   |   "
    "popos bench training --dataset wflw --resolution 16"
)

bench = typer.Typer(no_args_is_help=True, help="Measure errors and speed on this machine.", epilog=EXAMPLES)


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
    from ..core.choices import DECODER_NAMES, RESOLUTIONS

    for name in decoder or []:
        one_of(name, DECODER_NAMES, "decoder")
    for size in resolution or []:
        one_of(str(size), tuple(map(str, RESOLUTIONS)), "resolution")
    import torch

    from ..bench.decoders import DEFECTS, bench_decoders
    from ..core.device import pick_inference_device

    torch.set_num_threads(threads)
    torch_device = pick_inference_device(device)
    rows: list[dict[str, Any]] = []
    sizes, names = resolution or list(RESOLUTIONS), decoder or list(DECODER_NAMES)
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


@bench.command(epilog=EXAMPLES)
def data(
    dataset: Annotated[
        str | None, typer.Option(help="A prepared dataset.", show_default="photos drawn for the purpose")
    ] = None,
    faces: Annotated[int, typer.Option(min=1, max=10_000, help="Faces to read.")] = 64,
    device: DEVICE = None,
    json: JSON = False,
) -> None:
    """Speed of a loader on one core: an index of 20,000 faces; augmented faces from photos and from
    cached crops, beside the bare decoding of the same files; and, apart, a batch's way to the network's
    input on the device.
    """
    import torch

    from ..bench.data import bench_data
    from ..core.device import pick_inference_device
    from ..data.augment import Augment
    from ..data.index import read_index

    torch_device = pick_inference_device(device)
    index = read_index(dataset) if dataset else None
    torch.set_num_threads(1)
    augment = Augment()
    with console.progress_bar("data") as (bar, task):
        found = bench_data(index, faces, augment, torch_device, lambda name: bar.update(task, extra=name))
    if json:
        console.print_json({"dataset": dataset, "threads": 1, **found})
        return
    rows = [
        [
            name, str(r["faces"]), f"{r['decode_ms']:.2f}", f"{r['sample_ms']:.2f}", f"{r['ratio']:.2f}",
            f"{r['faces_per_second']:.0f}",
        ]
        for name, r in (
            (f"photos of {found['photos']['megapixels']:.2g} MP", found["photos"]),
            (f"cached crops of {found['crops']['bytes'] / 1000:.2g} kB", found["crops"]),
        )
    ]  # fmt: skip
    columns = ["source", "faces", "decode ms", "sample ms", "ratio", "faces/s"]
    console.print_table(f"{dataset or 'drawn photos'}, one core", columns, rows)
    read, entry = found["index"], found["input"]
    console.stdout.print(f"index of {read['faces']} faces: read in {read['seconds']:.2f} s")
    console.stdout.print(
        f"network input of {entry['batch']} faces on {entry['device']}: "
        f"{entry['faces_per_second']:.0f} faces/s"
    )


@bench.command(epilog=EXAMPLES)
def training(
    dataset: Annotated[str | None, typer.Option(help="A prepared dataset.")] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Heatmap size: 64, 32, 16, 8 or 4 pixels.", show_default="64")
    ] = None,
    batch_size: Annotated[
        str | None, typer.Option(help="schedule.batch_size, or auto", show_default="the preset's")
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(help="0 is the CPU; otherwise one GPU is used.", show_default="a GPU, else the CPU"),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="One setting of training, e.g. workers=1; repeatable."
        ),
    ] = None,
    json: JSON = False,
) -> None:
    """Faces a second of a training, beside those of its bare network: forward and backward on one batch
    in memory. Takes the dataset's crop cache where there is one, and a minute or two; trains nothing
    that is kept.
    """
    from ..bench.training import bench_training
    from ..data.index import read_index
    from ..train.autobatch import fitting_batch, with_batch_size
    from ..train.load import load_train_settings
    from ..train.settings import AUTO

    flags = {"gpus": gpus, "model": {"resolution": resolution}, "schedule": {"batch_size": batch_size}}
    settings = load_train_settings(dataset, None, set_ or [], flags)
    index = read_index(settings.dataset)
    if settings.schedule.batch_size == AUTO:
        settings = with_batch_size(settings, fitting_batch(settings, index, 1))
    with console.progress_bar("training") as (bar, task):
        found = bench_training(settings, index, lambda n, of: bar.update(task, completed=n, total=of))
    if json:
        console.print_json({"dataset": settings.dataset, **found})
        return
    columns = ["R", "batch", "workers", "bare faces/s", "trainer faces/s", "ratio", "data wait"]
    row = [
        str(found["resolution"]), str(found["batch"]), str(found["workers"]), f"{found['bare']:.1f}",
        f"{found['trainer']:.1f}", f"{found['ratio']:.3f}", f"{100 * found['data_wait']:.1f} %",
    ]  # fmt: skip
    console.print_table(
        f"{settings.dataset}, {'cached crops' if found['crops'] else 'photos'}; {found['device']}, "
        f"{found['precision']}, {found['threads']} thread{'s' if found['threads'] > 1 else ''}",
        columns, [row],
    )  # fmt: skip
