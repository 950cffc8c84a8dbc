"""What a run changes in its preset, and that the text of it leads back to the run."""

from __future__ import annotations

import pytest

from popos_cli.train.differences import as_diff, differences
from popos_cli.train.load import load_train_settings
from popos_cli.train.presets import RECIPES
from popos_cli.train.settings import TrainSettings


def load(dataset: str, *sets: str) -> TrainSettings:
    return load_train_settings(dataset, None, sets, {}, use_environment=False)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dataset", ["300w", "cofw", "synthetic", "my_faces"])
def test_a_preset_does_not_differ_from_itself(
    dataset: str, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POPOS_SCHEDULE__EPOCHS", "7")  # no part of a preset
    settings = load(dataset, f"recipe={recipe}", "gpus=0", "processes=3", "workers=5")
    assert differences(settings) == []
    assert as_diff([]) == ""


def test_what_differs() -> None:
    found = differences(load("300w", "schedule.epochs=5", "model.init=runs/a b", "model.resolution=8"))
    assert found == [
        ("model.resolution", 64, 8),
        ("model.init", "auto", "runs/a b"),
        ("schedule.epochs", 60, 5),
    ]
    assert as_diff(found).splitlines() == [
        "- model.resolution = 64",
        "+ model.resolution = 8",
        '- model.init = "auto"',
        '+ model.init = "runs/a b"',
        "- schedule.epochs = 60",
        "+ schedule.epochs = 5",
    ]


def test_a_setting_that_is_absent_has_no_line() -> None:
    assert as_diff([("a", None, 1.5), ("b", (0.5, 1.0), None)]) == "+ a = 1.5\n- b = [0.5, 1.0]"


@pytest.mark.parametrize(
    "sets",
    [
        [
            "schedule.milestones=[0.5, 0.75]",
            "augment.flip=0",
            "seed=4294967295",
            "schedule.learning_rate=1e-05",
        ],
        ['model.init="a \\" b"', "compile=true", "precision=bf16", "schedule.batch_size=auto"],
        ["recipe=reference", "schedule.warmup_steps=7", "loss.heatmap=adaptive-wing"],
    ],
)
def test_its_lines_give_the_same_run(sets: list[str]) -> None:
    settings = load("wflw", *sets)
    text = as_diff(differences(settings))
    assert len([line for line in text.splitlines() if line[0] == "+"]) == len(
        [text for text in sets if not text.startswith("recipe")]
    )
    changed = [line[2:] for line in text.splitlines() if line.startswith("+ ")]
    assert load("wflw", f"recipe={settings.recipe}", *changed) == settings
