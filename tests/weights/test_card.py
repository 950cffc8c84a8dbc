"""The model card: every fact is the weights' own, and the front matter is what the Hub reads."""

import re
from tomllib import loads

import pytest
from huggingface_hub import ModelCard

from popos_cli.core.calibration import FEATURES
from popos_cli.core.schemes import Scheme
from popos_cli.weights.card import ABBREVIATIONS, MeasuredResult, model_card
from popos_cli.weights.info import CodecInfo, UncertaintyInfo, WeightsInfo

NONE = (0.0,) * len(FEATURES)
RESULT = {
    "dataset": "wflw", "split": "test", "weights": "runs/wflw-8-1", "resolution": 8, "decoder": "popos",
    "faces": 2500, "nme": 4.6789, "failure_rate": 3.25, "auc": 55.5, "normaliser": "inter-ocular",
    "threshold": 0.1, "averaging": "face", "flip_test": True, "boxes": "truth", "detector": None, "missed": 0,
    "subsets": {"pose": {"faces": 326, "nme": 8.125, "failure_rate": 12.0, "auc": 30.0}},
}  # fmt: skip
FOUND = {**RESULT, "boxes": "detector", "detector": "yunet"}


def info(**more):
    settings = {
        "dataset": "wflw", "seed": 3, "gpus": None, "model": {"resolution": 8, "init": "auto"},
        "codec": {"sigma": None}, "schedule": {"epochs": 60, "milestones": [0.67, 0.92]},
    }  # fmt: skip
    training = {"dataset": "wflw", "settings": settings, "epoch": 57, "val_nme": 5.4321}
    known = {"resolution": 8, "scheme": "wflw", "codec": CodecInfo(sigma=1.25, decoder="popos")}
    return WeightsInfo(**{**known, "training": training, **more})


def own(name, **more):
    """Weights of a scheme of one's own."""
    name = name.replace("\ud800", "?")  # which no scheme may have in its name
    return info(scheme=name, scheme_definition=Scheme(name, 3).to_dict(), **more)


def calibrated(dataset):
    return UncertaintyInfo(
        landmarks=(1.0,) * 3, own=NONE, face=NONE, lowest=(NONE, NONE), highest=(NONE, NONE),
        dataset=dataset, faces=77,
    )  # fmt: skip


def card(info, *results, licence="cc-by-nc-4.0"):
    measured = [MeasuredResult.model_validate(result) for result in results]
    return model_card(info, "ada/faces", "wflw-8.safetensors", licence, measured)


def front(text):
    return ModelCard(text).data.to_dict()


def section(text, name):
    return text.partition(f"## {name}\n")[2].partition("\n## ")[0]


def test_the_front_matter_is_read_by_the_hub():
    read = front(card(info()))
    assert (read["license"], read["library_name"]) == ("cc-by-nc-4.0", "popos")
    assert read["pipeline_tag"] == "keypoint-detection"
    assert {"popos", "facial-landmarks", "scheme-wflw"} <= set(read["tags"])
    assert "license_name" not in read and "model-index" not in read


def test_a_part_of_a_benchmark_is_marked_wherever_a_figure_stands():
    missing = {"benchmark": "wflw", "split": "train", "faces": 70, "of": 7500, "parts": {}, "subsets": {}}
    figures = {**RESULT, "partial": {**missing, "split": "test", "faces": 25, "of": 2500},
               "trained_on_partial": missing}  # fmt: skip
    text = card(info(training={**info().training, "partial": missing}), figures)
    assert "on part of `wflw`: `train: 70 of 7500 faces`" in section(text, "Data")
    validation, *_, whole, pose = section(text, "Figures").replace(ABBREVIATIONS, "").strip().splitlines()
    trained = "trained on part of wflw (70 of 7500 faces)"
    assert f"`{trained}`" in validation
    assert f"partial: 25 of 2500 faces; {trained}" in whole
    assert "partial" not in pose and trained in pose  # all of its faces were there
    names = {result["dataset"]["name"] for result in front(text)["model-index"][0]["results"]}
    assert names == {"wflw (partial)", "wflw pose"}


def test_results_are_in_the_model_index():
    (model,) = front(card(info(), RESULT, FOUND))["model-index"]
    assert model["name"] == "wflw-8"
    whole, pose = model["results"]
    assert whole["dataset"] == {"name": "wflw", "type": "wflw", "split": "test"}
    assert pose["dataset"]["config"] == "pose"
    assert [(m["type"], m["value"]) for m in whole["metrics"]] == 2 * [
        ("nme", 4.6789), ("failure_rate", 3.25), ("auc", 55.5)
    ]  # fmt: skip
    assert [m["args"].get("detector") for m in whole["metrics"]] == 3 * [None] + 3 * ["yunet"]


@pytest.mark.parametrize(
    "licence, identifier, name, words",
    [
        ("Apache-2.0", "apache-2.0", None, "`Apache-2.0`"),
        ("research only", "other", "research only", "`research only`"),
        ('für: "b" # c', "other", 'für: "b" # c', '`für: "b" # c`'),
        (None, "unknown", None, "Not stated"),
    ],
)
def test_licences(licence, identifier, name, words):
    text = card(info(), licence=licence)
    assert (front(text)["license"], front(text).get("license_name")) == (identifier, name)
    assert words in section(text, "Licence")


