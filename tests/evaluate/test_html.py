"""The report is one file that needs no other and can be sent to anybody."""

import base64
import re

import cv2
import numpy as np
import pytest

from popos_cli.data.pictures import save_picture
from popos_cli.evaluate.gallery import worst_tiles
from popos_cli.evaluate.html import Pictures, write_html
from popos_cli.evaluate.plots import save_ced, save_groups

PUBLISHED = {
    "nme": 3.37, "method": "A & B", "resolution": 64, "decoder": "two-hot", "citation": "Somebody 2023",
    "difference": -0.123, "remark": "3 of 689 faces: not comparable",
}  # fmt: skip
SETTINGS = {
    "popos": "1.2.3", "date": "2026-01-02", "command": "popos evaluate --out=/home/me/x --weights '/a b/w'",
    "weights": None, "decoders": ["ml", "dark"], "flip_test": True,
    "failed": ["other, w: /mnt/disk/torn.png: truncated"],
    "evaluated": [{"dataset": "squares", "split": "test", "resolution": 16, "weights": "w<1>",
                   "file": "/home/me/w.safetensors", "sha256": "ab" * 32}],
}  # fmt: skip


def write(folder, *evaluated, settings=SETTINGS):
    save_ced(evaluated, folder / "ced.png")
    save_groups(evaluated, folder / "groups.png")
    tiles = [worst_tiles(one) for one in evaluated]
    write_html(
        folder / "r.html", evaluated, settings, Pictures(folder / "ced.png", folder / "groups.png", tiles)
    )
    return (folder / "r.html").read_text(encoding="utf-8")


@pytest.fixture
def page(evaluate, tmp_path):
    subset = {
        "faces": 1,
        "nme": 7.125,
        "nme_interval": None,
        "failure_rate": 0.0,
        "auc": 12.5,
        "published": None,
    }
    one = evaluate([0.03, 0.02, 0.01], published=PUBLISHED, subsets={"dark": subset})
    return write(tmp_path, one)


def without_pictures(page):
    return re.sub(r"<style>.*?</style>|src=\"[^\"]*\"", "", page, flags=re.DOTALL)


def test_pictures_are_inside_and_nothing_is_outside(page, tmp_path):
    sources = re.findall(r'src="([^"]*)"', page)
    for source, name in zip(sources, ("ced.png", "groups.png"), strict=False):
        assert base64.b64decode(source.split(",")[1]) == (tmp_path / name).read_bytes()
    faces = sources[2:]
    assert len(faces) == 3
    for source in faces:
        head, data = source.split(",")
        assert head == "data:image/jpeg;base64"
        assert cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR).shape[0] == 320
    assert not re.search(r"href=|<script|<link|@import|url\(|http", page)


def test_it_tells_what_was_measured_figures_settings_and_faces(page):
    text = re.sub(r"<[^>]*>", " ", without_pictures(page))
    for told in (
        "1.2.3", "2026-01-02", "ab" * 32, "ml, dark", "5.000", "4.00-6.00", "7.125", "3.37", "-0.123",
        "3 of 689 faces: not comparable", "Somebody 2023", "x:3", "inter-ocular", "5.50",
    ):  # fmt: skip
        assert told in text
    assert "None" not in text


def test_what_was_measured_comes_first_and_settings_last(page):
    text = without_pictures(page)
    order = ["SHA-256", "squares test: 3 faces", "popos evaluate --out", "<h2>Summary", "<h2>Cumulative",
             "<h2>Error of each landmark group", "<h2>Worst faces", "<h2>Settings", "flip test"]  # fmt: skip
    places = [text.index(told) for told in order]
    assert places == sorted(places)
    assert text.count('<table class="summary">') == 1


def test_no_absolute_path(page):
    text = re.sub(r"<[^>]*>", " ", without_pictures(page))
    assert not re.search(r"""[\s"'(=]/\w""", text)
    assert "--out=x" in text and "torn.png: truncated" in text and "(w.safetensors)" in text


def test_one_result_of_noisy_photos_is_at_most_3_mb(evaluate, tmp_path, monkeypatch):
    """Twelve faces of pure noise, which JPEG compresses worst."""
    one = evaluate([0.03, 0.02, 0.01])
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    for name in one.index.image:
        save_picture(noise, tmp_path / str(name))
    monkeypatch.setattr(type(one), "worst", lambda self, count: [0, 1, 2] * 4)
    assert len(write(tmp_path, one)) < 3e6


def test_several_results_share_one_summary(evaluate, tmp_path):
    errors = [0.03, 0.02, 0.01]
    page = write(tmp_path, *(evaluate(errors, dataset=d, decoder=k, nme=n) for d, k, n in
                             (("a", "ml", 5.0), ("a", "dark", 4.0), ("b", "ml", 6.0))))  # fmt: skip
    assert page.count('<table class="summary">') == 1
    assert re.findall(r"<b>(\d\.\d{3})</b>", page) == ["4.000", "6.000"]  # the best of each dataset
    heads = re.findall(r"<tr><th>landmarks</th>(.*?)</tr>", page)
    assert heads == ["<th>dark</th><th>ml</th>", "<th>ml</th>"]


def test_names_are_text_not_markup(page):
    assert "b &lt;i&gt;&amp;.png" in page
    assert "A &amp; B" in page
    assert "w&lt;1&gt;" in page
    assert "<i>" not in page


def test_control_characters_of_names_are_escaped_and_a_missing_picture_is_named(evaluate, tmp_path):
    one = evaluate([0.03, 0.02, 0.01], dataset="a\u202eb\x1b", weights="caf\udce9<b>", published=None)
    missing = Pictures(tmp_path / "no.png", tmp_path / "no.png", [[]])
    write_html(tmp_path / "r.html", [one], {"failed": ["x<y"]}, missing)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert r"a\u202eb\x1b" in page and r"caf\udce9&lt;b&gt;" in page and "x&lt;y" in page
    for what in ("cumulative error curves", "errors of the landmark groups", "worst faces"):
        assert f"{what}: not drawn" in page
    assert "src=" not in page
