"""Faces in a COCO-keypoints JSON: `annotations` with `keypoints` [x, y, v, ...] and maybe a `bbox`."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.geometry import Floats
from ..core.schemes import Scheme
from .files import Coco, read_coco, shown, to_numbers
from .labels import Bad, Row, to_visible
from .names import in_scheme_order, wrong_count


def read_keypoints(path: Path, scheme: Scheme) -> tuple[list[Row | Bad], Scheme, list[str]]:
    """The faces; the scheme, named by the file's `categories` where it had no names; and remarks.

    Crowds, and annotations of which no point is labelled, are no faces. Raises PoposError.
    """
    coco = read_coco(path)
    values = [annotation.get("keypoints") for annotation in coco.annotations]
    lengths = {len(one) for one in values if isinstance(one, list) and one}
    if len(lengths) == 1 and (length := lengths.pop()) % 3 == 0 and length != 3 * scheme.landmarks:
        names = next((names for names in coco.keypoint_names if len(names) == length // 3), ())
        raise wrong_count(f"{path}: faces of", length // 3, scheme, names)
    named = [names for names in coco.keypoint_names if len(names) == scheme.landmarks]
    order = None
    if len(named) == 1:  # of several categories each would need its own
        order, scheme = in_scheme_order(named[0], scheme, str(path))
    rows: list[Row | Bad] = []
    for number, annotation in enumerate(coco.annotations):
        source = f"{path.name}#{shown(annotation.get('id', number))}"
        row = _face(source, annotation, coco, scheme.landmarks)
        if isinstance(row, Row) and order is not None:
            row = replace(row, points=row.points[order], visible=row.visible[order])
        if row is not None:
            rows.append(row)
    unlabelled = len([one for one in values if one and isinstance(one, list)]) - len(rows)
    told = f"annotations passed by, as crowds or without a labelled point (v above 0): {unlabelled}"
    return rows, scheme, [told] if unlabelled > 0 else []


def _face(source: str, annotation: dict[str, Any], coco: Coco, landmarks: int) -> Row | Bad | None:
    values = annotation.get("keypoints")
    if values is not None and not isinstance(values, list):
        return Bad(source, "its keypoints are no list")
    if annotation.get("iscrowd") or not values:
        return None
    if len(values) != 3 * landmarks:
        return Bad(source, f"{len(values)} keypoint values instead of {3 * landmarks}")
    table = to_numbers(values)
    if table is None or table.shape != (3 * landmarks,):
        return Bad(source, "a keypoint is not a number")
    table = table.reshape(-1, 3)
    visible = to_visible(table[:, 2])
    if not visible.any():
        return None
    image = annotation.get("image_id")
    name = coco.files.get(image) if isinstance(image, Hashable) else None
    if name is None:
        return Bad(source, f"image_id {shown(image)} is not among the images")
    box = _box(annotation.get("bbox"))
    if isinstance(box, str):
        return Bad(source, box)
    points = np.where(visible[:, None] > 0, table[:, :2], np.nan)
    return Row(source, name, points, visible, box, coco.sizes.get(image))


def _box(given: Any) -> Floats | str | None:
    """x, y, w, h; None where there is none, which some tools write as zeros; or what is wrong with it."""
    if not given:
        return None
    box = to_numbers(given)
    if box is None or box.shape != (4,) or not np.isfinite(box).all():
        return f"its bbox is {shown(given)}, not four numbers"
    if not box.any():
        return None
    return box if box[2:].min() > 0 else f"its bbox has no size: {box[2]:g} x {box[3]:g}"
