"""The model card: every fact is the weights' own, and the front matter is what the Hub reads."""

import re

import pytest
from huggingface_hub import ModelCard

from popos_cli.core.calibration import FEATURES
from popos_cli.core.schemes import Scheme
from popos_cli.weights.card import Place, model_card
from popos_cli.weights.format import CodecInfo, UncertaintyInfo, WeightsInfo

PLACE = Place("ada/faces", "wflw-8.safetensors", "cc-by-nc-4.0")
NONE = (0.0,) * len(FEATURES)
RESULT = {
    "dataset": "wflw", "split": "test", "weights": "runs/wflw-8-1", "resolution": 8, "decoder": "popos",
    "faces": 2500, "nme": 4.6789, "failure_rate": 3.25, "auc": 55.5, "normaliser": "inter-ocular",
    "threshold": 0.1, "averaging": "face", "flip_test": True, "boxes": "truth", "detector": None, "missed": 0,
    "subsets": {"pose": {"faces": 326, "nme": 8.125, "failure_rate": 12.0, "auc": 30.0}},
}  # fmt: skip


def info(**more):
    settings = {
        "dataset": "wflw", "seed": 3, "gpus": None, "model": {"resolution": 8, "init": "auto"},
        "codec": {"sigma": None}, "schedule": {"epochs": 60, "milestones": [0.67, 0.92]},
    }  # fmt: skip
    training = {"dataset": "wflw", "settings": settings, "epoch": 57, "val_nme": 5.4321}
    told = {
        "resolution": 8, "scheme": "wflw", "codec": CodecInfo(sigma=1.25, decoder="popos"),
        "training": training, **more,
    }  # fmt: skip
    return WeightsInfo(**told)


def started_from(init):
    training = info().training
    settings = {**training["settings"], "model": {"resolution": 8, "init": init}}
    return info(training={**training, "settings": settings})


def front(card):
    return ModelCard(card).data.to_dict()


def test_the_front_matter_is_read_by_the_hub():
    read = front(model_card(info(), PLACE, []))
    assert (read["license"], read["library_name"]) == ("cc-by-nc-4.0", "popos")
    assert read["pipeline_tag"] == "keypoint-detection"
    assert {"popos", "facial-landmarks", "scheme-wflw"} <= set(read["tags"])
    assert "license_name" not in read


@pytest.mark.parametrize("licence", ["research only", 'a: "b" # c', "Lizenz für Forschung"])
def test_a_licence_that_the_hub_does_not_know_has_a_name(licence):
    card = model_card(info(), Place("ada/faces", "f.safetensors", licence), [])
    assert (front(card)["license"], front(card)["license_name"]) == ("other", licence)
    assert licence in card.partition("## Licence")[2]


def test_no_licence_is_said_to_be_none():
    card = model_card(info(), Place("ada/faces", "f.safetensors"), [])
    assert front(card)["license"] == "unknown"
    assert "Not stated" in card.partition("## Licence")[2]


def test_what_the_weights_are():
    card = model_card(info(label_offset=(1.0, 1.0)), PLACE, [])
    for fact in (
        "98 facial landmarks", "8x8 heatmaps", "scheme `wflw`", "sigma 1.25", "decoder `popos`",
        "| alignment | `center` |", "1.25 times", "(1, 1) source pixels", "not calibrated",
    ):  # fmt: skip
        assert fact in card, fact
    assert card.count("wflw-8.safetensors") >= 4
    assert "popos predict photo.jpg --weights hf://ada/faces/wflw-8.safetensors" in card
    assert 'load("hf://ada/faces/wflw-8.safetensors")' in card


def test_an_own_scheme_and_a_calibration():
    scheme = Scheme(
        name="triangle", landmarks=3, groups={}, closed=frozenset(), flip_pairs=((0, 1),), eye_corners=(0, 1),
        threshold=0.08,
    )  # fmt: skip
    told = UncertaintyInfo(
        landmarks=(1.0,) * 3, own=NONE, face=NONE, lowest=(NONE, NONE), highest=(NONE, NONE),
        dataset="mine", faces=77,
    )  # fmt: skip
    card = model_card(
        info(scheme="triangle", scheme_definition=scheme.to_dict(), uncertainty=told), PLACE, []
    )
    assert "3, scheme `triangle`" in card
    assert "calibrated on 77 faces of `mine`" in card
    assert "not calibrated" not in card


def test_the_recipe_is_toml_that_train_takes():
    from tomllib import loads

    card = model_card(info(), PLACE, [])
    settings = loads(card.partition("```toml\n")[2].partition("```")[0])
    assert settings == {
        "dataset": "wflw", "seed": 3, "model": {"resolution": 8, "init": "auto"}, "codec": {},
        "schedule": {"epochs": 60, "milestones": [0.67, 0.92]},
    }  # fmt: skip
    assert "after epoch 57" in card
    assert "## Recipe" not in model_card(info(training={}), PLACE, [])


