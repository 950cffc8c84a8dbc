"""Whether mirrored faces teach the right places: a scheme's flip pairs beside the labels of a dataset."""

from __future__ import annotations

from typing import Any

from ..core.mirror import check_mirror
from ..core.schemes import Scheme
from .index import Index

EXAMPLES = 5  # landmarks that a remark names


def mirror(index: Index) -> dict[str, Any]:
    """Whether the scheme's flip pairs agree with the labels. known: the scheme has pairs; wrong, lone:
    landmarks, as in `MirrorCheck`; fitting: the pairs that fit best. None where too few faces show it."""
    check = check_mirror(index.points, index.scheme)
    return {
        "known": index.scheme.mirrors,
        "wrong": list(check.wrong) if check else None,
        "lone": list(check.lone) if check else None,
        "fitting": [list(pair) for pair in check.pairs] if check else None,
    }


def mirror_remarks(found: dict[str, Any], scheme: Scheme) -> list[str]:
    """What a user should know of `mirror`'s finding; nothing where the pairs agree."""
    better = f"flip_pairs = {found['fitting']}" if found["fitting"] and not found["lone"] else None
    if not found["known"]:
        fitting = f"; pairs that fit the labels: {better}" if better else ""
        return [f"{scheme.no_mirror}: training mirrors no faces, and there is no flip test{fitting}"]
    if found["lone"]:
        return [
            f"warning: the labels have no mirror image of {_marks(found['lone'], scheme)}, so that mirrored "
            f"faces teach wrong places: leave flip_pairs out of scheme {scheme.name!r}, or label both sides"
        ]
    if found["wrong"]:
        return [
            f"warning: the flip_pairs of scheme {scheme.name!r} contradict the labels: mirrored, "
            f"{_marks(found['wrong'], scheme)} would lie elsewhere; pairs that fit better: {better}"
        ]
    return []


def _marks(landmarks: list[int], scheme: Scheme) -> str:
    """The first landmarks by number and name."""
    names = [f"{n} ({scheme.names[n]})" if scheme.names[n] else str(n) for n in landmarks[:EXAMPLES]]
    more = f" and {len(landmarks) - EXAMPLES} more" if len(landmarks) > EXAMPLES else ""
    return f"landmark{'s' if len(landmarks) > 1 else ''} {', '.join(names)}{more}"
