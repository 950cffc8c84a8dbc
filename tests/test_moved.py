"""What version 0.1 called otherwise, or wrote, is answered or still read."""

from __future__ import annotations

import importlib

import pytest

import popos_cli
from popos_cli.moved import MOVED


@pytest.mark.parametrize("module", [*MOVED, "popos_cli.engine.predict"])
def test_an_old_module_says_where_it_is_now(module):
    known = MOVED[module.removesuffix(".predict")]
    with pytest.raises(ImportError, match="has moved in popos") as caught:
        importlib.import_module(module)
    assert known in str(caught.value)


def test_from_the_package_too():
    with pytest.raises(ImportError, match="from popos_cli import Face, Predictor"):
        from popos_cli import engine  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match=r"popos_cli\.nothing"):
        importlib.import_module("popos_cli.nothing")


def test_what_to_use_is_there():
    for words in MOVED.values():
        for name in words.replace(",", " ").split():
            if name.startswith("popos_cli."):
                importlib.import_module(name)
    assert [getattr(popos_cli, name) for name in popos_cli.__all__]