def test_what_the_weights_are():
    text = card(info(label_offset=(1.0, 1.0)))
    for fact in (
        "98 facial landmarks", "8x8 heatmaps", "scheme `wflw`", "sigma 1.25", "decoder `popos`",
        "| alignment | `center` |", "1.25 times", "(1, 1) source pixels", "| uncertainty | not calibrated |",
        "popos predict photo.jpg --weights hf://ada/faces/wflw-8.safetensors\n",
        'load("hf://ada/faces/wflw-8.safetensors")',
    ):  # fmt: skip
        assert fact in text, fact
    text = card(own("triangle", uncertainty=calibrated("mine")))
    assert "3, scheme `triangle`" in text
    assert "calibrated on 77 faces of `mine`" in text and "not calibrated" not in text


def test_the_recipe_is_toml_that_train_takes():
    text = section(card(info()), "Recipe")
    assert loads(text.partition("```toml\n")[2].partition("```")[0]) == {
        "dataset": "wflw", "seed": 3, "model": {"resolution": 8, "init": "auto"}, "codec": {},
        "schedule": {"epochs": 60, "milestones": [0.67, 0.92]},
    }  # fmt: skip
    assert "after epoch 57" in text
    assert "## Recipe" not in card(info(training={}))


@pytest.mark.parametrize(
    "init, shown",
    [
        ("/home/ada/secret/start", "`start`"),
        ("C:\\Users\\secret\\start", "`start`"),
        ("../secret/start/", "`start`"),
        ("runs/start", "`runs/start`"),
        ("hf://ada/net/a.safetensors", "`hf://ada/net/a.safetensors`"),
        ("an earlier default (docs/model-card.md)", "`an earlier default (docs/model-card.md)`"),
    ],
)
def test_where_training_started_without_folders_of_the_machine(init, shown):
    training = info().training
    settings = {**training["settings"], "model": {"resolution": 8, "init": init}}
    text = card(info(training={**training, "settings": settings}))
    assert shown in section(text, "Data")
    assert "secret" not in text


def test_imported_weights_name_their_checkpoint():
    imported = {"file": "hrnetv2_w18_wflw.pth", "sha256": "2bf032a6" * 8, "name": "mmpose-wflw"}
    text = section(card(info(training={"imported": imported})), "Data")
    assert "`hrnetv2_w18_wflw.pth`" in text and "2bf032a6" * 8 in text


def test_figures():
    text = section(card(info(), RESULT, FOUND), "Figures")
    assert "Validation faces" in text and "NME 5.43 % (inter-ocular)" in text
    rows = [line for line in text.splitlines() if line.startswith("| `wflw test")]
    assert [[cell.strip("` ") for cell in row.strip("|").split("|")] for row in rows] == [
        [f"wflw test{subset}", boxes, "popos", "on", *numbers, "inter-ocular, 0.1", "face"]
        for boxes in ("truth", "yunet")
        for subset, numbers in (
            ("", ["2500", "4.68", "3.25", "55.50"]),
            (": pose", ["326", "8.12", "12.00", "30.00"]),
        )
    ]
    assert "None were given" in card(info(training={}))
    selected = {**info().training, "selected_on": "test"}
    assert "Test faces, on which this epoch was selected" in card(info(training=selected))


BREAKS_OUT = [
    "x` | y\n\n# evil\n", "```\n# evil\n```", "---\nevil: mit\n---", "<img src=x onerror=evil>",
    "[here](http://evil)", "![i](http://evil)", "| evil | b |", "a\x1b[31mevil\x00\u202e", "evil\ud800",
    "$x$ **evil** &amp;", "{evil}",
]  # fmt: skip


def card_with(name):
    """Metadata and results with `name` for every free text."""
    settings = {"dataset": name, "model": {"init": name, "more": [name, None]}, name: 3}
    training = {"dataset": name, "settings": settings, "epoch": name, "val_nme": float("nan")}
    texts = ("dataset", "split", "decoder", "normaliser", "averaging", "detector")
    result = {**RESULT, **dict.fromkeys(texts, name), "subsets": {name: RESULT}}
    ours = own(name, uncertainty=calibrated(name), training=training)
    converted = info(training={"imported": {"file": name, "sha256": name}})
    return card(ours, result, licence=name), card(converted)


@pytest.mark.parametrize("bad", BREAKS_OUT, ids=ascii)
def test_names_from_the_data_stay_code(bad):
    for text, harmless in zip(card_with(bad), card_with("a name"), strict=True):
        body = text.partition("\n---\n")[2]
        assert "evil" not in re.sub(r"(?s)(`+)(?!`).*?(?<!`)\1(?!`)", "", body)
        assert text.count("\n") == harmless.count("\n") and cells(text) == cells(harmless)
        assert text.encode().decode() == text and "\x1b" not in text
        assert "popos" in front(text)["tags"]
    assert front(card_with(bad)[0])["license"] == "other"


def cells(text):
    return [len(re.split(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]
