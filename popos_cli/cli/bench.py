"""popos bench: figures of this machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..core.choices import DECODER_NAMES, MIN_SCORE, RESOLUTIONS, DetectorName, Resolution
from . import console
from .options import DEVICE, JSON, SETTINGS, one_of

EXAMPLES = (
    "Examples:  popos bench decoders --resolution 16 --decoder ml --decoder popos   |   "
    "popos bench data   |   popos bench data --dataset wflw --faces 200   |   "
    "popos bench training --dataset wflw --resolution 16   |   "
    "popos bench faces wider/   |   popos bench predict photos/ --weights small   |   "
    "popos bench tracking --dataset 300w --weights small"
)

bench = typer.Typer(no_args_is_help=True, help="Measure errors and speed on this machine.", epilog=EXAMPLES)


@bench.command(epilog=EXAMPLES)
def decoders(
    resolution: Annotated[
        list[int] | None, typer.Option(help="Heatmap size in pixels; repeatable.", show_default="64 to 4")
    ] = None,
    decoder: Annotated[list[str] | None, typer.Option(help="Repeatable.", show_default="all")] = None,
    landmarks: Annotated[int, typer.Option(min=10, max=100_000, help="Landmarks for the errors.")] = 2048,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Fixes landmarks and noise.")] = 0,
    device: DEVICE = None,
    json: JSON = False,
) -> None:
    """Errors of every decoder on synthetic heatmaps with known defects, in crop pixels of a
    256-pixel crop, beside the Cramer-Rao bound; and its time, for a batch of 64 faces of 68 points.
    """
    names = [one_of(name, DECODER_NAMES, "decoder") for name in decoder or DECODER_NAMES]
    sizes = [one_of(size, RESOLUTIONS, "resolution") for size in resolution or RESOLUTIONS]
    import torch

    from ..bench.decoders import DEFECTS, bench_decoders
    from ..core.device import pick_inference_device

    torch.set_num_threads(threads)
    torch_device = pick_inference_device(device)
    rows = []
    with console.bar("decoders", len(sizes) * (len(names) + 1)) as advance:
        for row in bench_decoders(sizes, names, torch_device, landmarks, seed):
            rows.append(row)
            advance(1)
    if json:
        console.print_json({"decoders": rows, "device": str(torch_device), "threads": threads})
        return
    console.print_table(
        f"mean error, crop pixels; {torch_device}, {_threads(threads)}",
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
    from ..bench.data import bench_data
    from ..core.device import pick_inference_device
    from ..data.index import read_index

    torch_device = pick_inference_device(device)
    index = read_index(dataset) if dataset else None
    with console.progress_bar("data") as (bar, task):
        found = bench_data(index, faces, torch_device, lambda name: bar.update(task, extra=name))
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
        Resolution | None, typer.Option(help="Heatmap size, pixels.", show_default="64")
    ] = None,
    batch_size: Annotated[
        str | None, typer.Option(help="schedule.batch_size, or auto", show_default="the preset's")
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(help="0 is the CPU; otherwise one GPU is used.", show_default="a GPU, else the CPU"),
    ] = None,
    set_: SETTINGS = None,
    json: JSON = False,
) -> None:
    """Faces per second of a training, beside those of its bare network: forward and backward on one batch
    in memory. Takes the dataset's crop cache where there is one, and a minute or two; keeps no weights.
    """
    from ..bench.training import bench_training
    from ..data.index import read_index
    from ..train.load import load_train_settings

    flags = {"gpus": gpus, "model": {"resolution": resolution}, "schedule": {"batch_size": batch_size}}
    settings = load_train_settings(dataset, None, set_ or [], flags)
    index = read_index(settings.dataset)
    with console.counter("training") as update:
        found = bench_training(settings, index, update)
    if json:
        console.print_json({"dataset": settings.dataset, **found})
        return
    cells = {
        "R": str(found["resolution"]), "batch": str(found["batch"]), "workers": str(found["workers"]),
        "bare faces/s": f"{found['bare']:.1f}", "trainer faces/s": f"{found['trainer']:.1f}",
        "ratio": f"{found['ratio']:.3f}", "data wait": f"{100 * found['data_wait']:.1f} %",
    }  # fmt: skip
    source = "cached crops" if found["crops"] else "photos"
    title = (
        f"{settings.dataset}, {source}; {found['device']}, {found['precision']}, {_threads(found['threads'])}"
    )
    console.print_table(title, list(cells), [list(cells.values())])


@bench.command(epilog=EXAMPLES)
def tracking(
    dataset: Annotated[str, typer.Option(help="A prepared dataset.", show_default=False)],
    weights: Annotated[str, typer.Option(help="A catalog name, a weight file or a run folder.")] = "default",
    detector: Annotated[
        DetectorName,
        typer.Option(help="auto: yunet where it is here or can be fetched in 3 seconds, else haar."),
    ] = "auto",
    faces: Annotated[int, typer.Option(min=1, max=10_000, help="Photos that move.")] = 8,
    frames: Annotated[int, typer.Option(min=20, max=10_000, help="Of each film; 30 are a second.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Fixes photos and noise.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Draw one face's traces, .png.")] = None,
    device: DEVICE = None,
    json: JSON = False,
) -> None:
    """Tracked landmarks of labelled photos that move along known paths, as the network gives them and
    smoothed: error, jitter within the face (both in percent of the normaliser), and delay in frames.
    """
    from ..bench.tracking import PATHS, bench_tracking, save_traces
    from ..data.index import read_index
    from ..predict.predictor import Predictor

    index = read_index(dataset)
    predictor = Predictor(weights, device, detector)
    with console.bar("tracking", len(PATHS) * min(faces, len(index))) as advance:
        rows, examples = bench_tracking(predictor, index, faces, frames, seed, advance)
    if plot:
        save_traces(examples, plot)
    if json:
        console.print_json({"dataset": dataset, "weights": weights, "frames": frames, "tracking": rows})
        return
    kinds = ("network", "smoothed")
    cells = [
        [r["path"], *(f"{r[kind][key]:.2f}" for key in ("nme", "jitter") for kind in kinds)]
        + ["" if r[kind]["lag"] is None else f"{r[kind]['lag']:+.2f}" for kind in kinds]
        + [str(r["smoothed"]["missed"])]
        for r in rows
    ]
    columns = ["path", "NME", "smoothed", "jitter", "smoothed", "lag", "smoothed", "missed"]
    console.print_table(f"{dataset}, {rows[0]['faces']} faces; {weights}", columns, cells)


@bench.command(epilog=EXAMPLES)
def faces(
    root: Annotated[
        Path, typer.Argument(help="A folder with boxes.csv (image,x,y,w,h,invalid: pixels) and images/.")
    ],
    weights: Annotated[str, typer.Option(help="A catalog name, a weight file or a run folder.")] = "default",
    min_score: Annotated[float, typer.Option(min=0, max=1, help="As predict's.")] = MIN_SCORE,
    json: JSON = False,
) -> None:
    """Which labelled faces popos predict finds, by each detector that is here, how many it invents, how far
    its scores are probabilities (cross-validated by photo), and the numbers behind the scores, fitted anew.
    """
    from ..bench.faces import bench_faces

    found = bench_faces(root, weights, min_score, console.bar)
    if json:
        console.print_json(found)
        return
    results = found["detectors"]
    sizes = list(results[0]["faces"])
    table = [[r["detector"], *(f"{r['recall'][s]:.3f}" for s in sizes), f"{r['false']:.3f}"] for r in results]
    title = f"{weights}, faces of a score of {min_score:g}; {results[0]['photos']} photos"
    console.print_table(title, ["", *(f"recall >= {s} px" for s in sizes), "false a photo"], table)
    for r in results:
        table = [
            [f"{b['from']:.1f}", str(b["candidates"]), f"{b['score']:.3f}", f"{b['faces']:.3f}"]
            for b in r["reliability"]
        ]
        columns = ["score from", "candidates", "mean score", "share of faces"]
        console.print_table(f"{r['detector']}: is the score a probability?", columns, table)
    console.stdout.print("COEFFICIENTS of core/face_score.py, fitted anew:")
    for one in found["coefficients"]:
        console.stdout.print(f'    ("{one["box"]}", "{one["fit"]}"): {tuple(one["values"])},')


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


@bench.command(epilog=EXAMPLES)
def predict(
    sources: Annotated[list[str], typer.Argument(help="Pictures, folders or globs.")],
    weights: Annotated[
        list[str] | None, typer.Option(help="Repeatable.", show_default="default and small")
    ] = None,
    detector: Annotated[DetectorName, typer.Option(help="auto: yunet where it is here, else haar.")] = "auto",
    turns: Annotated[int, typer.Option(min=1, help="The fastest of so many counts.")] = 3,
    json: JSON = False,
) -> None:
    """Speed of popos predict on this CPU: ms a picture by stage on one thread, of the whole on all cores
    (with overlays and JSON: written), and seconds of the first picture from the shell; by ONNX Runtime and by
    torch, beside MediaPipe where that is installed.
    """
    from ..bench.predict import bench_predict
    from ..predict.sources import expand

    pictures = [source for source in expand(sources) if not source.moving]
    names = weights or ["default", "small"]
    with console.progress_bar("predict") as (bar, task):
        note = partial(bar.update, task)
        rows = list(bench_predict(pictures, names, detector, turns, lambda name: note(extra=name)))
    if json:
        console.print_json({"pictures": len(pictures), "rows": rows})
        return
    stages = ("read", "detect", "passes", "total", "written")
    table = [
        [row["name"], row["engine"], *(f"{row[stage]:.1f}" if stage in row else "" for stage in stages),
         f"{row['start']:.2f} s" if "start" in row else ""]
        for row in rows
    ]  # fmt: skip
    console.print_table(f"ms a picture, {len(pictures)} pictures", ["", "engine", *stages, "start"], table)
    if libraries := [row["libraries"] for row in rows if "libraries" in row]:
        console.stdout.print(f"importing onnxruntime, cv2 and numpy alone: {min(libraries):.2f} s")
