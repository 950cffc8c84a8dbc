"""Precedence, errors and round trip of the settings' sources."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from unittest.mock import patch

import pytest
import tomli_w
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from popos_cli.errors import UsageError
from popos_cli.train.load import KEYS, dump_toml, load_train_settings, preset_differences
from popos_cli.train.presets import RECIPES
from popos_cli.train.settings import TrainSettings

DATASETS = [*filter(None, RECIPES["popos"]), "mine"]


def load(
    dataset: str | None = "mine",
    config: Path | None = None,
    sets: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> TrainSettings:
    """`load_train_settings` that never sees the variables of the machine that runs the tests."""
    with patch("os.environ", dict(environ or {})):
        return load_train_settings(dataset, config, sets, flags or {})


def refusal(**sources: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load(**sources)
    assert "\n" not in caught.value.message
    assert caught.value.hint is not None and "\n" not in caught.value.hint
    return caught.value


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def _write(text: str | bytes) -> Path:
        path = tmp_path / "config.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return _write


# Precedence. 300w's preset has 60 epochs; each further source asks for its own number.

LEVELS = {"preset": 60, "file": 2, "environment": 3, "set": 4, "flag": 5}


@pytest.mark.parametrize(
    ("low", "high"),
    [(low, high) for i, low in enumerate(LEVELS) for high in list(LEVELS)[i:]],
)
def test_the_later_source_wins(low: str, high: str, write: Any) -> None:
    levels = (low, high)
    loaded = load(
        "300w" if "preset" in levels else "mine",
        write("[schedule]\nepochs = 2\n") if "file" in levels else None,
        ["schedule.epochs=4"] if "set" in levels else [],
        {"schedule": {"epochs": 5}} if "flag" in levels else {},
        {"POPOS_SCHEDULE__EPOCHS": "3"} if "environment" in levels else {},
    )
    assert loaded.schedule.epochs == LEVELS[high]


def test_sources_merge_key_by_key(write: Any) -> None:
    loaded = load(
        dataset="300w",
        config=write("seed = 1\n[schedule]\nepochs = 2\nbatch_size = 8\nwarmup = 0.5\n[loss]\n"),
        environ={
            "POPOS_SCHEDULE__BATCH_SIZE": "16", "POPOS_MODEL__RESOLUTION": "8", "popos_gpus": "0",
            "POPOS_LOSS__POINTS": "", "POPOS_HOME": "/x", "POPOS_DEBUG": "1", "POPOSSUM": "1",
        },
        sets=["schedule.warmup=3", " schedule.warmup = 2 ", "model.init=scratch"],
        flags={"model": {"resolution": 4, "init": None}, "seed": 7},
    )  # fmt: skip
    assert loaded.schedule.shape == "step"  # the preset's
    assert loaded.schedule.epochs == 2  # the file's
    assert loaded.schedule.batch_size == 16 and loaded.gpus == 0  # the variables'
    assert loaded.schedule.warmup == 2 and loaded.model.init == "scratch"  # --set's; a flag of None is none
    assert loaded.model.resolution == 4 and loaded.seed == 7  # the flags'
    assert loaded.schedule.learning_rate == TrainSettings(dataset="x").schedule.learning_rate
    assert loaded.loss == TrainSettings(dataset="x").loss  # an empty table, an empty variable


def test_a_wrong_value_that_is_overruled_does_not_matter(write: Any) -> None:
    config = write("[schedule]\nepochs = -1\n")
    assert load(config=config, flags={"schedule": {"epochs": 3}}).schedule.epochs == 3


def test_the_dataset_follows_the_precedence_and_picks_the_preset(write: Any) -> None:
    config, environ = write('dataset = "cofw"\n'), {"POPOS_DATASET": "synthetic"}
    assert load(dataset=None, config=config).schedule.epochs == 210
    assert load(dataset=None, config=config, environ=environ).schedule.epochs == 10
    assert load(dataset=None, sets=["dataset=300w"], environ=environ).schedule.epochs == 60
    flagged = load(dataset="mine", sets=["dataset=cofw"], environ=environ)
    assert flagged == TrainSettings(dataset="mine")


def test_the_recipe_comes_from_any_source_and_gives_way_to_all(write: Any) -> None:
    assert load("cofw", write('recipe = "reference"\n')).schedule.learning_rate == 2e-3
    environ = {"POPOS_RECIPE": "reference"}
    settings = load("coco-face", sets=["schedule.epochs=3"], environ=environ)
    assert (settings.loss.heatmap, settings.loss.sinkhorn, settings.augment.scale_clip) == ("huber", 1, 1)
    assert settings.schedule.epochs == 3
    assert load("coco-face", flags={"recipe": "popos"}, environ=environ).loss.heatmap == "mse"


def test_the_environment_can_be_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPOS_SEED", "11")
    assert load_train_settings("mine", None, [], {}).seed == 11
    monkeypatch.setenv("POPOS_SED", "12")
    assert load_train_settings("mine", None, [], {}, use_environment=False).seed == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("scratch", "scratch"),
        ('"scratch"', "scratch"),
        ("runs/a=b.safetensors", "runs/a=b.safetensors"),
        (r"C:\weights\net", r"C:\weights\net"),
        ("2024", "2024"),  # a text field keeps what looks like a number, a date or a truth value
        ("2024-05-01", "2024-05-01"),
        ("true", "true"),
        ("1\nseed = 2", "1\nseed = 2"),
    ],
)
def test_text_fields_keep_plain_text(text: str, value: str) -> None:
    assert load(sets=[f"model.init={text}"]).model.init == value
    assert load(environ={"POPOS_MODEL__INIT": text}).model.init == value


@pytest.mark.parametrize("text", ["[0.5, 1.0]", " [ 0.5 , 1 ] "])
def test_texts_may_be_toml_lists(text: str) -> None:
    assert load(sets=[f"schedule.milestones={text}"]).schedule.milestones == (0.5, 1.0)
    assert load(environ={"POPOS_SCHEDULE__MILESTONES": text}).schedule.milestones == (0.5, 1.0)


# Unknown keys


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("schedule.epoch", "schedule.epochs"),
        ("epochs", "schedule.epochs"),
        ("shedule.epochs", "schedule.epochs"),
        ("model.epochs", "schedule.epochs"),
        ("schedule.batchsize", "schedule.batch_size"),
        ("seeed", "seed"),
        ("schedule.epochs.x", "schedule.epochs"),
    ],
)
def test_an_unknown_key_is_named_with_its_source_and_the_nearest(wrong: str, right: str, write: Any) -> None:
    config, variable = write(f"{wrong} = 3\n"), "POPOS_" + wrong.upper().replace(".", "__")
    for source, name in (
        ({"sets": [f"{wrong}=3"]}, "--set"),
        ({"config": config}, str(config)),
        ({"environ": {variable: "3"}}, variable),
    ):
        if name == str(config) and wrong.count(".") == 2:
            config.write_text("[schedule.epochs]\nx = 3\n")
        error = refusal(**source)
        assert error.message == f"unknown setting '{wrong}' ({name})"
        expected = "POPOS_" + right.upper().replace(".", "__") if name == variable else right
        assert error.hint == f"Did you mean {expected}?"


def test_a_key_that_is_like_no_other(write: Any) -> None:
    for source in (
        {"sets": ["lr=0.1"]},
        {"sets": ["schedule=3"]},
        {"config": write("[training]\n")},
        {"environ": {"POPOS_SCHEDULE": '{"epochs": 3}'}},
    ):
        assert "--dry-run prints all settings" in str(refusal(**source).hint)


@pytest.mark.parametrize("text", ["schedule = 3\n", "[[schedule]]\nepochs = 3\n"])
def test_a_value_in_place_of_a_table(text: str, write: Any) -> None:
    assert "'schedule'" in refusal(config=write(text), flags={"schedule": {"epochs": 5}}).message


# Wrong values


def test_a_wrong_value_names_its_source(write: Any) -> None:
    config = write("[schedule]\nepochs = 0\n")
    for source, name in (
        ({"config": config}, str(config)),
        ({"environ": {"POPOS_SCHEDULE__EPOCHS": "0"}}, "POPOS_SCHEDULE__EPOCHS"),
        ({"sets": ["schedule.epochs=0"]}, "--set"),
        ({"flags": {"schedule": {"epochs": 0}}}, "--epochs"),
    ):
        error = refusal(**source)
        assert error.message == f"schedule.epochs = 0 ({name}): should be greater than or equal to 1"
        assert error.hint == f"schedule.epochs: {KEYS['schedule.epochs'].description}."
    error = refusal(flags={"schedule": {"batch_size": "-1"}})
    assert error.message.startswith("schedule.batch_size = -1 (--batch-size)")


@pytest.mark.parametrize(
    ("key", "text", "reason"),
    [
        ("model.resolution", "7", "64, 32, 16, 8 or 4"),
        ("model.resolution", "²", "64, 32, 16, 8 or 4"),
        ("codec.decoder", "argmax", "'one-hot'"),
        ("recipe", "paper", "'popos' or 'reference'"),
        ("schedule.epochs", "many", "valid integer"),
        ("schedule.epochs", "2.5", "valid integer"),
        ("gpus", "all", "valid integer"),
        ("codec.sigma", "inf", "finite"),
        ("codec.sigma", "nan", "finite"),
        ("codec.sigma", "-1", "greater than or equal to 0"),
        ("codec.sigma", "0.05", "falls between the pixels"),
        ("codec.sigma", "257", "less than or equal to 256"),
        ("schedule.milestones", "[0.5]", "item 2: field required"),
        ("schedule.milestones", "[0.5, 3]", "item 2: should be less than or equal to 1"),
        ("schedule.milestones", "[0.5, 0.9", "tuple"),
        ("schedule.milestones", "0.5", "tuple"),
        ("seed", "9" * 200, "less than"),
        ("seed", "'a\\nb'", "valid integer"),
    ],
)
def test_wrong_values(key: str, text: str, reason: str) -> None:
    variable = "POPOS_" + key.upper().replace(".", "__")
    for source in ({"sets": [f"{key}={text}"]}, {"environ": {variable: text}}):
        error = refusal(**source)
        assert error.message.startswith(f"{key} = ") and reason in error.message
        assert len(error.message) < 250


@pytest.mark.parametrize("value", ['""', "3", "[3]", "{}"])
def test_a_dataset_that_is_no_name(value: str, write: Any) -> None:
    config = write(f"dataset = {value}\n")
    message = refusal(dataset=None, config=config).message
    assert message.startswith("dataset = ") and str(config) in message


def test_no_dataset() -> None:
    error = refusal(dataset=None, environ={"POPOS_DATASET": ""})
    assert error.message == "no dataset to train on"
    assert error.hint == "Name one: popos train --dataset NAME"


@pytest.mark.parametrize("text", ["schedule.epochs", "=3", "", " = "])
def test_malformed_set(text: str) -> None:
    error = refusal(sets=[text])
    assert repr(text) in error.message and "KEY=VALUE" in error.message


def test_unreadable_files(tmp_path: Path, write: Any) -> None:
    missing = tmp_path / "nowhere.toml"
    assert refusal(config=missing).message == f"{missing}: no such file or directory"
    assert str(tmp_path) in refusal(config=tmp_path).message
    error = refusal(config=write("seed = 1\nepochs\n"))
    assert "config.toml" in error.message and "line 2" in error.message
    assert "utf-8" in refusal(config=write(b'dataset = "\xff"\n')).message
    assert load(config=write("\ufeffseed = 3\n")).seed == 3  # with a byte order mark


# Writing down


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dataset", DATASETS)
def test_a_preset_comes_back_and_does_not_differ_from_itself(dataset: str, recipe: str, write: Any) -> None:
    loaded = load(dataset, flags={"recipe": recipe})
    assert loaded.recipe == recipe
    assert load(dataset=None, config=write(dump_toml(loaded))) == loaded
    machine = load(dataset, None, ["gpus=0", "processes=3", "workers=5"], {"recipe": recipe})
    assert preset_differences(machine) == []


def test_the_dump_explains_every_key() -> None:
    lines = dump_toml(TrainSettings(dataset="mine")).splitlines()
    for key, field in KEYS.items():
        name = key.rpartition(".")[2]
        # A key's last part is unique in the tree.
        at = next(i for i, line in enumerate(lines) if line.startswith((f"{name} = ", f"# {name} =")))
        assert lines[at - 1] == f"# {field.description}"


def test_what_differs_from_the_preset() -> None:
    sets = [
        "schedule.epochs=5", "model.init=runs/a b", "model.resolution=8", "schedule.milestones=[0.5, 0.75]",
        "workers=3",
    ]  # fmt: skip
    assert preset_differences(load("300w", sets=sets)) == [
        "- model.resolution = 64",
        "+ model.resolution = 8",
        '- model.init = "auto"',
        '+ model.init = "runs/a b"',
        "- schedule.epochs = 60",
        "+ schedule.epochs = 5",
        f"- schedule.milestones = [{40 / 60}, {55 / 60}]",
        "+ schedule.milestones = [0.5, 0.75]",
    ]


def _values(key: str, field: FieldInfo) -> st.SearchStrategy[Any]:
    """Any value that the field's annotation and range allow."""
    if key == "schedule.milestones":
        return st.tuples(*[st.floats(0, 1, exclude_min=True)] * 2)
    if key == "codec.sigma":
        return st.just(0.0) | st.floats(0.1, 256)
    if field.annotation is bool:
        return st.booleans()
    if get_origin(field.annotation) is Literal:
        return st.sampled_from(get_args(field.annotation))
    if field.annotation is str:
        return st.one_of(st.sampled_from(DATASETS), st.text(min_size=1))
    bound = {
        name: getattr(item, name)
        for item in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if hasattr(item, name)
    }
    low, high = bound.get("ge", bound.get("gt")), bound.get("le", bound.get("lt"))
    if field.annotation is float:
        open_ends = {"exclude_min": "gt" in bound, "exclude_max": "lt" in bound}
        return st.floats(low, high, allow_nan=False, allow_infinity=False, **open_ends)
    # TOML's integers have 64 bits.
    integers = st.integers(low, 2**63 - 1 if high is None else high - ("lt" in bound))
    return integers if field.annotation is int else st.none() | integers


