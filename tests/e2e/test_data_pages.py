"""What docs/how-to/own-data.md, weights.md and docs/reference/formats.md say of files, beside the files."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import numpy as np

from popos_cli.core.schemes import find_scheme
from popos_cli.data.index import index_path
from popos_cli.weights.catalog import Entry, load_catalog
from popos_cli.weights.info import CropInfo, WeightsInfo

DOCS = Path(__file__).resolve().parents[2] / "docs"
PARTS = (DOCS / "reference/formats.md").read_text(encoding="utf-8").split("\n## ")
SECTIONS = {part.splitlines()[0]: part for part in PARTS}


def _block(page: str, kind: str) -> str:
    found = re.search(rf"^```{kind}\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def _keys(section: str) -> set[str]:
    """Of a table the first column; of a list what stands in backticks before a colon."""
    rows = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
    for line in re.findall(r"^\* .*(?:\n  .*)*", section, flags=re.MULTILINE):
        rows += re.findall(r"((?:`\w+`, )*`\w+`):", line)
    return {key for row in rows for key in re.findall(r"`([\w.]+)`", row)}


def _keys_within(document: object, where: str = "") -> set[str]:
    """Dotted keys of nested objects; those of a list's items are the list's."""
    if isinstance(document, list):
        return {key for item in document for key in _keys_within(item, where)}
    if not isinstance(document, dict):
        return set()
    own = {f"{where}{key}" for key in document if key != "..."}
    return own.union(*(_keys_within(value, f"{where}{key}.") for key, value in document.items()))


def test_the_scheme_of_the_page(tmp_path):
    page = (DOCS / "how-to/own-data.md").read_text(encoding="utf-8")
    (tmp_path / "five.toml").write_text(_block(page, "toml"))
    scheme = find_scheme(str(tmp_path / "five.toml"))
    assert scheme.landmarks == 5 and scheme.flip_pairs and scheme.names[2] == "nose"


def test_the_catalog_of_the_page(home):
    text = _block((DOCS / "how-to/weights.md").read_text(encoding="utf-8"), "toml")
    home.mkdir()
    (home / "catalog.toml").write_text(text)
    entry = load_catalog()["club-wflw"]
    assert entry.source == tomllib.loads(text)["club-wflw"]["source"]


def test_every_key_of_catalogs_and_weights_is_described():
    assert _keys(SECTIONS["Catalog"]) == Entry.model_fields.keys() - {"name"}
    crop = {f"crop.{name}" for name in CropInfo.model_fields}
    assert _keys(SECTIONS["Weights"]) == (WeightsInfo.model_fields.keys() - {"crop"}) | crop


def test_every_array_of_an_index_is_described(synthetic):
    with np.load(index_path(synthetic), allow_pickle=False) as arrays:
        assert _keys(SECTIONS["Index"]) == set(arrays)


def test_the_files_of_runs_are_described(trained, popos):
    described = re.findall(r"`([\w.]+\.\w+)`", SECTIONS["Run folders"])
    files = {path.name for path in trained.iterdir() if path.is_file()}
    assert files == set(described) - {"nonfinite.pt"}

    document = popos("evaluate", "--dataset", "synthetic", "--no-flip-test", "--json").ok().json
    example = json.loads(_block(SECTIONS["JSON of evaluate"], "json"))
    benchmarks_alone = ("results.published.", "results.subsets.")
    shown = {key for key in _keys_within(example) if not key.startswith(benchmarks_alone)}
    assert shown <= _keys_within(document)
    evaluated = (DOCS / "how-to/evaluate.md").read_text(encoding="utf-8").split("\n## Files")[1]
    run = Path(document["results"][0]["run"])
    assert {path.name for path in run.iterdir() if path.is_file()} <= set(
        re.findall(r"`([\w.]+\.\w+)`", evaluated)
    )


def test_drawn_faces_have_labels_like_those_of_people(popos, shop):
    """prepare-data custom reads what prepare-data synthetic has written beside its pictures."""
    popos("prepare-data", "custom", shop.pictures / "images", "--name", "again").ok()
    with (
        np.load(index_path("again"), allow_pickle=False) as again,
        np.load(shop.home / "datasets/synthetic.npz", allow_pickle=False) as drawn,
    ):
        np.testing.assert_allclose(again["points"], drawn["points"], atol=6e-4)
        assert again["image"].tolist() == [image.removeprefix("images/") for image in drawn["image"].tolist()]
