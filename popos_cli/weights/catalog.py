"""What weights exist: catalog.toml beside this file, and the user's own in POPOS_HOME."""

from __future__ import annotations

import functools
import logging
import math
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..core.choices import RESOLUTIONS, DecoderName
from ..core.schemes import SCHEMES
from ..errors import PoposError, UsageError
from ..home import home, weights_folder
from .hub import parse_address

_log = logging.getLogger(__name__)
BUNDLED = Path(__file__).parent / "bundled"
SHIPPED = Path(__file__).with_name("catalog.toml")
KINDS = {"face": "face model", "backbone": "ImageNet backbone", "detector": "face detector"}
FORMATS = ("popos", "mmpose", "timm", "onnx")


@dataclass(frozen=True)
class Entry:
    """kind: a key of `KINDS`. format: one of `FORMATS`: "popos" is ours, "mmpose" needs a conversion.

    source: a file's path, below `BUNDLED` where it is relative; hf://owner/repo/file; http(s)://...; None
    where `manual` says how to get it by hand. revision: the Hub's, None for its main branch. size: bytes.
    sha256: of the file, all 64 hexadecimal digits or the first ones. dataset: what it was trained on.
    scheme, resolution, sigma, decoder, label_offset: what a foreign checkpoint does not say itself.
    None: not known here.
    """

    name: str
    kind: str
    what: str
    licence: str
    source: str | None = None
    revision: str | None = None
    scheme: str | None = None
    dataset: str | None = None
    resolution: int | None = None
    size: int | None = None
    sha256: str | None = None
    format: str = "popos"
    sigma: float | None = None
    decoder: DecoderName | None = None
    label_offset: tuple[float, float] | None = None
    citation: str | None = None
    manual: str | None = None

    @property
    def local(self) -> Path | None:
        """The file of an entry that needs no download: a bundled one, or a path in a user's catalog."""
        return BUNDLED / self.source if self.source and "://" not in self.source else None


def load_catalog(extra: Path | None = None) -> dict[str, Entry]:
    """The shipped entries, then those of POPOS_HOME/catalog.toml, then those of `extra`; the later ones
    replace earlier ones of the same name.

    What is wrong in POPOS_HOME's is passed over with a note, so that it spoils no command that does not need
    it. Raises PoposError for what is wrong in `extra`.
    """
    own = home() / "catalog.toml"
    entries = dict(_read(SHIPPED, _refuse))
    if own.exists():
        entries |= _read(own, _note)
    return entries | dict(_read(extra, _refuse)) if extra else entries


def entry_of(name_or_source: str, catalog: dict[str, Entry]) -> Entry | None:
    """The entry of a name, or of the source of one."""
    if name_or_source in catalog:
        return catalog[name_or_source]
    return next((e for e in catalog.values() if e.source == name_or_source and not e.revision), None)


def converted_file(name: str) -> Path:
    """Where a foreign checkpoint lies in our format, under the name that `--weights` takes."""
    return weights_folder() / f"{name}.safetensors"


def _refuse(problem: PoposError) -> None:
    raise problem


def _note(problem: PoposError) -> None:
    _note_once(f"passed over: {problem.message}")


@functools.cache  # a command may read the catalog several times
def _note_once(message: str) -> None:
    _log.warning("%s", message)


def _read(path: Path, tell: Callable[[PoposError], None]) -> Iterator[tuple[str, Entry]]:
    """Name and entry of all that can be used; `tell` is called with what is wrong with the others."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8").removeprefix("\ufeff"))
    except OSError as error:
        return tell(PoposError(f"{path}: cannot read the catalog: {error.strerror or error}"))
    except (ValueError, RecursionError) as error:
        return tell(PoposError(f"{path}: not a readable TOML file: {error}"))
    for name, values in data.items():
        try:
            yield name, _entry(name, values, path)
        except PoposError as error:
            tell(error)
        except ValueError as error:  # a null character in a path, a number of thousands of digits
            tell(PoposError(f"{path}: [{name}]: {error}"))


# What TOML value a key takes; the others take text.
_TYPES: dict[str, type | tuple[type, ...]] = {
    "resolution": int, "size": int, "sigma": (int, float), "label_offset": list,
}  # fmt: skip
_KEYS = tuple(field.name for field in fields(Entry) if field.name != "name")


def _entry(name: str, values: Any, path: Path) -> Entry:
    def refuse(what: str) -> PoposError:
        return PoposError(f"{path}: [{name}]: {what}", "docs/weights.md describes the keys of a catalog.")

    if not isinstance(values, dict):
        raise refuse("not a table of keys")
    if not re.fullmatch(r"\w[\w.+-]*", name):  # it names a file
        raise refuse("a name is of letters, digits and _ . + -")
    for key, value in values.items():
        if key not in _KEYS:
            raise refuse(f"unknown key {key!r}; known: {', '.join(_KEYS)}")
        if not isinstance(value, _TYPES.get(key, str)) or isinstance(value, bool):
            raise refuse(f"{key} = {value!r}: of the wrong type")
    entry = {"kind": "face", "what": name, "licence": "not stated", **values}
    if entry["kind"] not in KINDS:
        raise refuse(f"kind = {entry['kind']!r}; known: {', '.join(KINDS)}")
    if entry.get("format", "popos") not in FORMATS:
        raise refuse(f"format = {entry['format']!r}; known: {', '.join(FORMATS)}")
    if entry.get("resolution", 64) not in RESOLUTIONS:
        raise refuse(f"resolution = {entry['resolution']}: must be one of {', '.join(map(str, RESOLUTIONS))}")
    if not 0 < entry.get("sigma", 1) < math.inf:
        raise refuse(f"sigma = {entry['sigma']}: must be above 0 heatmap pixels")
    if not entry.get("size", 1) > 0:
        raise refuse(f"size = {entry['size']}: must be above 0 bytes")
    scheme = entry.get("scheme", "300w")
    if scheme not in SCHEMES and not scheme.endswith(".toml"):
        raise refuse(f"scheme = {scheme!r}; known: {', '.join(SCHEMES)}, or a .toml file of your own")
    if bool(entry.get("source")) == bool(entry.get("manual")):
        raise refuse("needs a source, or else manual instructions")
    if "sha256" in entry:
        entry["sha256"] = digits = entry["sha256"].lower()
        if not 8 <= len(digits) <= 64 or set(digits) - set("0123456789abcdef"):
            raise refuse("sha256: must be 8 to 64 hexadecimal digits")
    if offset := entry.get("label_offset"):
        if len(offset) != 2 or not all(isinstance(x, int | float) and abs(x) < 1e3 for x in offset):
            raise refuse("label_offset: must be two numbers, x and y, of a few pixels")
        entry["label_offset"] = (float(offset[0]), float(offset[1]))
    source = entry.get("source")
    if source and "://" in source and not source.startswith(("https://", "http://")):
        try:
            parse_address(source)
        except UsageError:
            raise refuse(f"source = {source!r}: no hf://owner/repo/file, https address or path") from None
    if path != SHIPPED and source and "://" not in source:
        entry["source"] = str((path.parent / source).resolve())
    return Entry(name=name, **entry)
