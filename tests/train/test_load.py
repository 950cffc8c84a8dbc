"""Precedence, errors and round trip of the settings' sources."""

from __future__ import annotations

import subprocess
import sys
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

from popos_cli.core.choices import RESOLUTIONS
from popos_cli.errors import UsageError
from popos_cli.train.load import KEYS, dump_toml, load_train_settings
from popos_cli.train.presets import RECIPES
from popos_cli.train.settings import TrainSettings


def load(
    dataset: str | None = "mine",
    config: Path | None = None,
    sets: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> TrainSettings:
    """`load_train_settings` that never sees the variables of the machine that runs the tests."""
    # A plain dict keeps the case of names on every system.
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

LEVELS = ["preset", "file", "environment", "set", "flag"]
EPOCHS = {"preset": 60, "file": 2, "environment": 3, "set": 4, "flag": 5}


def sources(levels: Sequence[str], write: Any) -> dict[str, Any]:
    return {
        "dataset": "300w" if "preset" in levels else "mine",
        "config": write("[schedule]\nepochs = 2\n") if "file" in levels else None,
        "environ": {"POPOS_SCHEDULE__EPOCHS": "3"} if "environment" in levels else {},
        "sets": ["schedule.epochs=4"] if "set" in levels else [],
        "flags": {"schedule": {"epochs": 5}} if "flag" in levels else {},
    }


@pytest.mark.parametrize(
    ("low", "high"), [(low, high) for i, low in enumerate(LEVELS) for high in LEVELS[i + 1 :]]
)
def test_later_source_wins(low: str, high: str, write: Any) -> None:
    assert load(**sources([low, high], write)).schedule.epochs == EPOCHS[high]


@pytest.mark.parametrize("level", LEVELS)
def test_each_source_alone_counts(level: str, write: Any) -> None:
    assert load(**sources([level], write)).schedule.epochs == EPOCHS[level]


def test_sources_merge_key_by_key(write: Any) -> None:
    loaded = load(
        dataset="300w",
        config=write("seed = 1\n[schedule]\nepochs = 2\nbatch_size = 8\nwarmup = 0.5\n"),
        environ={"POPOS_SCHEDULE__BATCH_SIZE": "16", "POPOS_MODEL__RESOLUTION": "8", "POPOS_GPUS": "0"},
        sets=["schedule.warmup=2", "model.init=scratch"],
        flags={"model": {"resolution": 4, "init": None}, "seed": 7},
    )
    assert loaded.schedule.shape == "step"  # the preset's
    assert loaded.schedule.epochs == 2  # the file's
    assert loaded.schedule.batch_size == 16 and loaded.gpus == 0  # the variables'
    assert loaded.schedule.warmup == 2 and loaded.model.init == "scratch"  # --set's; a flag of None is none
    assert loaded.model.resolution == 4 and loaded.seed == 7  # the flags'
    assert loaded.schedule.learning_rate == TrainSettings(dataset="x").schedule.learning_rate


def test_overruled_wrong_value_does_not_matter(write: Any) -> None:
    config = write("[schedule]\nepochs = -1\n")
    assert load(config=config, flags={"schedule": {"epochs": 3}}).schedule.epochs == 3


def test_dataset_follows_the_precedence_and_picks_the_preset(write: Any) -> None:
    config = write('dataset = "cofw"\n')
    assert load(dataset=None, config=config).schedule.epochs == 210
    environ = {"POPOS_DATASET": "synthetic"}
    assert load(dataset=None, config=config, environ=environ).schedule.epochs == 10
    assert load(dataset=None, sets=["dataset=300w"], environ=environ).schedule.epochs == 60
    flagged = load(dataset="mine", sets=["dataset=cofw"], environ=environ)
    assert flagged == TrainSettings(dataset="mine")
    assert load(dataset=None, flags={"dataset": "cofw"}).schedule.epochs == 210


def test_no_dataset() -> None:
    error = refusal(dataset=None, environ={"POPOS_DATASET": ""})
    assert error.message.startswith("no dataset")
    assert error.hint == "Name one: popos train --dataset NAME"
    assert error.exit_code == 2


def test_environment_can_be_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPOS_SEED", "11")
    assert load_train_settings("mine", None, [], {}).seed == 11
    monkeypatch.setenv("POPOS_SED", "12")
    assert load_train_settings("mine", None, [], {}, use_environment=False).seed == 0


def test_variables_that_are_no_settings() -> None:
    environ = {"POPOS_HOME": "/x", "POPOS_DEBUG": "1", "PATH": "/bin", "POPOSSUM": "1", "POPOS_SEED": ""}
    assert load(environ=environ) == TrainSettings(dataset="mine")


@pytest.mark.parametrize(
    ("text", "value"),
    [("[0.5, 0.9]", (0.5, 0.9)), (" [ 0.5 , 1 ] ", (0.5, 1.0))],
)
def test_texts_are_toml_values(text: str, value: tuple[float, float]) -> None:
    assert load(sets=[f"schedule.milestones={text}"]).schedule.milestones == value
    assert load(environ={"POPOS_SCHEDULE__MILESTONES": text}).schedule.milestones == value


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
        ("", ""),
    ],
)
def test_text_fields_keep_plain_text(text: str, value: str) -> None:
    assert load(sets=[f"model.init={text}"]).model.init == value


