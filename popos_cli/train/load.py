"""Where a training run's settings come from, and how they are written down again.

pydantic-settings merges the sources; ours is to tell the user which key is wrong, and where it came from.
"""

from __future__ import annotations

import os
import reprlib
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import AliasPath, BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, SettingsConfigDict
from pydantic_settings import PydanticBaseSettingsSource as Source

from ..errors import UsageError
from .presets import RECIPES
from .settings import TrainSettings

PREFIX = "POPOS_"
NOT_SETTINGS = ("POPOS_HOME", "POPOS_DEBUG", "POPOS_MAX_PIXELS")

# The sources, highest first, and how a user would call what gave a key: a flag, a variable, a file.
Origins = dict[Source, Callable[[str], str]]


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


KEYS = dict(_leaves(TrainSettings))
SECTIONS = sorted({key.rpartition(".")[0] for key in KEYS} - {""})


class _Merged(BaseSettings, TrainSettings):
    """`_Merged(sources=...)` takes everything from these, the first of a key wins."""

    model_config = SettingsConfigDict(
        case_sensitive=True, env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: Source, *_: Any, **__: Any
    ) -> tuple[Source, ...]:
        return tuple(init_settings()["sources"])


class _Environment(EnvSettingsSource):
    """Refuses variables that the library would pass over, since most are typing errors."""

    def __init__(self) -> None:
        # Case-sensitive, the library would want variables in lower case, like the fields.
        super().__init__(_Merged, case_sensitive=False)
        known = {*map(_variable, KEYS), *NOT_SETTINGS}
        for name in os.environ:
            if name.upper().startswith(PREFIX) and name not in known:
                raise _unknown(name[len(PREFIX) :].lower().replace("__", "."), name, _variable)

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        # The library's own error, for text that is no JSON, would not name the variable.
        return _parse(value)


class _Preset(InitSettingsSource):
    def __call__(self) -> dict[str, Any]:
        dataset, recipe = self.current_state.get("dataset"), self.current_state.get("recipe", "popos")
        # What is no name is left for the validation to refuse.
        presets = RECIPES.get(recipe, {}) if isinstance(recipe, str) else {}
        other = presets.get("", {})
        return dict(presets.get(dataset, other)) if isinstance(dataset, str) else {}


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
    given = InitSettingsSource(_Merged, _given({"dataset": dataset, **flags}))
    origins: Origins = {given: lambda key: "--" + key.rpartition(".")[2].replace("_", "-")}
    for text in reversed(sets):
        origins[InitSettingsSource(_Merged, _from_set(text))] = lambda key: "--set"
    if use_environment:
        origins[_Environment()] = _variable
    if config is not None:
        origins[InitSettingsSource(_Merged, _from_file(config))] = lambda key: str(config)
    origins[_Preset(_Merged, {})] = lambda key: "preset"
    try:
        return TrainSettings(**dict(_Merged(**dict[str, Any](sources=origins))))
    except ValidationError as error:
        raise _explained(error, origins) from None


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


def _variable(key: str) -> str:
    return PREFIX + key.replace(".", "__").upper()


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    present = {name: value for name, value in flags.items() if value is not None}
    return {name: _given(value) if isinstance(value, Mapping) else value for name, value in present.items()}


def _from_set(text: str) -> dict[str, Any]:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not (key and equals):
        raise UsageError(f"--set {text!r} is not KEY=VALUE", "Like this: --set schedule.epochs=20")
    if key not in KEYS:
        raise _unknown(key, "--set")
    section, _, name = key.rpartition(".")
    return {section: {name: _parse(value)}} if section else {name: _parse(value)}


def _parse(text: str) -> Any:
    """A TOML list or quoted string; all else stays text, which pydantic turns into a number if need be."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, list | str) else text


def _from_file(path: Path) -> dict[str, Any]:
    # TomlConfigSettingsSource takes a missing file or a pipe for an empty one, and refuses a byte order mark.
    try:
        data = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:  # ValueError: no TOML, or no UTF-8
        reason = (error.strerror or "").lower() if isinstance(error, OSError) else error
        raise UsageError(f"{path}: {reason}", "--config takes a TOML file.") from None
    for section in SECTIONS:
        # Merged, another source's table would silently take its place.
        if not isinstance(data.get(section, {}), dict):
            raise _unknown(section, str(path))
    return data


def _explained(error: ValidationError, origins: Origins) -> UsageError:
    first = error.errors()[0]
    if first["type"] == "missing" and first["loc"] == ("dataset",):
        return UsageError("no dataset to train on", "Name one: popos train --dataset NAME")
    # An item of a list has its index behind the key.
    path = [part for part in first["loc"] if isinstance(part, str)]
    item = "".join(f"item {part + 1}: " for part in first["loc"] if isinstance(part, int))
    found = ((AliasPath(*path).search_dict_for_path(source()), origin) for source, origin in origins.items())
    value, origin = next((value, origin) for value, origin in found if value is not PydanticUndefined)
    while isinstance(value, dict) and value:  # an unknown table, or one where a single value belongs
        path.append(next(iter(value)))
        value = value[path[-1]]
    key = ".".join(path)
    if key not in KEYS:
        return _unknown(key, origin(key))
    shown = reprlib.repr(value).strip("'") or "''"
    reason = first["msg"].removeprefix("Input ")
    return UsageError(
        f"{key} = {shown} ({origin(key)}): {item}{reason[:1].lower()}{reason[1:]}",
        f"{key}: {KEYS[key].description}.",
    )


def _unknown(key: str, origin: str, spelt: Callable[[str], str] = str) -> UsageError:
    """`spelt` writes a key the way that the origin does."""
    section, _, name = key.rpartition(".")
    # By the last part first, so that a forgotten or misspelt section does not hide a right name.
    names = {known.rpartition(".")[2]: known for known in KEYS}
    near = [names[match] for match in get_close_matches(name, names, n=1, cutoff=0.75)]
    near = near or get_close_matches(key, KEYS, n=1, cutoff=0.9)
    level = [known for known in KEYS if known.startswith(f"{key if key in SECTIONS else section}.")]
    level = level or [known for known in KEYS if "." not in known] + [f"{other}.*" for other in SECTIONS]
    hint = f"Did you mean {spelt(near[0])}?" if near else f"There are {', '.join(map(spelt, level))}."
    if key in SECTIONS:
        return UsageError(f"{key!r} ({origin}) is a table of settings, not one value", hint)
    return UsageError(f"unknown setting {key!r} ({origin})", hint)
