"""Draw the pictures of docs/explanation/method.md by popos' own code: python docs/drawings.py [FOLDER]"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from popos_cli import Codec, Predictor, load
from popos_cli.bench.decoders import draw_points, make_maps
from popos_cli.core.choices import DECODER_NAMES, RESOLUTIONS
from popos_cli.core.decoders.multilateration import squared_distance
from popos_cli.core.geometry import crop_matrix, tight_square, warp
from popos_cli.core.inference import predict_heatmaps
from popos_cli.data.pictures import read_image

ASSETS = Path(__file__).parent / "assets"
PIXELS = [(5, 5), (9, 4), (6, 9), (11, 8)]  # column, row: those whose circles are drawn
POINT = (7.3, 6.6)  # heatmap pixels
MOUTH_CORNER = 54  # of the scheme 300w: the left one


def draw_circles(axes, heatmap, pixels, sigma: float) -> None:
    """Around each of the pixels of a heatmap (H, W) a circle of the distance that its value says."""
    angle = np.linspace(0, 2 * np.pi, 200)
    for column, row in pixels:
        radius = float(squared_distance(heatmap[row, column], sigma).sqrt())
        axes.plot(column, row, "s", color="white", markersize=4)
        axes.plot(column + radius * np.cos(angle), row + radius * np.sin(angle), color="white", lw=0.9)


def draw_found(axes, heatmap) -> None:
    """Where two decoders find the landmark of a heatmap (16, 16)."""
    for name, style in {"popos": "rx", "ml": "wo"}.items():
        codec = Codec(16, decoder=name)
        x, y = codec.to_heatmap(codec.decode(heatmap[None, None]).points)[0, 0].tolist()
        axes.plot(x, y, style, ms=10, mew=2, mfc="none", label=name)
    axes.legend(loc="lower left", fontsize="small", facecolor="grey", labelcolor="white")


def distances() -> Figure:
    """A heatmap, the circles of its distances, and those of a network that is less sure."""
    codec = Codec(16)
    heatmap = codec.encode(codec.to_crop(torch.tensor([[POINT]])))[0, 0]
    figure = Figure(figsize=(10.5, 3.7), layout="constrained")
    titles = "heatmap of 16 x 16 pixels", "its distances", "the same, peak 0.6: all too long"
    for axes, title, height in zip(figure.subplots(1, 3), titles, (1, 1, 0.6), strict=True):
        shades = axes.imshow(height * heatmap, vmin=0, vmax=1, cmap="viridis")
        axes.set(title=title, xlim=(-0.5, 15.5), ylim=(15.5, -0.5))
        if title == titles[0]:
            axes.plot(*POINT, "r+", markersize=12, mew=2)
            figure.colorbar(shades, ax=axes, shrink=0.75)
            continue
        draw_circles(axes, height * heatmap, PIXELS, codec.sigma)
        draw_found(axes, height * heatmap)
    return figure


@torch.inference_mode()
def decoders() -> Figure:
    """Error over resolution, as `popos bench decoders` measures it."""
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    titles = {"clean": "exact heatmaps", "noise .02": "noise of 0.02", "peak .6": "peak 0.6, noise of 0.02"}
    for axes, (defect, title) in zip(panels, titles.items(), strict=True):
        for name in DECODER_NAMES:
            errors = []
            for resolution in RESOLUTIONS:
                codec = Codec(resolution, decoder=name)
                points = draw_points(codec, 2048, seed=0)
                found = codec.decode(make_maps(codec, points, defect, seed=1)[None]).points[0]
                errors.append(float((found - points).norm(dim=1).mean()))
            width = 2.5 if name == "ml" else 1.2
            axes.plot(range(5), np.maximum(errors, 0.01), "o-", ms=4, lw=width, label=name, clip_on=False)
        axes.set(title=title, yscale="log", ylim=(0.01, 200), xlabel="heatmap, pixels")
        axes.set_xticks(range(5), map(str, RESOLUTIONS))
        axes.grid(alpha=0.3)
    panels[0].set_yticks([0.01, 0.1, 1, 10, 100], ["0.01 or less", "0.1", "1", "10", "100"])
    panels[0].set_ylabel("mean error, pixels of the crop (256)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    return figure


def face() -> Figure:
    """The bundled network's heatmap of one landmark on a photo, and its distances."""
    photo = read_image(ASSETS / "astronaut.jpg", upright=True)
    predictor = Predictor("default", device="cpu", detector="haar")
    center, side = tight_square(predictor(photo)[0].points)
    crop = warp(photo, crop_matrix(center, side * predictor.info.crop.padding, 256), 256)
    model, codec = load("default")
    heatmaps = predict_heatmaps(model, torch.from_numpy(crop).permute(2, 0, 1)[None] / 255, None, "center")
    heatmap, points = heatmaps[0, MOUTH_CORNER], codec.decode(heatmaps).points[0]
    figure = Figure(figsize=(10.5, 3.85), layout="constrained")
    panels = figure.subplots(1, 3)
    titles = "crop of 256 pixels, 68 landmarks", "heatmap of a mouth corner", "its distances"
    for axes, title in zip(panels, titles, strict=True):
        axes.imshow(crop, extent=(-0.5, 15.5, 15.5, -0.5))
        if title != titles[0]:
            axes.imshow(heatmap, vmin=0, vmax=1, alpha=0.6, cmap="viridis")
        axes.set_title(title)
        axes.set_axis_off()
    panels[0].plot(*codec.to_heatmap(points).T, ".", color="lime", markersize=4)
    column, row = divmod(int(heatmap.argmax()), 16)[::-1]
    around = (-2, -1), (2, -2), (-1, 2), (2, 1)
    draw_circles(panels[2], heatmap, [(column + dx, row + dy) for dx, dy in around], codec.sigma)
    draw_found(panels[2], heatmap)
    panels[2].set(xlim=(4.5, 15.5), ylim=(15.5, 4.5))
    return figure


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ASSETS
    pictures = {"distances.png": distances, "decoders.png": decoders, "face_distances.jpg": face}
    for name, draw in pictures.items():
        draw().savefig(folder / name, dpi=95, bbox_inches="tight")
