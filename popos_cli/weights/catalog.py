"""What weights exist: catalog.toml beside this file, and the user's own in POPOS_HOME."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..core.schemes import SCHEMES
from ..data.home import home, weights_folder
from ..errors import PoposError

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
    decoder: str | None = None
    label_offset: tuple[float, float] | None = None
    citation: str | None = None
    manual: str | None = None

    @property
    def local(self) -> Path | None:
        """The file of an entry that needs no download: a bundled one, or a path in a user's catalog."""
        return BUNDLED / self.source if self.source and "://" not in self.source else None


def load_catalog(extra: Path | None = None) -> dict[str, Entry]:
    """The shipped entries, then those of POPOS_HOME/catalog.toml, then those of `extra`; the later ones
    replace earlier ones of the same name. Raises PoposError for a file that cannot be used.
    """
    own = home() / "catalog.toml"
    entries = _read(SHIPPED)
    for path in (own if own.exists() else None, extra):
        if path:
            entries |= _read(path)
    return entries


def entry_of(name_or_source: str, catalog: dict[str, Entry]) -> Entry | None:
    """The entry of a name, or of the source of one."""
    if name_or_source in catalog:
        return catalog[name_or_source]
    return next((e for e in catalog.values() if e.source == name_or_source and not e.revision), None)


def converted_file(name: str) -> Path:
    """Where a foreign checkpoint lies in our format, under the name that `--weights` takes."""
    return weights_folder() / f"{name}.safetensors"


def _read(path: Path) -> dict[str, Entry]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PoposError(f"{path}: cannot read the catalog: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PoposError(f"{path}: not a readable TOML file: {error}") from None
    return {name: _entry(name, values, path) for name, values in data.items()}


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
    if entry.get("resolution", 64) not in (64, 32, 16, 8, 4):
        raise refuse(f"resolution = {entry['resolution']}: must be 64, 32, 16, 8 or 4")
    if not entry.get("sigma", 1) > 0:
        raise refuse(f"sigma = {entry['sigma']}: must be above 0 heatmap pixels")
    scheme = entry.get("scheme", "300w")
    if scheme not in SCHEMES and not scheme.endswith(".toml"):
        raise refuse(f"scheme = {scheme!r}; known: {', '.join(SCHEMES)}, or a .toml file of your own")
    if ("source" in entry) == ("manual" in entry):
        raise refuse("needs a source, or else manual instructions")
    if "sha256" in entry:
        entry["sha256"] = digits = entry["sha256"].lower()
        if not 8 <= len(digits) <= 64 or set(digits) - set("0123456789abcdef"):
            raise refuse("sha256: must be 8 to 64 hexadecimal digits")
    if offset := entry.get("label_offset"):
        if len(offset) != 2 or not all(isinstance(x, int | float) for x in offset):
            raise refuse("label_offset: must be two numbers, x and y")
        entry["label_offset"] = (float(offset[0]), float(offset[1]))
    source = entry.get("source")
    if path != SHIPPED and source and "://" not in source:
        entry["source"] = str((path.parent / source).resolve())
    return Entry(name=name, **entry)
