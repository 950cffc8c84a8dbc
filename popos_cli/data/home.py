"""POPOS_HOME: where indexes, our own copies of pixels, and the registry of roots and runs lie."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from ..errors import PoposError

T = TypeVar("T")
_log = logging.getLogger(__name__)


def home() -> Path:
    """$POPOS_HOME, or the platform's folder for user data. Not created here."""
    given = os.environ.get("POPOS_HOME")
    return Path(given).expanduser() if given else Path(platformdirs.user_data_dir("popos"))


def datasets_folder() -> Path:
    return home() / "datasets"


def extracted_folder(dataset: str) -> Path:
    """Where pixels that lie in archives or label files are unpacked to; not created here."""
    return home() / "extracted" / dataset


def weights_folder() -> Path:
    """Where converted weights that have a name lie, NAME.safetensors; not created here."""
    return home() / "weights"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write beside `path`; it takes `path`'s place only if the block succeeds.

    The folder is created. Raises PoposError where the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "Choose a folder you may write to."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "Free some space there, or choose another place."
        raise PoposError(f"cannot write {path}: {reason}", hint) from error
    finally:
        if temporary.exists():
            temporary.unlink()


def write_json(path: Path, data: Any) -> None:
    with replacing(path) as temporary:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_or_set_aside(path: Path, parse: Callable[[str], T], empty: T) -> T:
    """What `parse` makes of a small file of ours; `empty` where there is none or it cannot be read.

    One that is broken gets another name, with a note, so that it spoils no command.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return empty
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        aside = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}.broken")
        reason = " ".join(str(error).split()) or type(error).__name__
        try:
            os.replace(path, aside)
            _log.warning("%s is broken (%s): set aside as %s", path, reason, aside.name)
        except OSError:
            _log.warning("%s is broken (%s): passed over", path, reason)
        return empty


def _registry() -> dict[str, Any]:
    try:
        data = json.loads((home() / "registry.json").read_text(encoding="utf-8"))
        return data if isinstance(data, dict) else {}
    except (OSError, ValueError):
        return {}


def remember(kind: str, path: Path) -> None:
    """Note `path` under "roots" or "runs", newest last."""
    registry = _registry()
    text = str(path.resolve())
    registry[kind] = [p for p in registry.get(kind, []) if p != text] + [text]
    write_json(home() / "registry.json", registry)


def remembered(kind: str) -> list[Path]:
    """The noted paths that still exist, newest first."""
    paths = [Path(p) for p in reversed(_registry().get(kind, []))]
    return [p for p in paths if p.exists()]
