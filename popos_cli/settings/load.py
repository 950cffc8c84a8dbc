"""Where a training run's settings come from, and how they are written down again.

Every source is turned into the same shape, dotted key -> (value, origin), so that precedence is one
`ChainMap` and an error can always name the file, variable or flag that it came from.
"""

from __future__ import annotations

import os
import tomllib
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ..errors import UsageError
from .presets import PRESETS
from .schema import TrainSettings

PREFIX = "POPOS_"
NOT_SETTINGS = frozenset({"POPOS_HOME", "POPOS_DEBUG"})


class Given(NamedTuple):
    value: Any
    origin: str  # as a user would name it: a file, a variable, --set, a flag


Layer = dict[str, Given]


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


KEYS = dict(_leaves(TrainSettings))
SECTIONS = frozenset(key.rpartition(".")[0] for key in KEYS) - {""}


def _variable(key: str) -> str:
    return PREFIX + key.replace(".", "__").upper()


VARIABLES = {_variable(key): key for key in KEYS}


def load_train_settings(
    dataset: str | None,
    config: Path | None,
    sets: Sequence[str],
    flags: Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
) -> TrainSettings:
    """Merge preset < TOML file < POPOS_* variables < `--set` < flags, and validate.

    `sets` holds `a.b=v` texts, the last of a key wins. `flags` is nested like the settings, None
    where a flag was not given; the flag of key `a.b_c` is called `--b-c`. `environ` defaults to the
    process's. The dataset, which picks the preset, follows the same precedence.

    Raises UsageError for a file that cannot be read, an unknown key, a value out of range, or when
    no source names a dataset.
    """
    given: ChainMap[str, Given] = ChainMap(
        _from_flags({"dataset": dataset}) | _from_flags(flags),
        _from_sets(sets),
        _from_environ(os.environ if environ is None else environ),
        _from_file(config) if config is not None else {},
    )
    if "dataset" not in given:
        raise UsageError("no dataset to train on", "Name one: popos train --dataset NAME")
    name = given["dataset"].value
    # A name that is no string is left for the validation below to refuse.
    preset = PRESETS.get(name, {}) if isinstance(name, str) else {}
    given.maps.append({key: Given(value, "preset") for key, value in _flatten(preset)})
    try:
        return TrainSettings.model_validate(_nest({key: entry.value for key, entry in given.items()}))
    except ValidationError as error:
        raise _wrong_value(error, given) from None


def dump_toml(settings: BaseModel) -> str:
    """TOML with each field's description above it; `--config` reads it back to equal settings.

    TOML has no null: a field that is None becomes a comment, which reads back as the default.
    """
    return "\n".join(_lines(settings, "")) + "\n"


def _lines(settings: BaseModel, table: str) -> Iterator[str]:
    sections: list[tuple[str, BaseModel]] = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            # TOML gives every key after a [header] to that table, so tables come last.
            sections.append((f"{table}.{name}" if table else name, value))
            continue
        if field.description:
            yield f"# {field.description}"
        yield f"# {name} =" if value is None else tomli_w.dumps({name: value}).rstrip("\n")
    for header, section in sections:
        yield f"\n[{header}]"
        yield from _lines(section, header)


