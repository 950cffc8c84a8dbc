"""popos: sub-pixel facial landmarks from small heatmaps."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .moved import announce

__version__ = "0.2.0"
__all__ = ["Codec", "Face", "Faces", "Predictor", "export", "load"]

if TYPE_CHECKING:
    from .core.codec import Codec
    from .predict.face import Face, Faces
    from .predict.predictor import Predictor
    from .weights.export import export
    from .weights.find import load

_HOMES = {
    "Codec": ".core.codec",
    "Face": ".predict.face",
    "Faces": ".predict.face",
    "Predictor": ".predict.predictor",
    "export": ".weights.export",
    "load": ".weights.find",
}

announce()


def __getattr__(name: str) -> Any:
    """Import on first use: `import popos_cli` itself must not cost the second that torch takes."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