def test_last_set_of_a_key_wins_and_spaces_are_allowed() -> None:
    assert load(sets=["schedule.epochs=2", " schedule.epochs = 3 "]).schedule.epochs == 3


# Unknown keys

NEAREST = [
    ("schedule.epoch", "schedule.epochs"),
    ("epochs", "schedule.epochs"),
    ("shedule.epochs", "schedule.epochs"),
    ("model.epochs", "schedule.epochs"),
    ("schedule.batchsize", "schedule.batch_size"),
    ("Seed", "seed"),
    ("schedule.epochs.x", "schedule.epochs"),
]


@pytest.mark.parametrize(("wrong", "right"), NEAREST)
def test_unknown_set(wrong: str, right: str) -> None:
    error = refusal(sets=[f"{wrong}=3"])
    assert f"'{wrong}'" in error.message and "--set" in error.message
    assert error.hint == f"Did you mean {right}?"


@pytest.mark.parametrize(("wrong", "right"), NEAREST[:-1])
def test_unknown_key_in_file(wrong: str, right: str, write: Any) -> None:
    config = write(f"{wrong} = 3\n")
    error = refusal(config=config)
    assert f"'{wrong}'" in error.message and str(config) in error.message
    assert error.hint == f"Did you mean {right}?"


@pytest.mark.parametrize(
    "wrong",
    [
        "POPOS_SCHEDULE__EPOCH",
        "POPOS_EPOCHS",
        "POPOS_SCHEDULE_EPOCHS",
        "POPOS_schedule__epochs",
        "popos_schedule__epochs",
    ],
)
def test_unknown_variable(wrong: str) -> None:
    error = refusal(environ={wrong: "3"})
    assert wrong in error.message
    assert error.hint == "Did you mean POPOS_SCHEDULE__EPOCHS?"


def test_unknown_flag() -> None:
    assert refusal(flags={"schedule": {"epoch": 3}}).hint == "Did you mean schedule.epochs?"


def test_no_near_name_lists_the_level(write: Any) -> None:
    error = refusal(sets=["lr=0.1"])
    assert error.hint is not None and "dataset, recipe" in error.hint and "schedule.*" in error.hint
    error = refusal(config=write("[schedule]\nlr = 0.1\n"))
    assert error.hint is not None and "schedule.learning_rate" in error.hint and "seed" not in error.hint
    error = refusal(environ={"POPOS_LR": "0.1"})
    assert error.hint is not None and "POPOS_SEED" in error.hint


def test_empty_tables(write: Any) -> None:
    assert load(config=write("[schedule]\n[model]\n")) == TrainSettings(dataset="mine")
    assert "'training'" in refusal(config=write("[training]\n")).message


@pytest.mark.parametrize("text", ["schedule = 3\n", "[[schedule]]\nepochs = 3\n"])
def test_value_where_a_table_belongs(text: str, write: Any) -> None:
    assert "'schedule'" in refusal(config=write(text)).message
    error = refusal(sets=["schedule=3"])
    assert error.hint is not None and "schedule.epochs" in error.hint
    assert "'schedule'" in refusal(config=write(text), flags={"schedule": {"epochs": 5}}).message
    error = refusal(environ={"POPOS_SCHEDULE": '{"epochs": 3}'})
    assert error.hint is not None and "POPOS_SCHEDULE__EPOCHS" in error.hint


