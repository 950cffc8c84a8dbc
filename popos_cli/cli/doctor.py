"""popos doctor: what is installed, what is here, and what is wrong with it."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from typing import Any

import typer

from .. import __version__
from . import console
from .options import JSON

EXAMPLES = "Examples:  popos doctor   |   popos doctor --json"
PACKAGES = (
    "torch", "torchvision", "cv2", "numpy", "pydantic", "typer", "rich", "safetensors",
    "huggingface_hub", "matplotlib",
)  # fmt: skip


def doctor(json: JSON = False) -> None:
    """Check versions, devices, prepared datasets, weights and caches; exit 1 if something is broken."""
    packages, problems = _packages()
    broken = {p["package"] for p in problems}
    report: dict[str, Any] = {
        "popos": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": packages,
        "devices": [] if "torch" in broken else _devices(),
        **({} if broken & {"torch", "cv2"} else _datasets_and_weights()),
        "caches": _caches(),
        "problems": problems,
    }
    if json:
        console.print_json(report)
    else:
        _print(report)
    if problems:
        raise typer.Exit(1)


def _packages() -> tuple[dict[str, str], list[dict[str, str]]]:
    """Versions of what imports, and what to do about what does not."""
    from ..failures import explain_import_error

    versions, problems = {}, []
    for name in PACKAGES:
        try:
            module = importlib.import_module(name)
            versions[name] = str(getattr(module, "__version__", getattr(module, "VERSION", "unknown")))
        except Exception as error:  # a broken pair raises RuntimeError, a missing library ImportError
            told = explain_import_error(error)
            versions[name] = "does not import"
            problems.append({
                "package": name,
                "message": told.message if told else f"{type(error).__name__}: {error}",
                "hint": (told.hint if told else None) or "Reinstall it.",
            })  # fmt: skip
    return versions, problems


def _devices() -> list[str]:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [f"cpu ({torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()})", *gpus]


def _datasets_and_weights() -> dict[str, Any]:
    from ..data.index import prepared_names, read_index
    from ..errors import PoposError
    from ..weights.find import weights_here

    datasets: list[dict[str, Any]] = []
    for name in prepared_names():
        try:
            index = read_index(name)
            here = bool((index.root / str(index.image[0])).exists())
            datasets.append({
                "name": name, "scheme": index.scheme.name, "faces": len(index),
                "root": str(index.root), "pictures": "there" if here else "missing",
            })  # fmt: skip
        except PoposError as error:
            datasets.append({"name": name, "error": error.message})
    weights: list[dict[str, Any]] = []
    for name, found in weights_here():
        if isinstance(found, PoposError):
            weights.append({"name": name, "error": found.message})
        else:
            path, info = found
            weights.append(
                {"name": name, "path": str(path), "scheme": info.scheme, "resolution": info.resolution}
            )
    return {"datasets": datasets, "weights": weights}


def _caches() -> dict[str, str]:
    from ..home import home

    hub = os.environ.get("HF_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "huggingface")
    return {"popos_home": str(home()), "hub": hub}


def _print(report: dict[str, Any]) -> None:
    rows = [["popos", report["popos"]], ["python", report["python"]], ["platform", report["platform"]]]
    rows += [[name, version] for name, version in report["packages"].items()]
    rows += [["device", device] for device in report["devices"]]
    rows += [[f"cache: {name}", path] for name, path in report["caches"].items()]
    console.print_table("installation", ["what", "is"], rows)
    for title in ("datasets", "weights"):
        entries = report.get(title, [])
        lines = [[e["name"], ", ".join(f"{k} {v}" for k, v in e.items() if k != "name")] for e in entries]
        console.print_table(title, ["name", "details"], lines or [["none", ""]])
    for problem in report["problems"]:
        console.stdout.print(f"problem: {problem['message']}")
        console.stdout.print(f"  {problem['hint']}")
    if not report["problems"]:
        console.stdout.print("no problems found")
