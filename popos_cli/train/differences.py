"""What a run's settings change in the preset that they began with."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any

import tomli_w

from .load import KEYS, load_train_settings
from .settings import TrainSettings

# How a run is carried out, not what comes of it.
MACHINE = frozenset({"gpus", "processes", "workers", "checkpoint_minutes", "tensorboard"})


def differences(settings: TrainSettings) -> list[tuple[str, Any, Any]]:
    """(dotted key, value in the preset of this dataset and recipe, value here), where they differ.

    In the order of the settings; how many processes do the work is left out.
    """
    preset = load_train_settings(
        settings.dataset, None, [], {"recipe": settings.recipe}, use_environment=False
    )
    both = ((key, _value(preset, key), _value(settings, key)) for key in KEYS if key not in MACHINE)
    return [(key, theirs, ours) for key, theirs, ours in both if theirs != ours]


def as_diff(found: Iterable[tuple[str, Any, Any]]) -> str:
    """Lines as git shows them, "- key = preset's" and "+ key = ours"; a value of None has no line."""
    return "\n".join(
        f"{sign} {key} = {_toml(value)}"
        for key, theirs, ours in found
        for sign, value in (("-", theirs), ("+", ours))
        if value is not None
    )


def _value(settings: TrainSettings, key: str) -> Any:
    return reduce(getattr, key.split("."), settings)


def _toml(value: Any) -> str:
    """As `--set KEY=` takes it, on one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")
