"""Landmark schemes: how many points, what they are called, and which swap under a mirror.

Indices are 0-based. "left" and "right" are the picture's: left is the smaller x of an upright
face, the subject's right side. Flip pairs are those of mmpose's `keypoint_info` and of HRNet's
MATCHED_PARTS, which agree.
"""

from __future__ import annotations

import itertools
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError, did_you_mean

Normaliser = Literal["inter-ocular", "box"]
MOST_LANDMARKS = 10_000  # a network of more would take all memory before anything else is found wrong


@dataclass(frozen=True)
class Scheme:
    """groups: name -> indices in drawing order; closed: the groups drawn as a ring.

    flip_pairs: indices that change places in a mirror; all others stay. Without any, nobody knows what a
    mirror does, and nothing is mirrored. eye_corners: the two
    points whose distance is the inter-ocular normaliser, None where the scheme has the box.
    threshold: NME above which a face counts as failed, as a fraction of the normaliser.
    """

    name: str
    landmarks: int
    groups: dict[str, tuple[int, ...]]
    closed: frozenset[str]
    flip_pairs: tuple[tuple[int, int], ...]
    eye_corners: tuple[int, int] | None
    threshold: float = 0.10

    @property
    def normaliser(self) -> Normaliser:
        return "box" if self.eye_corners is None else "inter-ocular"

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Pairs of points to join when drawing."""
        pairs = []
        for name, indices in self.groups.items():
            pairs += list(itertools.pairwise(indices))
            if name in self.closed:
                pairs.append((indices[-1], indices[0]))
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
        """Whether it is known what a mirror does: a scheme without flip pairs may have forgotten them. Its
        faces are not mirrored in training, and there is no flip test. (One point alone has no partner.)"""
        return bool(self.flip_pairs) or self.landmarks == 1

    @property
    def no_mirror(self) -> str:
        """Why a scheme does not mirror, for people."""
        return f"scheme {self.name!r} has no flip_pairs that say which landmarks change places in a mirror"

    def to_dict(self) -> dict[str, Any]:
        """The scheme as plain data, the same keys as its TOML file; `from_dict` reads it back."""
        return {
            "name": self.name,
            "landmarks": self.landmarks,
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
            **({"eye_corners": list(self.eye_corners)} if self.eye_corners else {}),
            "threshold": self.threshold,
            "closed": sorted(self.closed),
            "groups": {name: list(indices) for name, indices in self.groups.items()},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str) -> Scheme:
        """Read `to_dict`'s form; `where` names the file in a UsageError."""
        known = {
            "name", "landmarks", "flip_pairs", "eye_corners", "threshold", "closed", "groups",
        }  # fmt: skip
        for key in data:
            if key not in known:
                hint = did_you_mean(key, known).rstrip() or f"Known: {', '.join(sorted(known))}."
                raise UsageError(f"{where}: unknown key {key!r} in a landmark scheme", hint)
        try:
            pairs, corners = _of(list, data, "flip_pairs", []), _of(list, data, "eye_corners", [])
            groups = _of(dict, data, "groups", {})
            (landmarks,) = _whole([data["landmarks"]], "landmarks")
            threshold = data.get("threshold", 0.10)
            if isinstance(threshold, bool) or not isinstance(threshold, (int, float)):
                raise TypeError(f"threshold must be a number, not {threshold!r}")
            if not isinstance(data["name"], str) or not data["name"]:
                raise TypeError(f"name must be text, not {data['name']!r}")
            scheme = cls(
                name=data["name"],
                landmarks=landmarks,
                groups={name: _whole(indices, f"groups.{name}") for name, indices in groups.items()},
                closed=frozenset(_of(list, data, "closed", [])),
                flip_pairs=tuple(_pair(pair, "flip_pairs") for pair in pairs),
                eye_corners=_pair(corners, "eye_corners") if corners else None,
                threshold=float(threshold),
            )
        except KeyError as error:
            raise UsageError(f"{where}: the scheme has no {error.args[0]!r}") from None
        except (TypeError, OverflowError) as error:
            raise UsageError(f"{where}: not a landmark scheme: {error}") from None
        problem = scheme._problem()
        if problem:
            raise UsageError(f"{where}: {problem}")
        return scheme

    def _problem(self) -> str | None:
        swapped = [i for pair in self.flip_pairs for i in pair]
        used = [*swapped, *(self.eye_corners or ()), *(i for g in self.groups.values() for i in g)]
        if self.landmarks < 1:
            return f"landmarks must be at least 1, not {self.landmarks}"
        if self.landmarks > MOST_LANDMARKS:
            return f"landmarks must be at most {MOST_LANDMARKS}"
        if any(not 0 <= i < self.landmarks for i in used):
            return f"an index lies outside 0..{self.landmarks - 1}"
        if len(set(swapped)) != len(swapped):
            return "a landmark stands in two flip pairs"
        if self.eye_corners and self.eye_corners[0] == self.eye_corners[1]:
            return "eye_corners must be two landmarks"
        if empty := [name for name, indices in self.groups.items() if not indices]:
            return f"group {empty[0]!r} has no landmarks"
        if not self.closed <= set(self.groups):
            return f"closed names no group: {', '.join(sorted(self.closed - set(self.groups)))}"
        if not 0 < self.threshold < math.inf:
            return f"threshold must be above 0, not {self.threshold}"
        return None