@st.composite
def any_settings(draw: st.DrawFn) -> TrainSettings:
    tree: dict[str, Any] = {}
    for key, field in KEYS.items():
        section, _, name = key.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[name] = draw(_values(key, field))
    return TrainSettings.model_validate(tree)


@hypothesis_settings(max_examples=60, deadline=None)
@given(settings=any_settings())
def test_any_settings_come_back(settings: TrainSettings, tmp_path_factory: pytest.TempPathFactory) -> None:
    """From a file, and set one by one."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(dump_toml(settings).encode())
    assert load(dataset=None, config=path) == settings
    sets = []
    for key in KEYS:
        value: Any = settings
        for part in key.split("."):
            value = getattr(value, part)
        if value is not None:
            sets.append(f"{key}={tomli_w.dumps({'v': value}).removeprefix('v = ')}")
    assert load(dataset=None, sets=sets) == settings


# The rest


def test_a_settings_file_of_version_0_1_is_read() -> None:
    path = Path(__file__).with_name("settings-0.1.toml")
    now = load(dataset=None, config=path).model_dump(mode="json")
    for name, value in tomllib.loads(path.read_text()).items():
        assert value.items() <= now[name].items() if isinstance(value, dict) else value == now[name]


def test_settings_are_frozen() -> None:
    loaded = load()
    for section, name in [(loaded, "seed"), (loaded.schedule, "epochs")]:
        with pytest.raises(ValidationError):
            setattr(section, name, 3)


def test_published_milestones_are_whole_epochs() -> None:
    for dataset, recipe in [
        ("wflw", "popos"), ("300w", "reference"), ("wflw", "reference"), ("coco-face", "reference"),
        ("mine", "reference"),
    ]:  # fmt: skip
        schedule = load(dataset, flags={"recipe": recipe}).schedule
        assert [share * schedule.epochs for share in schedule.milestones] == pytest.approx([40, 55])


def test_loading_needs_no_torch() -> None:
    code = "import sys, popos_cli.train.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
