"""PyTorch checkpoints (.pth), read as data: nothing that their pickles name is imported or run.

`torch.load(weights_only=True)` builds tensors and plain containers and refuses every other name. The meta
data of mmpose's checkpoints (configurations, logs, NumPy scalars) names classes of other packages; in place
of the harmless ones torch gets a class of ours that does nothing.
"""

from __future__ import annotations

import io
import itertools
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch

from ..errors import PoposError
from .file_kinds import refuse_file

# Names that meta data may mention: whole packages, and of other modules the classes of plain values alone.
HARMLESS = re.compile(
    r"""(mmcv|mmengine|mmpose|mmdet|addict|xtcocotools)\.[\w.]+
    |numpy\.(dtype|ndarray|bool_?|str_|bytes_|void|longdouble|(u?int|float|complex|datetime|timedelta)\d+)
    |numpy\.(dtypes\.\w+|_?core\.multiarray\.(scalar|_reconstruct)|_?core\.numeric\._frombuffer)
    |builtins\.(bool|bytearray|bytes|complex|dict|float|frozenset|getattr|int|list|object|range|set|slice|str)
    |builtins\.tuple|collections\.(defaultdict|deque)|copyreg\._reconstructor
    |argparse\.Namespace|types\.SimpleNamespace|uuid\.UUID|datetime\.(date|datetime|time|timedelta|timezone)
    |pathlib\.(_local\.)?(Pure)?(Posix|Windows)?Path""",
    re.VERBOSE,
)
# Pickles of torch's protocol, 2, have Python 2's names; torch translates them, too.
PYTHON_3 = {
    "__builtin__": "builtins", "copy_reg": "copyreg", "xrange": "range", "unicode": "str", "long": "int"
}  # fmt: skip
LEGACY_PICKLES = 5  # at the start of a file of torch < 1.6; the values of its tensors follow


class Placeholder:
    """Stands for harmless classes, and for getattr, by which pickles name methods. Keeps nothing."""

    def __new__(cls, *arguments: object, **keywords: object) -> Any:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


class DictPlaceholder(Placeholder):
    """Stands for classes of dictionaries: torch fills no other one than an OrderedDict."""

    def __new__(cls, *arguments: object, **keywords: object) -> Any:
        return OrderedDict()


def read_checkpoint(path: Path) -> Any:
    """What torch.save wrote, in the zip or the older format, with tensors on the CPU and placeholders for
    objects of other packages. Raises PoposError for a damaged file, and for all that torch refuses."""
    try:
        replaced: list[Any] = [
            (DictPlaceholder if name.lower().endswith("dict") else Placeholder, name)
            for name in _names_in(path)
            if HARMLESS.fullmatch(name)
        ]
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(replaced):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torn or hostile bytes raise nearly every kind
        text = str(error)
        if named := re.search(r"GLOBAL (\S+)", text):  # so torch names what it refuses
            raise PoposError(
                f"{path}: refused: its pickle names {named[1]}, which no weights need; nothing was loaded",
                "It may run code in other programs. If you made it, save the state_dict alone.",
            ) from None
        reason = text.rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
        raise refuse_file(path, "PyTorch checkpoint", reason or type(error).__name__) from None


def _names_in(path: Path) -> set[str]:
    """The dotted names that the file's pickles ask for; nothing is loaded. Raises ValueError, BadZipFile or
    OSError for what is no checkpoint, and for a wrong check sum, which torch does not notice."""
    if not path.is_file():  # opening a pipe would wait for ever
        raise FileNotFoundError
    names = set()
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        parts: list[IO[bytes]] = [file] * LEGACY_PICKLES
        if start == b"PK\3\4":
            archive = zipfile.ZipFile(file)
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged} is damaged")
            parts = [io.BytesIO(archive.read(n)) for n in archive.namelist() if n.endswith("/data.pkl")]
        elif not start.startswith(b"\x80\2"):
            raise ValueError("neither a zip archive nor a pickle of protocol 2")
        with suppress(ValueError):  # a torn pickle: torch says so
            for opcode, argument, _ in itertools.chain.from_iterable(map(pickletools.genops, parts)):
                if opcode.name == "GLOBAL":
                    names.add(".".join(PYTHON_3.get(part, part) for part in str(argument).split(" ")))
    return names
