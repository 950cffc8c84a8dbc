"""Which faces are kept for validation: nobody, and no picture, is on both sides."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..data.index import Index
from ..data.stamps import stamp_of
from ..data.threads import in_threads
from ..errors import PoposError, UsageError

# AFW and HELEN give each face of a photo a file of its own: 134212_1.jpg, 134212_2.jpg.
_FACE_OF_PHOTO = re.compile(r"(^|/)(\d+)_\d+(?=\.\w+$)")


def person_pattern(split_by: str | None) -> re.Pattern[str] | None:
    """Raises UsageError for a pattern without group 1."""
    try:
        pattern = re.compile(split_by) if split_by else None
    except re.error as error:
        raise UsageError(f"--split-by {split_by!r}: not a regular expression: {error}") from None
    if pattern and pattern.groups < 1:
        raise UsageError(f"--split-by {split_by!r} has no group", r"Put the person in brackets: '^(.*)_\d+'.")
    return pattern


def person_of(image: str, pattern: re.Pattern[str] | None) -> str:
    """Group 1 of the pattern in an image path; the path without a pattern. Raises PoposError."""
    if pattern is None:
        return image
    match = pattern.search(image)
    if not (match and match[1]):
        raise PoposError(f"--split-by finds no person in {image!r}")
    return match[1]


def hold_back_people(index: Index, fraction: float, seed: int | None) -> Index:
    """Own data with a share of the people (groups) as split "val", the others as "train".

    People who have a picture in common become one, named as the first. Raises PoposError for one alone.
    """
    groups = join_groups(index.group.tolist(), [index.root / image for image in index.image.tolist()])
    held = choose(groups, fraction, seed)
    splits = ["val" if group in held else "train" for group in groups]
    return replace(index, group=np.array(groups), split=np.array(splits))


def hold_back_photos(index: Index, fraction: float, seed: int | None) -> Index:
    """A benchmark with a share of its training photos as split "val", all faces of a photo together.

    With fraction 0, and where a part of a benchmark has none to spare, nothing changes.
    """
    splits = index.split.copy()
    photos = [_FACE_OF_PHOTO.sub(r"\1\2", image) for image in index.image.tolist()]
    train = [photo for photo, split in zip(photos, splits, strict=True) if split == "train"]
    if fraction and len(set(train)) > 1:
        held = choose(train, fraction, seed)
        splits[[s == "train" and p in held for p, s in zip(photos, splits, strict=True)]] = "val"
    return replace(index, split=splits)


def join_groups(groups: Sequence[str], pictures: Sequence[Path]) -> list[str]:
    """The groups (F,), where those that have a picture in common become one, named as the first.

    A picture is the same under two spellings, through links, and as a copy. Where all pictures are copies of
    one, as in a first try of the tool, copies count as different.
    """
    contents = [(size, content) for size, _, content in in_threads(stamp_of, pictures)]
    joined = _joined(groups, contents)
    return joined if len(set(joined)) > 1 else _joined(groups, [os.path.realpath(path) for path in pictures])


def _joined(groups: Sequence[str], pictures: Sequence[Hashable]) -> list[str]:
    parent = {group: group for group in groups}

    def first(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    owner: dict[Hashable, str] = {}
    for group, picture in zip(groups, pictures, strict=True):
        parent[first(group)] = first(owner.setdefault(picture, group))
    return [first(group) for group in groups]


def choose(groups: Sequence[str], fraction: float, seed: int | None) -> set[str]:
    """The groups kept for validation: round(fraction * count), at least one, never all.

    Without a seed they are the last by name, which keeps neighbouring frames of unlabelled
    sequences on one side; with one they are drawn at random.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise PoposError(
            f"all faces belong to one group ({names[0]!r}), so none is left for validation",
            "Check --split-by: group 1 of the pattern must tell people apart.",
        )
    if seed is not None:
        names = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    count = min(max(round(fraction * len(names)), 1), len(names) - 1)
    return set(names[-count:])
