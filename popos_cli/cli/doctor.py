"""popos doctor: what is installed, what is here, and what is wrong with it."""

from __future__ import annotations

import importlib
import platform
import sys
from typing import Any

import typer

from .. import __version__
from ..errors import PoposError, import_failure
from . import console
from .options import JSON

EXAMPLES = "Examples:  popos doctor   |   popos doctor --json"
PACKAGES = (
    "torch", "torchvision", "cv2", "numpy", "pydantic", "typer", "rich", "safetensors",
    "huggingface_hub", "matplotlib",
)  # fmt: skip
# What is told of each; the last, a path, makes room for what is wrong.
_COLUMNS = {
    "datasets": ("scheme", "faces", "pictures", "root"),
    "weights": ("scheme", "resolution", "path"),
}
BROKEN = "does not import"


def doctor(json: JSON = False) -> None:
    """Check versions, devices, prepared datasets, weights and caches; exit 1 if something is broken."""
    from ..home import home

    versions, problems = _packages()
    report: dict[str, Any] = {
        "popos": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": versions,
        "devices": [],
        "caches": {"popos_home": str(home())},
        "problems": problems,
    }
    works = {name for name, version in versions.items() if version != BROKEN}
    if "huggingface_hub" in works:
        report["caches"]["hub"] = importlib.import_module("huggingface_hub.constants").HF_HOME
    if "torch" in works:
        report["devices"] = _devices()
    if works >= {"torch", "cv2"}:
        report |= {"datasets": _datasets(), "weights": _weights()}
    if json:
        console.print_json(report)
    else:
        _print(report)
    if problems:
        raise typer.Exit(1)


def _packages() -> tuple[dict[str, str], list[dict[str, str]]]:
    """Versions of what can be imported, and what to do about what cannot."""
    versions, problems = {}, []
    for name in PACKAGES:
        try:
            module = importlib.import_module(name)
            versions[name] = str(getattr(module, "__version__", getattr(module, "VERSION", "unknown")))
        except Exception as error:  # a broken pair raises RuntimeError, a missing library ImportError
            failure = import_failure(error) or PoposError(f"{type(error).__name__}: {error}", "Reinstall it.")
            versions[name] = BROKEN
            problems.append({"package": name, "message": failure.message, "hint": failure.hint or ""})
    return versions, problems


def _devices() -> list[str]:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [f"cpu ({torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()})", *gpus]


def _datasets() -> list[dict[str, Any]]:
    from ..data.index import prepared_names, read_index

    datasets: list[dict[str, Any]] = []
    for name in prepared_names():
        facts: dict[str, Any]
        try:
            index = read_index(name)
            there = (index.root / str(index.image[0])).exists()
            facts = {"scheme": index.scheme.name, "faces": len(index), "root": str(index.root)}
            facts["pictures"] = "there" if there else "missing"
        except PoposError as error:
            facts = {"error": error.message}
        datasets.append({"name": name, **facts})
    return datasets


def _weights() -> list[dict[str, Any]]:
    from ..weights.find import weights_here

    weights: list[dict[str, Any]] = []
    for name, found in weights_here():
        facts: dict[str, Any]
        if isinstance(found, PoposError):
            facts = {"error": found.message}
        else:
            path, info = found
            facts = {"path": str(path), "scheme": info.scheme, "resolution": info.resolution}
        weights.append({"name": name, **facts})
    return weights


def _print(report: dict[str, Any]) -> None:
    rows = [[name, report[name]] for name in ("popos", "python", "platform")]
    rows += [[name, version] for name, version in report["packages"].items()]
    rows += [["device", device] for device in report["devices"]]
    rows += [[f"cache: {name}", path] for name, path in report["caches"].items()]
    console.print_table("installation", ["what", "is"], rows)
    for title, keys in _COLUMNS.items():
        lines = [
            [
                entry["name"],
                *(str(entry.get(key, "")) for key in keys[:-1]),
                entry.get("error") or entry[keys[-1]],
            ]
            for entry in report.get(title, [])
        ]
        console.print_table(title, ["name", *keys], lines or [["none", *[""] * len(keys)]])
    for problem in report["problems"]:
        console.stdout.print(f"problem: {problem['message']}")
        console.stdout.print(f"  {problem['hint']}")
    if not report["problems"]:
        console.stdout.print("no problems found")
