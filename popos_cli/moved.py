"""What version 0.1 had elsewhere: importing it from there says where it is now."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

MOVED = {
    "popos_cli.engine": "`from popos_cli import Face, Predictor`, or popos_cli.train, .evaluate and .bench",
    "popos_cli.settings": "popos_cli.train.settings and popos_cli.train.load",
    "popos_cli.report": "popos_cli.evaluate, popos_cli.inspect and popos_cli.predict.overlay",
    "popos_cli.detect": "popos_cli.predict.detect",
    "popos_cli.sources": "popos_cli.predict.sources",
    "popos_cli.data.home": "popos_cli.home",
    "popos_cli.data.benchmarks": "popos_cli.prepare",
    "popos_cli.core.text": "popos_cli.text",
}


class MovedFinder:
    """Stands last among Python's finders, so that it is asked only for a module that is nowhere."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Raises ImportError for what has moved."""
        if name in MOVED:
            raise ImportError(f"{name} has moved in popos 0.2: use {MOVED[name]}", name=name)


def announce() -> None:
    """From now on `import popos_cli.engine` and the like say where it is."""
    if MovedFinder not in sys.meta_path:
        sys.meta_path.append(MovedFinder)