def test_table_where_a_value_belongs(write: Any) -> None:
    error = refusal(config=write("[schedule.epochs]\nx = 3\n"))
    assert "'schedule.epochs.x'" in error.message and error.hint == "Did you mean schedule.epochs?"


# Wrong values


def test_wrong_value_names_its_source(write: Any) -> None:
    config = write("[schedule]\nepochs = 0\n")
    expected = "schedule.epochs = 0 ({}): should be greater than or equal to 1"
    assert refusal(config=config).message == expected.format(config)
    variables = {"POPOS_SCHEDULE__EPOCHS": "0"}
    assert refusal(environ=variables).message == expected.format("POPOS_SCHEDULE__EPOCHS")
    assert refusal(sets=["schedule.epochs=0"]).message == expected.format("--set")
    assert refusal(flags={"schedule": {"epochs": 0}}).message == expected.format("--epochs")
    assert refusal(flags={"schedule": {"batch_size": "-1"}}).message.startswith(
        "schedule.batch_size = -1 (--batch"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model.resolution=7", "64, 32, 16, 8 or 4"),
        ("codec.decoder=argmax", "'one-hot'"),
        ("schedule.epochs=many", "valid integer"),
        ("schedule.epochs=2.5", "valid integer"),
        ("codec.sigma=inf", "finite"),
        ("codec.sigma=nan", "finite"),
        ("schedule.milestones=[0.5]", "item 2: field required"),
        ("schedule.milestones=[0.5, 3]", "item 2: should be less than or equal to 1"),
        ("schedule.milestones=0.5", "tuple"),
        ("seed=" + "9" * 200, "less than"),
        ("seed='a\\nb'", "valid integer"),
    ],
)
def test_wrong_values(text: str, told: str) -> None:
    error = refusal(sets=[text])
    assert error.message.startswith(text.partition("=")[0] + " = ") and told in error.message
    assert len(error.message) < 250


@pytest.mark.parametrize(
    ("key", "text", "told"),
    [
        ("model.resolution", "7", "64, 32, 16, 8 or 4"),
        ("model.resolution", "²", "64, 32, 16, 8 or 4"),
        ("schedule.milestones", "[0.5, 3]", "item 2: should be less than or equal to 1"),
        ("schedule.milestones", "[0.5, 0.9", "tuple"),
        ("schedule.milestones", "0.5", "tuple"),
        ("codec.sigma", "nan", "finite"),
        ("gpus", "all", "valid integer"),
    ],
)
def test_wrong_variables(key: str, text: str, told: str) -> None:
    variable = "POPOS_" + key.upper().replace(".", "__")
    message = refusal(environ={variable: text}).message
    assert message.startswith(f"{key} = {text} ({variable}): ") and told in message


@pytest.mark.parametrize("value", ['""', "3", "[3]", "{}"])
def test_wrong_dataset(value: str, write: Any) -> None:
    config = write(f"dataset = {value}\n")
    message = refusal(dataset=None, config=config).message
    assert message.startswith("dataset = ") and str(config) in message


@pytest.mark.parametrize("text", ["schedule.epochs", "=3", "", " = "])
def test_malformed_set(text: str) -> None:
    error = refusal(sets=[text])
    assert repr(text) in error.message and "KEY=VALUE" in error.message


# Files


def test_unreadable_files(tmp_path: Path, write: Any) -> None:
    missing = tmp_path / "nowhere.toml"
    assert refusal(config=missing).message == f"{missing}: no such file or directory"
    assert str(tmp_path) in refusal(config=tmp_path).message
    error = refusal(config=write("seed = 1\nepochs\n"))
    assert "config.toml" in error.message and "line 2" in error.message
    assert "utf-8" in refusal(config=write(b'dataset = "\xff"\n')).message


def test_byte_order_mark_is_no_error(write: Any) -> None:
    assert load(config=write("\ufeffseed = 3\n")).seed == 3


# Writing down


