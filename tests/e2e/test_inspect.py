"""popos inspect: the figures, and a sheet that shows what training sees."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from popos_cli.core.schemes import Scheme
from popos_cli.data.crops import cache_crops
from popos_cli.data.index import Index, read_index, write_index
from popos_cli.inspect import run
from popos_cli.inspect.describe import describe, overshoot
from popos_cli.inspect.samples import make_sample
from popos_cli.train import build
from popos_cli.train.load import load_train_settings

TILE, CAPTION, LEGEND = 256, 31, 24
EYES = Scheme("eyes", 3, {"eyes": (0, 1), "chin": (2,)}, frozenset(), ((0, 1),), (0, 1))


@pytest.fixture
def odd(home, tmp_path):
    """ "odd": six faces in five pictures of 100 x 80 pixels, each odd in its own way but the first."""
    face = np.array([[30.0, 30.0], [60.0, 30.0], [45.0, 60.0]])
    points = np.stack([face] * 6)
    visible = np.full((6, 3), 2, np.uint8)
    points[1, 1] = points[1, 0]  # a normaliser of 0
    points[2, 1] = points[2, 0] + [1, 0]  # and one of 1 pixel
    points[3, 1] = [-4.5, 30]  # 4 pixels outside
    visible[3, 2] = 1
    points[4, 0], visible[4, 0] = np.nan, 0  # no normaliser
    points[5] = face * 3  # farther than the picture reaches
    for n in range(5):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((80, 100, 3), 40 * n, np.uint8))
    write_index(Index(
        name="odd", scheme=EYES, root=tmp_path, image=np.array([f"{n}.png" for n in (0, 1, 2, 3, 4, 4)]),
        size=np.full((6, 2), (100, 80), np.int32), points=points, visible=visible,
        center=np.full((6, 2), 45.0), side=np.array([30.0, 30, 30, 80, 30, 30]),
        split=np.array(["train", "train", "train", "test", "test", "test"]),
        group=np.array(["ann", "ann", "bob", "", "", ""]),
        source=np.array([f"odd.csv:{n}" for n in range(6)]),
        subset=np.array([[0, 0], [0, 0], [0, 0], [1, 0], [1, 0], [0, 0]], bool), subsets=("hard", "empty"),
        notes={"importer": "raw", "coordinate_base": 1, "partial": True},
    ))  # fmt: skip
    return "odd"


def rows_and_columns(path):
    height, width, _ = cv2.imread(str(path)).shape
    assert (height - LEGEND) % (TILE + CAPTION) == 0 and width % TILE == 0
    return (height - LEGEND) // (TILE + CAPTION), width // TILE


def test_a_sound_dataset(popos, synthetic, tmp_path):
    report = popos("inspect", synthetic, "--json").ok().json
    index = read_index(synthetic)
    assert (report["dataset"], report["scheme"], report["source"]) == ("synthetic", "300w", "synthetic")
    assert report["root"] == str(index.root)
    assert report["splits"] == {
        "train": {"faces": 18, "pictures": 18, "groups": 18, "subsets": {}},
        "val": {"faces": 6, "pictures": 6, "groups": 6, "subsets": {}},
    }
    assert report["points"] == {"visible": 24 * 68, "occluded": 0, "not_labelled": 0}
    assert report["picture_width"]["max"] == index.size[:, 0].max()
    assert report["picture_height"]["median"] == np.median(index.size[:, 1])
    assert report["square_side"]["min"] == index.side.min()
    normaliser, distance = report["normaliser"], index.normalisers()
    assert normaliser["name"] == "inter-ocular"
    assert normaliser["quantiles"]["p95"] == pytest.approx(np.quantile(distance, 0.95))
    counts, edges = normaliser["histogram"]["counts"], np.array(normaliser["histogram"]["edges"])
    assert sum(counts) == 24 and len(edges) == len(counts) + 1
    assert counts[0] == (distance < edges[1]).sum()
    assert not any(report[key]["faces"] for key in ("not_measurable", "tiny_normaliser", "far_from_square"))
    assert report["run"] == "runs/inspect-synthetic-1"
    assert report["sheet"] == {"split": "train", "file": "runs/inspect-synthetic-1/faces.jpg"}
    assert rows_and_columns(tmp_path / report["sheet"]["file"]) == (8, 8)
    assert cv2.imread(str(tmp_path / report["histograms"])) is not None


def test_odd_labels_are_counted_and_named(popos, odd):
    report = popos("inspect", odd, "--json").ok().json
    assert (report["source"], report["coordinate_base"], report["partial"]) == ("raw", 1, True)
    assert (report["faces"], report["pictures"], report["pictures_with_several_faces"]) == (6, 5, 1)
    assert report["splits"] == {
        "train": {"faces": 3, "pictures": 3, "groups": 2, "subsets": {}},
        "test": {"faces": 3, "pictures": 2, "groups": 0, "subsets": {"hard": 2}},
    }
    assert report["points"] == {"visible": 16, "occluded": 1, "not_labelled": 1}
    assert report["picture_width"]["min"] == report["picture_width"]["max"] == 100
    quantiles = report["normaliser"]["quantiles"]
    assert quantiles["min"] == 0 and quantiles["max"] == 90
    assert sum(report["normaliser"]["histogram"]["counts"]) == 5
    # Face 5: its three points, (90, 90), (180, 90) and (135, 180).
    worst = {"image": "4.png", "source": "odd.csv:5", "landmark": 2, "pixels": 100.5}
    assert report["outside"] == {"points": 4, "faces": 2, "worst": worst}
    assert overshoot(read_index(odd))[3].tolist() == [0, 4, 0]
    assert report["not_measurable"]["examples"] == [{"image": "4.png", "source": "odd.csv:4"}]
    first, second = report["tiny_normaliser"]["examples"]
    assert first == {"image": "1.png", "source": "odd.csv:1", "normaliser": 0.0, "side": 30.0}
    assert second["normaliser"] == 1.0
    (far,) = report["far_from_square"]["examples"]
    assert far["sides"] == pytest.approx(4.5)


def test_one_split_and_the_sheet_of_it(popos, odd, tmp_path):
    report = popos("inspect", odd, "--split", "test", "--faces", "2", "--out", "here", "--json").ok().json
    assert set(report["splits"]) == {"test"}
    assert report["points"] == {"visible": 7, "occluded": 1, "not_labelled": 1}
    assert report["tiny_normaliser"]["faces"] == 0
    assert report["sheet"] == {"split": "test", "file": "here/faces.jpg"}
    assert rows_and_columns(tmp_path / "here/faces.jpg")[0] == 2
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == ["faces.jpg", "histograms.png"]


def test_the_text_names_what_is_odd(popos, odd):
    out = popos("inspect", odd).ok().out
    assert "odd: 6 faces, scheme eyes (3 landmarks), source raw, partial" in out
    lines = out.splitlines()
    assert ["hard", "2"] in [line.split() for line in lines]
    assert "pictures with several faces: 1" in lines
    outside = next(line for line in lines if line.startswith("points outside"))
    assert "4, of 2 faces; farthest: landmark 2 of 4.png (odd.csv:5), 100.5 px" in outside
    tiny = next(line for line in lines if "normaliser is below" in line)
    assert tiny.endswith(": 2; 1.png (odd.csv:1), 2.png (odd.csv:2)")
    assert "sheet of train faces: runs/inspect-odd-1/faces.jpg" in lines


@pytest.mark.parametrize("cached", [False, True], ids=["photos", "crops"])
def test_the_sheet_shows_what_training_sees(synthetic, cached):
    settings = load_train_settings(synthetic, None, ["workers=0", "schedule.batch_size=18"], {})
    index = read_index(synthetic)
    if cached:
        cache_crops(index)
    index = index.of_split("train")
    codec = build.build_info(settings, index).build_codec()
    loader, sampler = build.training_loader(settings, index, codec)
    plain = build.plain_faces(settings, index, codec)
    augmented = build.augmented_faces(settings, index, codec)
    assert (plain.crops is not None) == (augmented.crops is not None) == cached
    samples = [make_sample(face, plain, augmented) for face in (0, 7)]
    for epoch in (0, 2):
        sampler.epoch = epoch
        (batch,) = loader
        for sample in samples:
            row = batch["face"].tolist().index(sample.face)
            crop = next(crop for crop in sample.augmented if crop.epoch == epoch)
            assert np.array_equal(crop.image, batch["image"][row].permute(1, 2, 0).numpy())
            assert np.array_equal(crop.points, batch["points"][row].double().numpy(), equal_nan=True)


def test_settings_reach_the_sheet(popos, synthetic, tmp_path, monkeypatch):
    flags = ("inspect", synthetic, "--faces", "1")
    monkeypatch.setenv("POPOS_AUGMENT__FLIP", "0")
    popos(*flags, "--out", "a").ok()
    assert rows_and_columns(tmp_path / "a/faces.jpg") == (1, 7)  # no detail of a mirrored crop
    popos(*flags, "--set", "augment.flip=1", "--seed", "1", "--out", "b").ok()
    assert rows_and_columns(tmp_path / "b/faces.jpg") == (1, 8)
    parts = (
        "rotation", "scale", "shift", "flip", "brightness", "contrast", "saturation", "grey", "blur",
        "low_resolution", "jpeg", "occlusion",
    )  # fmt: skip
    (tmp_path / "plain.toml").write_text("[augment]\n" + "".join(f"{part} = 0\n" for part in parts))
    monkeypatch.delenv("POPOS_AUGMENT__FLIP")
    popos(*flags, "--config", "plain.toml", "--out", "c").ok()
    faces = [cv2.imread(str(tmp_path / f"{name}/faces.jpg"))[LEGEND:, : 2 * TILE - 16] for name in "abc"]
    assert (faces[0] == faces[2]).all() and (faces[0] != faces[1]).any()  # --seed picks the face
    row = cv2.imread(str(tmp_path / "c/faces.jpg"))[LEGEND : LEGEND + TILE].astype(int)
    crop, *augmented = [row[:, n * TILE + 8 : (n + 1) * TILE - 8] for n in range(1, 6)]  # JPEG smears edges
    assert all(np.abs(other - crop).max() < 16 for other in augmented)


def test_missing_and_torn_pictures(popos, odd, tmp_path):
    """One line each, and no run folder; a split whose pictures are there is not affected."""
    for name in ("3.png", "4.png"):
        (tmp_path / name).unlink()
    missing = popos("inspect", odd)
    sound = popos("inspect", odd, "--split", "train", "--out", "sound").ok().out
    assert "points outside" not in sound and "several" not in sound
    first = tmp_path / "0.png"
    first.write_bytes(first.read_bytes()[:40])
    torn = popos("inspect", odd, "--split", "train")
    assert (missing.code, torn.code) == (1, 1)
    assert "2 of the 5 pictures of dataset 'odd' are missing, first" in missing.errors[0]
    assert "0.png: the image is truncated" in torn.errors[0]
    assert not (tmp_path / "runs").exists()


def test_a_figure_that_cannot_be_drawn_is_a_note(popos, odd, monkeypatch):
    def fail(*arguments):
        raise ValueError("no such font")

    monkeypatch.setattr(run, "save_histograms", fail)
    result = popos("inspect", odd, "--json").ok()
    assert result.json["histograms"] is None and result.json["faces"] == 6
    assert result.err == "note: no runs/inspect-odd-1/histograms.png: ValueError: no such font\n"


def test_a_box_scheme(odd):
    index = read_index(odd)
    report = describe(replace(index, scheme=replace(EYES, eye_corners=None)))
    assert report["normaliser"]["name"] == "box"
    assert report["normaliser"]["quantiles"] == report["square_side"]
    assert report["not_measurable"]["faces"] == report["tiny_normaliser"]["faces"] == 0