def _of(kind: type, data: dict[str, Any], key: str, otherwise: Any) -> Any:
    """A list or a table of the scheme's file. Raises TypeError."""
    value = data.get(key)
    if value is None:
        return otherwise
    if not isinstance(value, kind):
        raise TypeError(f"{key} must be a {_KINDS[kind]}, not {value!r}")
    return value


_KINDS: dict[type, str] = {list: "list", dict: "table"}


def _whole(values: Any, what: str) -> tuple[int, ...]:
    """Whole numbers: neither 5.0 nor true nor "5". Raises TypeError."""
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        shown = values[0] if isinstance(values, list) and len(values) == 1 else values
        raise TypeError(f"{what} must be whole numbers, not {shown!r}")
    return tuple(values)


def _pair(values: Any, what: str) -> tuple[int, int]:
    pair = _whole(values, what)
    if len(pair) != 2:
        raise TypeError(f"{what}: {list(pair)} is not two landmarks")
    return pair[0], pair[1]


def _pairs(text: str) -> tuple[tuple[int, int], ...]:
    return tuple((int(a), int(b)) for a, b in (pair.split("-") for pair in text.split()))


def _span(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1))


W300 = Scheme(
    name="300w",
    landmarks=68,
    groups={
        "jaw": _span(0, 16),
        "left brow": _span(17, 21),
        "right brow": _span(22, 26),
        "nose bridge": _span(27, 30),
        "nose base": _span(31, 35),
        "left eye": _span(36, 41),
        "right eye": _span(42, 47),
        "outer lip": _span(48, 59),
        "inner lip": _span(60, 67),
    },
    closed=frozenset({"left eye", "right eye", "outer lip", "inner lip"}),
    flip_pairs=_pairs(
        "0-16 1-15 2-14 3-13 4-12 5-11 6-10 7-9 17-26 18-25 19-24 20-23 21-22 31-35 32-34 36-45 "
        "37-44 38-43 39-42 40-47 41-46 48-54 49-53 50-52 55-59 56-58 60-64 61-63 65-67"
    ),
    eye_corners=(36, 45),
)
WFLW = Scheme(
    name="wflw",
    landmarks=98,
    groups={
        "jaw": _span(0, 32),
        "left brow": _span(33, 41),
        "right brow": (*_span(42, 46), *_span(47, 50)),
        "nose bridge": _span(51, 54),
        "nose base": _span(55, 59),
        "left eye": _span(60, 67),
        "right eye": _span(68, 75),
        "outer lip": _span(76, 87),
        "inner lip": _span(88, 95),
        "left pupil": (96,),
        "right pupil": (97,),
    },
    closed=frozenset({"left brow", "right brow", "left eye", "right eye", "outer lip", "inner lip"}),
    flip_pairs=_pairs(
        "0-32 1-31 2-30 3-29 4-28 5-27 6-26 7-25 8-24 9-23 10-22 11-21 12-20 13-19 14-18 15-17 "
        "33-46 34-45 35-44 36-43 37-42 38-50 39-49 40-48 41-47 55-59 56-58 60-72 61-71 62-70 "
        "63-69 64-68 65-75 66-74 67-73 76-82 77-81 78-80 83-87 84-86 88-92 89-91 93-95 96-97"
    ),
    eye_corners=(60, 72),
)
COFW = Scheme(
    name="cofw",
    landmarks=29,
    groups={
        "left brow": (0, 4, 2, 5),
        "right brow": (3, 6, 1, 7),
        "left eye": (8, 12, 10, 13),
        "right eye": (11, 14, 9, 15),
        "left pupil": (16,),
        "right pupil": (17,),
        "nose": (18, 20, 19, 21),
        "outer lip": (22, 24, 23, 27),
        "inner lip": (25, 26),
        "chin": (28,),
    },
    closed=frozenset({"left brow", "right brow", "left eye", "right eye", "nose", "outer lip"}),
    flip_pairs=_pairs("0-1 2-3 4-6 5-7 8-9 10-11 12-14 13-15 16-17 18-19 22-23"),
    eye_corners=(8, 9),
)
AFLW = Scheme(
    name="aflw",
    landmarks=19,
    groups={
        "left brow": (0, 1, 2),
        "right brow": (3, 4, 5),
        "left eye": (6, 7, 8),
        "right eye": (9, 10, 11),
        "nose": (12, 13, 14),
        "mouth": (15, 16, 17),
        "chin": (18,),
    },
    closed=frozenset(),
    flip_pairs=_pairs("0-5 1-4 2-3 6-11 7-10 8-9 12-14 15-17"),
    eye_corners=None,
    threshold=0.07,
)

SCHEMES = {scheme.name: scheme for scheme in (W300, WFLW, COFW, AFLW)}


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
    except RecursionError:
        raise UsageError(f"{name}: not a readable TOML file: lists in lists without end") from None
    except (OSError, ValueError) as error:  # no UTF-8, no TOML, a number of more than 4300 digits
        raise UsageError(f"{name}: not a readable TOML file: {error}") from None
    return Scheme.from_dict(data, name)