@pytest.mark.parametrize("recipe", [*RECIPES])
@pytest.mark.parametrize("dataset", [*filter(None, RECIPES["popos"]), "mine"])
def test_defaults_come_back(dataset: str, recipe: str, write: Any) -> None:
    loaded = load(dataset=dataset, flags={"recipe": recipe})
    assert loaded.recipe == recipe
    assert load(dataset=None, config=write(dump_toml(loaded))) == loaded


def test_dump_explains_every_key() -> None:
    lines = dump_toml(TrainSettings(dataset="mine")).splitlines()
    for key, field in KEYS.items():
        name = key.rpartition(".")[2]
        # A key's last part is unique in the tree.
        at = next(i for i, line in enumerate(lines) if line.startswith((f"{name} = ", f"# {name} =")))
        assert lines[at - 1] == f"# {field.description}"


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
    bound = {
        name: getattr(item, name)
        for item in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if hasattr(item, name)
    }
    low, high = bound.get("ge", bound.get("gt")), bound.get("le", bound.get("lt"))
    if field.annotation is str:
        return st.one_of(st.sampled_from([*filter(None, RECIPES["popos"])]), st.text(min_size=1))
    if float in (field.annotation, *get_args(field.annotation)):
        # Finite even without a bound: the schema refuses infinity.
        floats = st.floats(
            low,
            high,
            exclude_min="gt" in bound,
            exclude_max="lt" in bound,
            allow_nan=False,
            allow_infinity=False,
        )
        return floats if field.annotation is float else st.one_of(st.none(), floats)
    # TOML's integers have 64 bits.
    integers = st.integers(low, 2**63 - 1 if high is None else high - ("lt" in bound))
    return integers if field.annotation is int else st.one_of(st.none(), integers)


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
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(dump_toml(settings).encode())
    assert load(dataset=None, config=path) == settings


@hypothesis_settings(max_examples=60, deadline=None)
@given(settings=any_settings())
def test_any_settings_can_be_set_one_by_one(settings: TrainSettings) -> None:
    sets = []
    for key in KEYS:
        value: Any = settings
        for part in key.split("."):
            value = getattr(value, part)
        if value is not None:
            sets.append(f"{key}={tomli_w.dumps({'v': value}).removeprefix('v = ')}")
    assert load(dataset=None, sets=sets) == settings


# The rest


@pytest.mark.parametrize("sigma", [-1, 0.05, 1e-300, 257])
def test_a_sigma_that_no_codec_takes(sigma: float) -> None:
    assert "codec.sigma" in refusal(sets=[f"codec.sigma={sigma}"]).message


def test_settings_are_frozen() -> None:
    loaded = load()
    for section, name in [(loaded, "seed"), (loaded.schedule, "epochs")]:
        with pytest.raises(ValidationError):
            setattr(section, name, 3)


def test_presets_are_valid_and_keep_the_resolution() -> None:
    for dataset in filter(None, RECIPES["popos"]):
        expected = 16 if dataset == "synthetic" else RESOLUTIONS[0]
        assert load(dataset=dataset).model.resolution == expected


def test_reference_milestones_are_whole_epochs() -> None:
    schedule = load(dataset="wflw").schedule
    assert [share * schedule.epochs for share in schedule.milestones] == [40, 55]
    for dataset in ("300w", "wflw", "aflw", "coco-face", "mine"):
        schedule = load(dataset=dataset, flags={"recipe": "reference"}).schedule
        assert [share * schedule.epochs for share in schedule.milestones] == pytest.approx([40, 55])


def test_the_recipe_comes_from_any_source(write: Any) -> None:
    """And what it sets gives way to all of them."""
    assert load("cofw", write('recipe = "reference"\n')).schedule.learning_rate == 2e-3
    environment = {"POPOS_RECIPE": "reference"}
    settings = load("coco-face", sets=["schedule.epochs=3"], environ=environment)
    assert (settings.loss.heatmap, settings.loss.sinkhorn, settings.augment.scale_clip) == ("huber", 1, 1)
    assert settings.schedule.epochs == 3
    assert load("coco-face", flags={"recipe": "popos"}, environ=environment).loss.heatmap == "mse"
    with pytest.raises(UsageError, match="recipe = paper"):
        load(dataset="wflw", flags={"recipe": "paper"})


def test_loading_needs_no_torch() -> None:
    code = "import sys, popos_cli.train.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