@pytest.mark.parametrize(
    ("init", "told"),
    [
        ("/home/ada/secret/start", "`start`"),
        ("~/secret/start.safetensors", "`start.safetensors`"),
        ("C:\\Users\\secret\\start", "`start`"),
        ("../secret/start/", "`start`"),
        ("runs/start", "`runs/start`"),
        ("hf://ada/net/a.safetensors", "`hf://ada/net/a.safetensors`"),
        ("an earlier default (docs/model-card.md)", "`an earlier default (docs/model-card.md)`"),
    ],
)
def test_where_training_started_without_folders_of_the_machine(init, told):
    card = model_card(started_from(init), PLACE, [])
    assert told in card.partition("## Data")[2].partition("## Recipe")[0]
    assert "secret" not in card


def test_imported_weights_name_their_checkpoint():
    imported = {"file": "hrnetv2_w18_wflw.pth", "sha256": "2bf032a6" * 8, "name": "mmpose-wflw"}
    card = model_card(info(training={"imported": imported}), PLACE, [])
    assert "`hrnetv2_w18_wflw.pth`" in card
    assert "2bf032a6" * 8 in card


def test_figures():
    card = model_card(info(), PLACE, [RESULT, {**RESULT, "boxes": "detector", "detector": "yunet"}])
    assert "NME 5.43 % (inter-ocular)" in card
    rows = [line for line in card.splitlines() if line.startswith("| wflw test")]
    assert [[cell.strip() for cell in row.strip("|").split("|")] for row in rows] == [
        [f"wflw test{subset}", boxes, "`popos`", "on", *numbers, "inter-ocular, 0.1", "face"]
        for boxes in ("truth", "yunet")
        for subset, numbers in (
            ("", ["2500", "4.68", "3.25", "55.50"]),
            (": pose", ["326", "8.12", "12.00", "30.00"]),
        )
    ]
    assert "None were given" in model_card(info(training={}), PLACE, [])


BREAKS_OUT = [
    "x` | y\n\n# Free money\n", "```\n# Free money\n```", "---\nlicense: mit\n---", "<img src=x onerror=y>",
    "[here](http://evil)", "![i](http://evil)", "| a | b |", "a\x1b[31mb\x00\u202e", "x\ud800",
    "$x$ **bold** &amp;",
]  # fmt: skip


@pytest.mark.parametrize("bad", BREAKS_OUT, ids=ascii)
def test_names_from_the_data_stay_names(bad):
    """Wherever metadata and results have a free text, it ends neither its line nor its code."""
    scheme = Scheme(bad.replace("\ud800", "?"), 3)  # a surrogate is no text, and refused
    told = UncertaintyInfo(
        landmarks=(1.0,) * 3, own=NONE, face=NONE, lowest=(NONE, NONE), highest=(NONE, NONE),
        dataset=bad, faces=7,
    )  # fmt: skip
    settings = {"dataset": bad, "model": {"init": bad, "more": [bad, None]}, bad: 3}
    results = [{
        **RESULT, "dataset": bad, "split": bad, "decoder": bad, "normaliser": bad, "averaging": bad,
        "detector": bad, "subsets": {bad: RESULT["subsets"]["pose"]},
    }]  # fmt: skip
    training = {"dataset": bad, "settings": settings, "epoch": bad, "val_nme": float("nan")}
    own = info(scheme=scheme.name, scheme_definition=scheme.to_dict(), uncertainty=told, training=training)
    plain = info(scheme="x", scheme_definition=Scheme("x", 3, {}, frozenset(), (), None).to_dict())
    place = Place("ada/faces", "f.safetensors", bad)
    card, other = model_card(own, place, results), model_card(plain, place, [RESULT])
    assert headings(card) == headings(other)
    assert card.encode().decode() == card and "\x1b" not in card
    assert front(card)["license"] == "other" and "popos" in front(card)["tags"]
    for row in (line for line in card.splitlines() if line.startswith("|") and "inter-ocular" not in line):
        assert len(re.split(r"(?<!\\)\|", row)) in (4, 12)
    imported = model_card(info(training={"imported": {"file": bad, "sha256": bad}}), PLACE, [])
    assert headings(imported)[1:] == [h for h in headings(other)[1:] if h != "## Recipe"]
    for tag in ("<img", "](http"):
        assert re.search(r"(?<![\\`])" + re.escape(tag), outside_code(card)) is None


def outside_code(card):
    return re.sub(r"(?s)(`+)(?!`).*?(?<!`)\1(?!`)", "", card.partition("\n---\n")[2])


def headings(card):
    """Of the Markdown outside blocks of code, the file's own name aside."""
    fence, found = "", []
    for line in card.partition("\n---\n")[2].splitlines():
        ticks = re.match("`{3,}|", line)[0]
        if fence:
            fence = "" if ticks == fence and line == fence else fence
        elif ticks:
            fence = ticks
        elif line.startswith("#"):
            found.append(re.sub(r"\d+ facial", "facial", line))
    assert not fence
    return found
