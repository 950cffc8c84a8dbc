"""The report is one file that needs no other."""

import base64
import re

import cv2
import numpy as np
import pytest

from popos_cli.data.pictures import save_picture
from popos_cli.evaluate.gallery import worst_faces
from popos_cli.evaluate.html import write_html
from popos_cli.evaluate.plots import save_ced

PUBLISHED = {
    "nme": 3.37, "method": "A & B", "resolution": 64, "decoder": "two-hot", "citation": "Somebody 2023",
    "difference": -0.123, "remark": "3 of 689 faces: not comparable",
}  # fmt: skip


@pytest.fixture
def page(evaluate, tmp_path):
    subset = {"faces": 1, "nme": 7.125, "failure_rate": 0.0, "auc": 12.5, "published": None}
    one = evaluate([0.03, 0.02, 0.01], published=PUBLISHED, subsets={"dark": subset})
    save_ced([one], tmp_path / "ced.png")
    save_picture(worst_faces(one), tmp_path / "sheet.jpg")
    settings = {
        "popos": "1.2.3", "weights": None, "decoders": ["ml", "dark"], "flip_test": True,
        "evaluated": [{"dataset": "squares", "split": "test", "resolution": 16, "weights": "w<1>",
                       "file": "w.safetensors"}],
    }  # fmt: skip
    write_html(tmp_path / "r.html", [one], settings, tmp_path / "ced.png", [tmp_path / "sheet.jpg"])
    return (tmp_path / "r.html").read_text(encoding="utf-8")


def test_pictures_are_inside_and_nothing_is_outside(page, tmp_path):
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 2
    for source, name in zip(sources, ("ced.png", "sheet.jpg"), strict=True):
        head, data = source.split(",")
        assert head in ("data:image/png;base64", "data:image/jpeg;base64")
        assert base64.b64decode(data) == (tmp_path / name).read_bytes()
        assert cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR) is not None
    assert not re.search(r"href=|<script|<link|@import|url\(|http", page)


def test_it_tells_figures_settings_and_faces(page):
    text = re.sub(r"<[^>]*>", " ", re.sub(r'src="[^"]*"', "", page))
    for told in ("1.2.3", "ml, dark", "5.000", "7.125", "3.37", "-0.123", "3 of 689 faces: not comparable",
                 "Somebody 2023", "x:3", "inter-ocular"):  # fmt: skip
        assert told in text
    assert "None" not in text


def test_names_are_text_not_markup(page):
    assert "b &lt;i&gt;&amp;.png" in page
    assert "A &amp; B" in page
    assert "w&lt;1&gt;" in page
    assert "<i>" not in page


def test_control_characters_of_names_are_escaped_and_a_missing_picture_is_named(evaluate, tmp_path):
    one = evaluate([0.03, 0.02, 0.01], dataset="a\u202eb\x1b", weights="caf\udce9<b>", published=None)
    write_html(tmp_path / "r.html", [one], {"failed": ["x<y"]}, tmp_path / "no.png", [tmp_path / "no.jpg"])
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert r"a\u202eb\x1b" in page and r"caf\udce9&lt;b&gt;" in page and "x&lt;y" in page
    assert "cumulative error curves: not drawn" in page and "worst faces: not drawn" in page
    assert "src=" not in page
