"""Landmarks that a label file calls by name, and the error for a file with another number of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ..core.schemes import SCHEMES, Scheme
from ..errors import PoposError
from .parsing import shown


def plain(name: str) -> str:
    """A name as it is compared: "LeftEye" and "left_eye" are "left eye"."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return " ".join(re.findall(r"[^\W_]+", apart.lower()))


def in_scheme_order(names: Sequence[str], scheme: Scheme, where: str) -> tuple[list[int], Scheme]:
    """For each landmark of the scheme its place in `names`, of which there are as many; and the scheme,
    which takes these names where it has none.

    Names that are numbers stand for the landmarks of these numbers; others that the scheme does not know
    are in its order. Raises PoposError where some are the scheme's, but of another landmark.
    """
    found = [plain(name) for name in names]
    own = {plain(name): landmark for landmark, name in enumerate(scheme.names) if name}
    if own.keys() == set(found):
        return sorted(range(len(found)), key=lambda place: own[found[place]]), scheme
    if numbers := _numbers(found):
        return sorted(range(len(found)), key=numbers.__getitem__), scheme
    for place, name in enumerate(found):
        if own.get(name, place) != place:
            raise PoposError(
                f"{where}: {shown(names[place])} is landmark {place} there, but {own[name]} in scheme "
                f"{scheme.name!r}",
                "Give both the same names, or the same order.",
            )
    if not scheme.groups and all(found) and len(set(found)) == len(found):
        scheme = replace(scheme, groups={name: (n,) for n, name in enumerate(found)})
    return list(range(len(found))), scheme


def _numbers(names: Sequence[str]) -> list[int]:
    """The numbers in names that differ in nothing else and count from 0 or 1 on; empty for other names.
    Programs write such names in the order of text: 0, 1, 10, 11, 2."""
    numbers = [int(number) for name in names for number in re.findall(r"\d{1,6}", name)]
    counted = sorted(numbers) in [list(range(start, start + len(names))) for start in (0, 1)]
    return numbers if counted and len({re.sub(r"\d+", "", name) for name in names}) == 1 else []


def wrong_count(where: str, found: int, scheme: Scheme) -> PoposError:
    """The error for a file whose faces have `found` landmarks, with the scheme that would fit it."""
    fitting = [name for name, built_in in SCHEMES.items() if built_in.landmarks == found]
    hint = (
        f"Add --scheme {fitting[0]}, which has {found}."
        if fitting
        else f"Describe the {found} landmarks in a file points.toml and add --scheme points.toml. Its lines: "
        f'name = "points" | landmarks = {found} | flip_pairs = [[0, 1]] (those that change places in a '
        "mirror); docs/how-to/own-data.md has an example."
    )
    what = "landmark" if found == 1 else "landmarks"
    return PoposError(f"{where} {found} {what}, but scheme {scheme.name!r} has {scheme.landmarks}", hint)