def _flatten(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys of nested tables. A table where a single value belongs stays for validation to refuse."""
    for name, value in data.items():
        key = prefix + name
        is_table = isinstance(value, Mapping)
        if is_table and key not in KEYS and (value or key in SECTIONS):
            yield from _flatten(value, f"{key}.")
        else:
            yield key, value


def _nest(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        table = nested
        for section in sections:
            table = table.setdefault(section, {})
        table[name] = value
    return nested


def _from_flags(flags: Mapping[str, Any]) -> Layer:
    layer = {}
    for key, value in _flatten(flags):
        if value is not None:
            flag = "--" + key.rpartition(".")[2].replace("_", "-")
            layer[_known(key, flag)] = Given(value, flag)
    return layer


def _from_sets(sets: Sequence[str]) -> Layer:
    """Raises UsageError for a text without `=` and for an unknown key."""
    layer = {}
    for text in sets:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals):
            raise UsageError(f"--set {text!r} is not KEY=VALUE", "Like this: --set schedule.epochs=20")
        key = _known(key, "--set")
        layer[key] = Given(_parse(key, value), "--set")
    return layer


def _from_environ(environ: Mapping[str, str]) -> Layer:
    """An empty variable counts as unset, as shells have no other way to undo an export for one command.

    Raises UsageError for a POPOS_ variable that is no setting.
    """
    layer = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX) or name in NOT_SETTINGS:
            continue
        if name not in VARIABLES:
            near, level = _nearest(name.removeprefix(PREFIX).lower().replace("__", "."))
            raise UsageError(
                f"the environment variable {name!r} is no setting of popos",
                f"Did you mean {_variable(near)}?" if near else "There are " + _listed(map(_variable, level)),
            )
        if text:
            key = VARIABLES[name]
            layer[key] = Given(_parse(key, text), name)
    return layer


def _from_file(path: Path) -> Layer:
    """Raises UsageError for a file that is missing, unreadable or no TOML, and for an unknown key."""
    try:
        data = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{path}: {reason}", "--config takes a TOML file.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not UTF-8", "--config takes a TOML file.") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}", "--config takes a TOML file.") from None
    return {_known(key, str(path)): Given(value, str(path)) for key, value in _flatten(data)}


def _parse(key: str, text: str) -> Any:
    """A TOML value, else the text itself; a text field keeps `2024` and `true` as they were typed."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    if parsed.keys() != {"value"} or (KEYS[key].annotation is str and not isinstance(parsed["value"], str)):
        return text
    return parsed["value"]


def _known(key: str, origin: str) -> str:
    """The key itself; raises UsageError when no setting has that name."""
    if key in KEYS:
        return key
    near, level = _nearest(key)
    hint = f"Did you mean {near}?" if near else "There are " + _listed(level)
    if key in SECTIONS:
        raise UsageError(f"{key!r} ({origin}) is a table of settings, not one value", hint)
    raise UsageError(f"unknown setting {key!r} ({origin})", hint)


def _nearest(key: str) -> tuple[str | None, list[str]]:
    """The setting that a wrong dotted key most likely means, or None; and the keys at its level.

    Last parts are compared, so that a forgotten or misspelt section does not hide a right name.
    """
    if key in SECTIONS:
        return None, [other for other in KEYS if other.startswith(f"{key}.")]
    section, _, name = key.rpartition(".")
    known = section in SECTIONS
    # Sorting puts the section's own keys last, where they win over equal names elsewhere.
    names = {k.rpartition(".")[2]: k for k in sorted(KEYS, key=lambda k: k.startswith(f"{section}."))}
    near = [names[match] for match in get_close_matches(name, names, n=1, cutoff=0.75)]
    if not near and not known:
        near = get_close_matches(key, KEYS, n=1, cutoff=0.8)
    if near:
        return near[0], []
    if known:
        return None, [other for other in KEYS if other.rpartition(".")[0] == section]
    return None, [other for other in KEYS if "." not in other] + [f"{other}.*" for other in sorted(SECTIONS)]


def _listed(names: Iterator[str] | Sequence[str]) -> str:
    return ", ".join(names) + "."


def _wrong_value(error: ValidationError, given: Mapping[str, Given]) -> UsageError:
    first = error.errors()[0]
    # An item of a list has its index behind the key.
    key = ".".join(part for part in first["loc"] if isinstance(part, str))
    item = "".join(f"item {part + 1}: " for part in first["loc"] if isinstance(part, int))
    value, origin = given[key]
    shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
    reason = first["msg"].removeprefix("Input ")
    return UsageError(
        f"{key} = {shown} ({origin}): {item}{reason[:1].lower()}{reason[1:]}",
        f"{key}: {KEYS[key].description}.",
    )
