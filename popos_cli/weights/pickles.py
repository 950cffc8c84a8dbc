"""PyTorch checkpoints (.pth) as data: what they name is looked at first, and none of it runs.

A pickle is a program that may call whatever it names. So all names are read off its opcodes before
it is loaded; only then does `torch.load(weights_only=True)` load it, with a placeholder that does
nothing for every harmless class that a checkpoint's meta data may mention.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import warnings
import zipfile
import zlib
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import torch

from ..errors import PoposError

Name = tuple[str, str]  # module, qualified name in it

# torch loads these itself, and judges its own names (torch.*).
NATIVE = {("collections", "OrderedDict"), ("collections", "Counter"), ("_codecs", "encode")}
# Packages whose objects stand in the meta data of mmpose's checkpoints: configurations, logs.
ROOTS = {"mmcv", "mmengine", "mmpose", "mmdet", "addict", "xtcocotools"}
# Exact names, for beside a module's plain values lie functions that run code.
PLAIN = {
    "argparse": "Namespace",
    "builtins": "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple",
    "collections": "defaultdict deque",
    "copyreg": "_reconstructor",
    "datetime": "date datetime time timedelta timezone",
    "numpy": "dtype ndarray bool_ bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 "
    "float64 longdouble complex64 complex128 str_ bytes_ void datetime64 timedelta64",
    "numpy.core.multiarray": "scalar _reconstruct",
    "numpy._core.multiarray": "scalar _reconstruct",
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.numeric": "_frombuffer",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "pathlib._local": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "types": "SimpleNamespace",
    "uuid": "UUID",
}  # fmt: skip
GETATTR = ("builtins", "getattr")  # how a pickle names a method; see `_attribute`

ZIP = b"PK\x03\x04"  # by which torch, too, knows one
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first of five pickles in files of torch < 1.6
LEGACY_PICKLES = 5
BEGINNINGS = (
    (rb"\s*<", "a web page or XML, not a checkpoint", "Download the file itself; a login page came instead?"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file that it stands for", "Run git lfs pull."),
    (rb'.{8}\{"', "a safetensors file, not a .pth checkpoint", "Weights of popos need no import."),
)


def read_checkpoint(path: Path) -> Any:
    """What torch.save wrote, tensors on the CPU, zip or legacy format.

    Objects of mmcv's, mmengine's and other harmless classes are placeholders or plain dicts without
    use. Raises PoposError where the file is no checkpoint, is damaged, or names anything else.
    """
    strangers = [name for name in sorted(names_in(path)) if not _is_native(name)]
    placeholders: list[Any] = [(_placeholder(name), ".".join(name)) for name in strangers]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(placeholders):
            warnings.simplefilter("ignore")  # about protocols and storages of old
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torn or hostile bytes raise nearly every kind
        text = str(error)
        if named := re.search(r"GLOBAL (\w+\.[\w.]+)", text):
            raise _refusal(path, {named[1]}) from None
        if "Unsupported operand" in text:
            raise PoposError(
                f"{path}: written with a pickle protocol that torch.load(weights_only=True) does not read",
                "Save it again with torch.save and its own pickle_protocol.",
            ) from None
        reason = text.rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
        raise PoposError(
            f"{path}: not a readable checkpoint, damaged or cut off: {reason or type(error).__name__}",
            "Copy or download it again.",
        ) from None


def names_in(path: Path) -> set[Name]:
    """What the checkpoint's pickles name, each of them harmless.

    Nothing is loaded. Raises PoposError where the file is no checkpoint, is damaged, or names
    anything that could run code.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
            file.seek(0)
            if not start:
                raise PoposError(f"{path}: the file is empty", "Copy or download it again.")
            for pattern, what, hint in BEGINNINGS:
                if re.match(pattern, start, re.DOTALL):
                    raise PoposError(f"{path}: {what}", hint)
            return _zip_names(path, file) if start.startswith(ZIP) else _legacy_names(path, file)
    except OSError as error:
        raise PoposError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def _zip_names(path: Path, file: IO[bytes]) -> set[Name]:
    try:
        with zipfile.ZipFile(file) as archive:
            files = archive.namelist()
            main = [name for name in files if name.endswith("/data.pkl") and name.count("/") == 1]
            if not main:
                inside = [name for name in files if name.endswith((".pth", ".pt"))]
                raise PoposError(
                    f"{path}: a zip archive without data.pkl, not a checkpoint",
                    f"Unpack it, and import one of its files: {inside[0]}" if inside else None,
                )
            names = set().union(*(_scan(path, io.BytesIO(archive.read(name)))[0] for name in main))
            if damaged := archive.testzip():  # torch does not look at the check sums
                raise PoposError(f"{path}: damaged: {damaged} in it", "Copy or download it again.")
            return names
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        UnicodeError,
    ) as error:
        reason = "its end is missing" if "not a zip" in str(error) else error
        raise PoposError(
            f"{path}: not a readable checkpoint, damaged or cut off: {reason}", "Copy or download it again."
        ) from None


