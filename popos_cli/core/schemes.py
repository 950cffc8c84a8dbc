"""Landmark schemes: how many points, what they are called, and which change places in a mirror.

Indices are 0-based. "left" and "right" are the picture's: left is the smaller x of an upright face, the
subject's right side. The built-in ones are in schemes.toml.
"""

from __future__ import annotations

import itertools
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ..errors import UsageError, did_you_mean, first_problem

Normaliser = Literal["inter-ocular", "box"]
MOST_LANDMARKS = 10_000  # a network of more would fill the memory before any other check could refuse it
Index = Annotated[int, Field(strict=True)]  # strict: neither 5.0 nor true nor "5"


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class Scheme:
    """groups: name -> indices in drawing order. closed: the groups drawn as a ring. flip_pairs: indices that
    change places in a mirror; all others stay. eye_corners: the two points whose distance is the inter-ocular
    normaliser; None where the normaliser is the box. threshold: NME above which a face counts as failed, as a
    fraction of the normaliser. Raises pydantic's ValidationError, a ValueError.
    """

    name: Annotated[str, Field(min_length=1)]
    landmarks: Annotated[Index, Field(ge=1, le=MOST_LANDMARKS)]
    groups: dict[str, Annotated[tuple[Index, ...], Field(min_length=1)]] = Field(default_factory=dict)
    closed: frozenset[str] = frozenset()
    flip_pairs: tuple[tuple[Index, Index], ...] = ()
    eye_corners: tuple[Index, Index] | None = None
    threshold: Annotated[float, Field(strict=True, gt=0)] = 0.10

    def __post_init__(self) -> None:
        swapped = list(itertools.chain(*self.flip_pairs))
        for i in itertools.chain(swapped, self.eye_corners or (), *self.groups.values()):
            if not 0 <= i < self.landmarks:
                raise ValueError(f"index {i} lies outside 0..{self.landmarks - 1}")
        if len(set(swapped)) != len(swapped):
            raise ValueError("a landmark stands in two flip pairs")
        if self.eye_corners and self.eye_corners[0] == self.eye_corners[1]:
            raise ValueError("eye_corners must be two landmarks")
        if unknown := self.closed - set(self.groups):
            raise ValueError(f"closed names no group: {', '.join(sorted(unknown))}")

    @property
    def normaliser(self) -> Normaliser:
        return "box" if self.eye_corners is None else "inter-ocular"

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Pairs of points to join when drawing."""
        pairs: list[tuple[int, int]] = []
        for name, indices in self.groups.items():
            pairs += itertools.pairwise((*indices, indices[0]) if name in self.closed else indices)
        return tuple(pairs)

    @property
    def names(self) -> tuple[str, ...]:
        """One name a landmark: its group and its place in it, "jaw 8"."""
        names = [""] * self.landmarks
        for group, indices in self.groups.items():
            for place, index in enumerate(indices):
                names[index] = group if len(indices) == 1 else f"{group} {place}"
        return tuple(names)

    @property
    def flip_index(self) -> NDArray[np.int64]:
        """(K,): landmark i of a mirrored face is landmark flip_index[i] of the original."""
        index = np.arange(self.landmarks)
        for a, b in self.flip_pairs:
            index[a], index[b] = b, a
        return index

    @property
    def mirrors(self) -> bool:
        """Whether faces may be mirrored, in training and for the flip test. Not without flip pairs: the
        author may have forgotten them. (One point alone has no partner.)"""
        return bool(self.flip_pairs) or self.landmarks == 1

    @property
    def no_mirror(self) -> str:
        """Why a scheme does not mirror, for people."""
        return f"scheme {self.name!r} has no flip_pairs that say which landmarks change places in a mirror"

    def to_dict(self) -> dict[str, Any]:
        """The scheme as plain data, the same keys as its TOML file; `from_dict` reads it back."""
        data = asdict(self) | {"closed": sorted(self.closed)}
        return {key: value for key, value in data.items() if value is not None}

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str) -> Scheme:
        """Read `to_dict`'s form; `where` names the file in a UsageError."""
        try:
            return TypeAdapter(cls).validate_python(data)
        except ValidationError as error:
            key, message = first_problem(error)
        known, hint = cls.__dataclass_fields__, None
        if key and key.partition(".")[0] not in known:
            hint = did_you_mean(key, known).rstrip() or f"Known: {', '.join(known)}."
        raise UsageError(f"{where}: not a landmark scheme: {f'{key}: ' if key else ''}{message}", hint)


_BUILT_IN = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
SCHEMES = {name: Scheme.from_dict({"name": name, **data}, name) for name, data in _BUILT_IN.items()}
W300, WFLW, COFW, AFLW = (SCHEMES[name] for name in ("300w", "wflw", "cofw", "aflw"))


def find_scheme(name: str) -> Scheme:
    """A built-in scheme by name, or the one that a TOML file describes. Raises UsageError."""
    if name in SCHEMES:
        return SCHEMES[name]
    if not name.lower().endswith(".toml"):
        raise UsageError(
            f"unknown landmark scheme {name!r}",
            f"{did_you_mean(name, SCHEMES)}Known: {', '.join(SCHEMES)}, "
            "or a .toml file that describes your own.",
        )
    try:
        data = tomllib.loads(Path(name).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"{name}: no such scheme file") from None
    # Not UTF-8, not TOML, a number of more than 4300 digits, lists nested without end.
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{name}: not a readable TOML file: {error}") from None
    return Scheme.from_dict(data, name)
