"""What weights exist: catalog.toml beside this file, and the user's own in POPOS_HOME."""

from __future__ import annotations

import functools
import logging
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from ..core.choices import DecoderName, Resolution
from ..core.schemes import SCHEMES
from ..errors import PoposError, UsageError, first_problem
from ..home import home, weights_folder
from .hub import parse_address

_log = logging.getLogger(__name__)
BUNDLED = Path(__file__).parent / "bundled"
SHIPPED = Path(__file__).with_name("catalog.toml")
URLS = ("https://", "http://")
_Offset = Annotated[float, Field(strict=True, gt=-1e3, lt=1e3)]


class Entry(BaseModel):
    """One kind of weights; docs/weights.md describes each key. None: not known here.

    format: "popos" is ours, "mmpose" needs a conversion. source: a file's path, below `BUNDLED` where it is
    relative; hf://owner/repo/file; http(s)://...; None where `manual` says how to get it by hand. revision:
    the Hub's, None for its main branch. size: bytes. sha256: all 64 hexadecimal digits or the first ones.
    dataset: what it was trained on. scheme, resolution, sigma, decoder, label_offset (source pixels): what a
    foreign checkpoint does not say itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    kind: Literal["face", "backbone", "detector"] = "face"
    what: str = ""
    licence: str = "not stated"
    source: str | None = None
    revision: str | None = None
    scheme: str | None = None
    dataset: str | None = None
    resolution: Resolution | None = None
    size: int | None = Field(None, gt=0)
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-fA-F]{8,64}$", to_lower=True)] | None = None
    format: Literal["popos", "mmpose", "timm", "onnx"] = "popos"
    sigma: float | None = Field(None, gt=0)  # heatmap pixels
    decoder: DecoderName | None = None
    label_offset: Annotated[tuple[_Offset, _Offset] | None, Field(strict=False)] = None
    citation: str | None = None
    manual: str | None = None

    @model_validator(mode="after")
    def _can_be_had(self) -> Self:
        if bool(self.source) == bool(self.manual):
            raise ValueError("needs a source, or else manual instructions")
        if self.source and "://" in self.source:
            _file_of(self.source)
        if self.scheme and self.scheme not in SCHEMES and not self.scheme.endswith(".toml"):
            known = ", ".join(SCHEMES)
            raise ValueError(f"scheme = {self.scheme!r}; known: {known}, or a .toml file of your own")
        return self

    @property
    def local(self) -> Path | None:
        """The file of an entry that needs no download: a bundled one, or a path in a user's catalog."""
        return BUNDLED / self.source if self.source and "://" not in self.source else None

    @property
    def on_hub(self) -> bool:
        return bool(self.source and self.source.startswith("hf://"))

    @property
    def address(self) -> str:
        """The source with its revision."""
        return f"{self.source}@{self.revision}" if self.revision else str(self.source)


def _file_of(address: str) -> str:
    """The path part of a hf:// or https address. Raises UsageError for anything else."""
    try:
        parts = urlsplit(address)
        if parts.scheme == "hf":
            return parse_address(address)[1]
        if address.startswith(URLS) and parts.hostname:
            return parts.path
    except ValueError:  # brackets that are no IPv6 address
        pass
    raise UsageError(f"{address}: neither hf://owner/repo/file nor an https address")


def entry_of_address(address: str) -> Entry:
    """An address of which nothing more is known. Raises UsageError where it is none."""
    ours = _file_of(address).endswith(".safetensors")
    return Entry(name=address, source=address, format="popos" if ours else "mmpose")


def entry_of(name_or_source: str, catalog: dict[str, Entry]) -> Entry | None:
    """The entry of a name, or of the source of one."""
    if name_or_source in catalog:
        return catalog[name_or_source]
    return next((e for e in catalog.values() if e.source == name_or_source and not e.revision), None)


def converted_file(name: str) -> Path:
    """Where a foreign checkpoint lies in our format, under the name that `--weights` takes."""
    return weights_folder() / f"{name}.safetensors"


def load_catalog(extra: Path | None = None) -> dict[str, Entry]:
    """The shipped entries, then those of POPOS_HOME/catalog.toml, then those of `extra`; the later ones
    replace earlier ones of the same name.

    What is wrong in POPOS_HOME's is passed over with a note, so that it spoils no command that does not need
    it. Raises PoposError for what is wrong in `extra`.
    """
    own = home() / "catalog.toml"
    entries = {}
    for path in (SHIPPED, *([own] if own.exists() else []), *([extra] if extra else [])):
        for entry in _read(path):
            if isinstance(entry, Entry):
                entries[entry.name] = entry
            elif path is own:
                _note_once(f"passed over: {entry.message}")
            else:
                raise entry
    return entries


@functools.cache  # a command may read the catalog several times
def _note_once(message: str) -> None:
    _log.warning("%s", message)


def _read(path: Path) -> Iterator[Entry | PoposError]:
    """The entries of a catalog, and what is wrong with those that cannot be used."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8").removeprefix("\ufeff"))
    except OSError as error:
        yield PoposError(f"{path}: cannot read the catalog: {error.strerror or error}")
        return
    except (ValueError, RecursionError) as error:
        yield PoposError(f"{path}: not a readable TOML file: {error}")
        return
    for name, values in data.items():
        try:
            yield _entry(name, values, path)
        except (ValueError, UsageError) as error:
            problem = str(error)
            if isinstance(error, ValidationError):
                problem = ": ".join(filter(None, first_problem(error)))
            hint = "docs/weights.md describes the keys of a catalog."
            yield PoposError(f"{path}: [{name}]: {problem}", hint)


def _entry(name: str, values: Any, path: Path) -> Entry:
    """Raises ValueError or UsageError for what cannot be an entry."""
    if not isinstance(values, dict):
        raise ValueError("not a table of keys")
    if not re.fullmatch(r"\w[\w.+-]*", name):  # it names a file
        raise ValueError("a name is of letters, digits and _ . + -")
    values = {"what": name, **values, "name": name}
    source = values.get("source")
    if path != SHIPPED and isinstance(source, str) and source and "://" not in source:
        values["source"] = str((path.parent / source).resolve())
    return Entry.model_validate(values)
