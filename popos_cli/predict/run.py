"""`popos predict`, from the sources to the files."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .coco_file import CocoFile
from .crop_files import CropFiles
from .frames import Source
from .parts import Part
from .pipeline import Box, Result, failure, predict_sources
from .window import Closed, Window
from .writers import CsvFile, Folder

if TYPE_CHECKING:
    from .predictor import Predictor


@dataclass(frozen=True)
class Outputs:
    """folder: for JSON and overlays. table: the CSV file. coco: the file of COCO keypoints. show: a window.
    head: the keys of a JSON document beside "images". crops: a folder for aligned crops, crop_size pixels
    wide. uncertainty: is drawn, too. parts: a folder for JSON lines, one file a process."""

    head: dict[str, Any]
    folder: Path | None = None
    table: Path | None = None
    coco: Path | None = None
    show: bool = False
    crops: Path | None = None
    crop_size: int = 256
    uncertainty: bool = False
    parts: Path | None = None


def run_prediction(
    predictor: Predictor,
    sources: Sequence[Source],
    outputs: Outputs,
    boxes: Sequence[Box] = (),
    whole_image: bool = False,
    smooth: bool = True,
) -> Generator[Result, None, None]:
    """The results, as `predict_sources`, each of them once it is written. What cannot be written is its
    error; the outputs of that source that fail are then left.

    Raises PoposError where an output cannot be begun. Files are completed however this ends.
    """
    scheme = predictor.scheme
    with ExitStack() as stack:
        writers: list[Any] = []
        if outputs.folder:
            writers.append(Folder(outputs.folder, sources, outputs.head, scheme, outputs.uncertainty))
        if outputs.table:
            writers.append(CsvFile(outputs.table, scheme))
        if outputs.parts:
            writers.append(Part(outputs.parts, outputs.head))
        if outputs.crops:
            writers.append(CropFiles(outputs.crops, outputs.crop_size, sources, outputs.folder, scheme))
        if outputs.coco:
            writers.append(CocoFile(outputs.coco, outputs.head, scheme))
        if outputs.show:  # last: closing it ends the run, and this frame is to be written
            writers.append(Window(scheme, outputs.uncertainty))
        for writer in writers:
            stack.enter_context(closing(writer))
        results = predict_sources(predictor, sources, boxes, whole_image, smooth)
        crop_size = outputs.crop_size if outputs.crops else None
        yield from _written(stack.enter_context(closing(results)), writers, crop_size)


def _written(
    results: Generator[Result, None, None], writers: list[Any], crop_size: int | None
) -> Generator[Result, None, None]:
    broken: set[tuple[Any, Source]] = set()
    for result in results:
        result = replace(result, crop_size=crop_size)
        for writer in writers:
            if (writer, result.source) in broken:
                continue
            try:
                writer.write(result)
            except Closed:
                return
            except Exception as error:
                result = replace(result, error=result.error or failure(result.source, error))
                broken.add((writer, result.source))
        yield result
