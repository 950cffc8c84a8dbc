"""Where a training run's settings come from, and how they are written down again.

A setting is known by its dotted key, such as schedule.epochs. A source is a flat dictionary of keys and
values; each value comes with what the user calls the source, so that a message can name it.
"""

from __future__ import annotations

import json
import os
import reprlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import reduce
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ..errors import UsageError
from .presets import RECIPES
from .settings import MACHINE, TrainSettings

PREFIX = "POPOS_"
NOT_SETTINGS = ("POPOS_HOME", "POPOS_DEBUG", "POPOS_MAX_PIXELS")

# The keys that pick the preset, and what stands for an absent one.
CHOICE = {"recipe": "popos", "dataset": ""}

Given = dict[str, tuple[Any, str]]  # key -> value, and where it came from


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


KEYS = dict(_fields(TrainSettings))
SECTIONS = {key.rpartition(".")[0] for key in KEYS} - {""}


def load_train_settings(
    dataset: str | None,
    config: Path | None,
    sets: Sequence[str],
    flags: Mapping[str, Any],
    use_environment: bool = True,
) -> TrainSettings:
    """Merge preset < TOML file < POPOS_* variables < `--set` < flags, and validate.

    `sets` holds `a.b=v` texts, the last of a key wins. `flags` is nested like the settings, None
    where a flag was not given; the flag of key `a.b_c` is called `--b-c`. An empty variable counts
    as unset. The dataset, which picks the preset, follows the same precedence.

    Raises UsageError for a file that cannot be read, an unknown key, a value out of range, or when
    no source names a dataset.
    """
    given: Given = _from_file(config) if config else {}
    if use_environment:
        given |= _from_environment()
    for text in sets:
        given |= _from_set(text)
    flat = _flat({"dataset": dataset, **flags})
    given |= {key: (value, _flag(key)) for key, value in flat if value is not None}
    for key, (_, origin) in given.items():
        if key not in KEYS:
            raise _unknown(key, origin)
    recipe, name = (str(given.get(key, (default,))[0]) for key, default in CHOICE.items())
    presets = RECIPES.get(recipe, {"": {}})  # an unknown recipe is left to the validation
    given = {key: (value, "preset") for key, value in _flat(presets.get(name, presets[""]))} | given
    try:
        return TrainSettings.model_validate(_nested(given))
    except ValidationError as error:
        raise _explained(error, given) from None


def dump_toml(settings: BaseModel) -> str:
    """TOML with each field's description above it; `--config` reads it back to equal settings.

    TOML has no null: a field that is None becomes a comment, which reads back as the default.
    """
    return "\n".join(_lines(settings)) + "\n"


def _lines(settings: BaseModel, table: str = "") -> Iterator[str]:
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if not isinstance(value, BaseModel):
            yield f"# {field.description}"
            yield f"# {name} =" if value is None else tomli_w.dumps({name: value}).rstrip("\n")
    # TOML gives every key after a [header] to that table, so tables come last.
    for name, value in settings:
        if isinstance(value, BaseModel):
            yield f"\n[{table}{name}]"
            yield from _lines(value, f"{table}{name}.")


def preset_differences(settings: TrainSettings) -> list[str]:
    """How the settings differ from the preset of their dataset and recipe, in lines as git shows them.

    "- key = value" is the preset's, "+ key = value" ours. None has no line; `MACHINE` is left out.
    """
    preset = load_train_settings(
        settings.dataset, None, [], {"recipe": settings.recipe}, use_environment=False
    )
    lines = []
    for key in KEYS:
        before, after = (reduce(getattr, key.split("."), tree) for tree in (preset, settings))
        if key not in MACHINE and before != after:
            pair = (("-", before), ("+", after))
            lines += [
                f"{sign} {key} = {json.dumps(v, ensure_ascii=False)}" for sign, v in pair if v is not None
            ]
    return lines


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = prefix + name
        if isinstance(value, Mapping) and (value or key in SECTIONS):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _nested(given: Given) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, (value, _) in given.items():
        section, _, name = key.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[name] = value
    return tree


def _flag(key: str) -> str:
    return "--" + key.rpartition(".")[2].replace("_", "-")


def _variable(key: str) -> str:
    return PREFIX + key.replace(".", "__").upper()


def _from_environment() -> Given:
    found = {name: text for name, text in os.environ.items() if name.upper().startswith(PREFIX) and text}
    return {
        name[len(PREFIX) :].lower().replace("__", "."): (_parse(text), name)
        for name, text in found.items()
        if name not in NOT_SETTINGS
    }


def _from_set(text: str) -> Given:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not (key and equals):
        raise UsageError(f"--set {text!r} is not KEY=VALUE", "Like this: --set schedule.epochs=20")
    return {key: (_parse(value), "--set")}


def _parse(text: str) -> Any:
    """A TOML list or quoted string; all else stays text, which pydantic turns into a number if need be."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, list | str) else text


def _from_file(path: Path) -> Given:
    try:
        tree = tomllib.loads(path.read_text("utf-8-sig"))  # some editors write a byte order mark
    except (OSError, ValueError) as error:  # ValueError: no TOML, or no UTF-8
        reason = (error.strerror or "").lower() if isinstance(error, OSError) else error
        raise UsageError(f"{path}: {reason}", "--config takes a TOML file.") from None
    return {key: (value, str(path)) for key, value in _flat(tree)}


def _explained(error: ValidationError, given: Given) -> UsageError:
    first = error.errors()[0]
    key = ".".join(part for part in first["loc"] if isinstance(part, str))
    if key not in given:
        return UsageError("no dataset to train on", "Name one: popos train --dataset NAME")
    value, origin = given[key]
    # An item of a list has its index behind the key.
    item = "".join(f"item {part + 1}: " for part in first["loc"] if isinstance(part, int))
    shown = reprlib.repr(value).strip("'") or "''"
    reason = first["msg"].removeprefix("Input ")
    return UsageError(
        f"{key} = {shown} ({origin}): {item}{reason[:1].lower()}{reason[1:]}",
        f"{key}: {KEYS[key].description}.",
    )


def _unknown(key: str, origin: str) -> UsageError:
    # By the last part first, so that a forgotten or misspelt section does not hide a right name.
    names = {known.rpartition(".")[2]: known for known in KEYS}
    near = [names[match] for match in get_close_matches(key.rpartition(".")[2], names, n=1, cutoff=0.75)]
    near = near or get_close_matches(key, KEYS, n=1, cutoff=0.9)
    if not near:
        return UsageError(
            f"unknown setting {key!r} ({origin})", "popos train --dataset NAME --dry-run prints all settings."
        )
    meant = _variable(near[0]) if origin in os.environ else near[0]
    return UsageError(f"unknown setting {key!r} ({origin})", f"Did you mean {meant}?")
