"""POPOS_HOME/pins.json: the SHA-256 of each file at its first download, by its address."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..errors import PoposError
from ..home import home, locked, read_or_set_aside, write_json


def pins_file() -> Path:
    return home() / "pins.json"


def read_pins(held: bool = False) -> dict[str, str]:
    """Address (`Entry.address`) -> SHA-256. held: see `read_or_set_aside`."""
    return read_or_set_aside(pins_file(), _parse, {}, held)


def _parse(text: str) -> dict[str, str]:
    pins = json.loads(text)
    if not isinstance(pins, dict) or not all(isinstance(value, str) for value in pins.values()):
        raise ValueError("not a list of hashes")
    return pins


def pin(address: str, digest: str) -> None:
    """Note a file's SHA-256. Raises PoposError where that cannot be written."""
    if read_pins().get(address) != digest:
        with locked(pins_file()):
            write_json(pins_file(), {**read_pins(held=True), address: digest})


def sha256(path: Path) -> str:
    """64 hexadecimal digits. Raises PoposError for a file that cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PoposError(f"{path}: cannot be read: {error.strerror or error}") from None
