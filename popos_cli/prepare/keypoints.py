"""Faces in a COCO-keypoints JSON: `annotations` with `keypoints` [x, y, v, ...] and maybe a `bbox`."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.geometry import Floats
from ..core.schemes import Scheme
from ..errors import PoposError
from .labels import Bad, OwnLabel, to_visible
from .names import in_scheme_order, wrong_count
from .parsing import Coco, read_coco, shown, to_numbers


def read_keypoints(path: Path, scheme: Scheme) -> tuple[list[OwnLabel | Bad], Scheme, list[str]]:
    """The faces; the scheme, named by the file's `categories` where it had no names; and remarks.

    Crowds, and annotations without a labelled point, are no faces. Raises PoposError.
    """
    coco = read_coco(path)
    values = [annotation.get("keypoints") for annotation in coco.annotations]
    lengths = {len(one) for one in values if isinstance(one, list) and one}
    if len(lengths) == 1 and (length := lengths.pop()) % 3 == 0 and length != 3 * scheme.landmarks:
        raise wrong_count(f"{path}: faces of", length // 3, scheme)
    named = [names for names in coco.keypoint_names if len(names) == scheme.landmarks]
    order = list(range(scheme.landmarks))
    if len(named) == 1:  # of several categories each would need its own
        order, scheme = in_scheme_order(named[0], scheme, str(path))
    rows: list[OwnLabel | Bad] = []
    for number, annotation in enumerate(coco.annotations):
        source = f"{path.name}#{shown(annotation.get('id', number))}"
        try:
            if row := _face(source, annotation, coco, scheme.landmarks):
                rows.append(replace(row, points=row.points[order], visible=row.visible[order]))
        except PoposError as error:
            rows.append(Bad(source, error.message))
    unlabelled = len([one for one in values if one and isinstance(one, list)]) - len(rows)
    remark = f"annotations passed by, as crowds or without a labelled point (v above 0): {unlabelled}"
    return rows, scheme, [remark] if unlabelled > 0 else []


def _face(source: str, annotation: dict[str, Any], coco: Coco, landmarks: int) -> OwnLabel | None:
    """None where it is no face. Raises PoposError with what is wrong with it."""
    values = annotation.get("keypoints")
    if values is not None and not isinstance(values, list):
        raise PoposError("its keypoints are no list")
    if annotation.get("iscrowd") or not values:
        return None
    if len(values) != 3 * landmarks:
        raise PoposError(f"{len(values)} keypoint values instead of {3 * landmarks}")
    table = to_numbers(values)
    if table is None or table.shape != (3 * landmarks,):
        raise PoposError("a keypoint is not a number")
    table = table.reshape(-1, 3)
    visible = to_visible(table[:, 2])
    if not visible.any():
        return None
    image = annotation.get("image_id")
    name = coco.files.get(image) if isinstance(image, Hashable) else None
    if name is None:
        raise PoposError(f"image_id {shown(image)} is not among the images")
    points = np.where(visible[:, None] > 0, table[:, :2], np.nan)
    return OwnLabel(source, name, points, visible, _box(annotation.get("bbox")), coco.sizes.get(image))


def _box(given: Any) -> Floats | None:
    """x, y, w, h; None where there is none, which some tools write as zeros. Raises PoposError."""
    box = to_numbers(given) if given else np.zeros(4)
    if box is None or box.shape != (4,) or not np.isfinite(box).all():
        raise PoposError(f"its bbox is {shown(given)}, not four numbers")
    if box.any() and not box[2:].min() > 0:
        raise PoposError(f"its bbox has no size: {box[2]:g} x {box[3]:g}")
    return box if box.any() else None