def _legacy_names(path: Path, file: IO[bytes]) -> set[Name]:
    names, magic = _scan(path, file)
    if magic != LEGACY_MAGIC:
        raise PoposError(
            f"{path}: a pickle, but not a checkpoint that torch.save wrote",
            "Save the network's state_dict with torch.save.",
        )
    for _ in range(LEGACY_PICKLES - 1):
        names |= _scan(path, file)[0]
    return names


def _scan(path: Path, file: IO[bytes]) -> tuple[set[Name], object]:
    """The names in the pickle that begins here, and the last number in it. Raises PoposError."""
    names: set[Name] = set()
    number: object = None
    broken = None
    strings: list[object] = []  # pushed so far, for STACK_GLOBAL, which takes the last two
    memo: dict[int, object] = {}
    begin = file.tell()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name in ("GLOBAL", "INST"):
                names.add(_modern(*str(argument).split(" ", 1)))
            elif opcode.name == "STACK_GLOBAL":
                module, name = (["?", "?"] + strings)[-2:]
                names.add((str(module), str(name)))
            elif opcode.name == "MEMOIZE":
                memo[len(memo)] = strings[-1] if strings else "?"
            elif opcode.name.endswith("PUT"):
                memo[int(str(argument))] = strings[-1] if strings else "?"
            elif opcode.name.endswith("GET"):
                strings.append(memo.get(int(str(argument)), "?"))
            elif isinstance(argument, str):
                strings.append(argument)
            elif isinstance(argument, int):
                number = argument
    except ValueError as error:
        broken = str(error)
    bad = {".".join(name) for name in names if not _is_harmless(name)}
    if bad:
        raise _refusal(path, bad)
    if broken is not None:
        what = f"damaged or cut off: {broken}" if begin else "not a PyTorch checkpoint"
        raise PoposError(f"{path}: {what}", "Name a .pth file that torch.save wrote, whole.")
    return names, number


def _modern(module: str, name: str = "") -> Name:
    """Python 3's name for one of Python 2, which pickles of torch's protocol use, as torch reads it."""
    return NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))


def _is_native(name: Name) -> bool:
    return name in NATIVE or name[0].partition(".")[0] == "torch"


def _is_harmless(name: Name) -> bool:
    module, attribute = name
    return (
        _is_native(name)
        or name == GETATTR
        or (module.partition(".")[0] in ROOTS and re.fullmatch(r"[\w.]+", attribute) is not None)
        or module == "numpy.dtypes"
        or attribute in PLAIN.get(module, "").split()
    )


def _refusal(path: Path, names: set[str]) -> PoposError:
    return PoposError(
        f"{path}: refused: its pickle names {', '.join(sorted(names))}, which could run code and which no "
        "weights need; nothing was loaded",
        "Do not open the file with other programs either, unless you know who made it. A checkpoint of your "
        "own: save the state_dict alone.",
    )


class _Placeholder:
    """Stands for an object of a class that is not loaded: accepts what a pickle gives it, keeps nothing."""

    def __new__(cls, *arguments: object, **keywords: object) -> Any:
        return super().__new__(cls)

    def __init__(self, *arguments: object, **keywords: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _DictPlaceholder(_Placeholder):
    """torch fills no dict but a plain one, so there an OrderedDict stands."""

    def __new__(cls, *arguments: object, **keywords: object) -> Any:
        return OrderedDict()


def _attribute(owner: object, name: object) -> object:
    """In the place of getattr: an attribute of a placeholder is a placeholder, others are refused."""
    if isinstance(owner, type) and issubclass(owner, _Placeholder):
        return _Placeholder()
    raise pickle.UnpicklingError("GLOBAL builtins.getattr")


def _placeholder(name: Name) -> Any:
    """What stands for `name` when torch loads the pickle."""
    if name == GETATTR:
        return _attribute
    base = _DictPlaceholder if name[1].lower().endswith("dict") else _Placeholder
    return type(name[1], (base,), {"__module__": name[0], "__qualname__": name[1]})
