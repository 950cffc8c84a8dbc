"""What weights exist: catalog.toml beside this file, and the user's own in POPOS_HOME."""

from __future__ import annotations

import functools
import hashlib
import logging
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from ..core.choices import SIGMAS, DecoderName, Resolution
from ..core.schemes import find_scheme
from ..errors import PoposError, UsageError, first_problem
from ..home import home, weights_folder
from .hub import parse_address

_log = logging.getLogger(__name__)
BUNDLED = Path(__file__).parent / "bundled"
SHIPPED = Path(__file__).with_name("catalog.toml")
URLS = ("https://", "http://")
NAME = re.compile(r"\w[\w.+-]*")  # a name becomes a file's
_Offset = Annotated[float, Field(strict=True, gt=-1e3, lt=1e3)]


class Entry(BaseModel):
    """One kind of weights; docs/reference/formats.md has each key. None: not known here.

    name: the source itself where nothing but that is known. format: "popos" is ours, "mmpose" needs a
    conversion. source: a file's path, below `BUNDLED` where it is relative; hf://owner/repo/file;
    http(s)://...; None where `manual` says how to get it by hand. revision: the Hub's, None for its main
    branch. size: bytes. sha256: all 64 hexadecimal digits or the first ones. dataset: what it was trained on.
    scheme, resolution, sigma (heatmap pixels), decoder, label_offset (source pixels): what a foreign
    checkpoint does not say itself.
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
    sigma: float | None = None
    decoder: DecoderName | None = None
    label_offset: Annotated[tuple[_Offset, _Offset] | None, Field(strict=False)] = None
    citation: str | None = None
    manual: str | None = None

    @field_validator("sigma")
    @classmethod
    def _in_range(cls, sigma: float | None) -> float | None:
        if sigma is not None and not SIGMAS[0] <= sigma <= SIGMAS[1]:
            raise ValueError(f"must be from {SIGMAS[0]:g} to {SIGMAS[1]:g} heatmap pixels")
        return sigma

    @model_validator(mode="after")
    def _can_be_had(self) -> Self:
        if bool(self.source) == bool(self.manual):
            raise ValueError("needs a source, or else manual instructions")
        if self.source and "://" in self.source:
            _file_of(self.source)
        if self.scheme and not self.scheme.lower().endswith(".toml"):  # a file is read when it is used
            find_scheme(self.scheme)
        return self

    @property
    def named(self) -> bool:
        """Whether this is a catalog's, not an address or a path alone."""
        return self.name != self.source

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

    @property
    def shown_source(self) -> str:
        """For people: where it comes from, or how to get it by hand."""
        bundled = self.local is not None and not Path(str(self.source)).is_absolute()
        return f"bundled/{self.source}" if bundled else self.source or self.manual or ""

    @property
    def downloaded(self) -> Path:
        """Where a file from a https address lies: under its own name, in a folder for the address."""
        return home() / "downloads" / _short_hash(str(self.source)) / _file_name(str(self.source))

    @property
    def converted(self) -> Path | None:
        """Where a foreign face model lies in our format; None for files that are used as they are."""
        if self.kind != "face" or self.format == "popos":
            return None
        if self.named:
            return converted_file(self.name)
        return converted_file(f"{_file_name(self.name).partition('.pth')[0]}-{_short_hash(self.name)}")


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


def _file_name(address: str) -> str:
    """The last part of an address, made fit for a file's name."""
    last = unquote(urlsplit(address).path.rpartition("/")[2])
    return re.sub(r"[^\w.+-]", "_", last).strip(".") or "file"


def _short_hash(address: str) -> str:
    """Keeps files of one name at two addresses apart."""
    return hashlib.sha256(address.encode()).hexdigest()[:8]


def entry_of(name: str, catalog: dict[str, Entry]) -> Entry | None:
    """The entry of a name or an address, of which nothing more need be known; None for an unknown name.

    Raises UsageError for what has "://" and is no address.
    """
    if name in catalog or "://" not in name:
        return catalog.get(name)
    ours = _file_of(name).endswith(".safetensors")
    unknown = Entry(name=name, source=name, format="popos" if ours else "mmpose")
    return next((entry for entry in catalog.values() if entry.address == name), unknown)


def converted_file(name: str) -> Path:
    """Where weights in our format lie under a name that `--weights` takes."""
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
            hint = "docs/reference/formats.md describes the keys of a catalog."
            yield PoposError(f"{path}: [{name}]: {problem}", hint)


def _entry(name: str, values: Any, path: Path) -> Entry:
    """Raises ValueError or UsageError for what cannot be an entry."""
    if not isinstance(values, dict):
        raise ValueError("not a table of keys")
    if not NAME.fullmatch(name):
        raise ValueError("a name is of letters, digits and _ . + -")
    values = {"what": name, **values, "name": name}
    source = values.get("source")
    if path != SHIPPED and isinstance(source, str) and source and "://" not in source:
        values["source"] = str((path.parent / source).resolve())
    return Entry.model_validate(values)
