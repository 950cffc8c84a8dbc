"""docs/tutorial.md from top to bottom: its own commands, in one folder, with the outputs that it shows."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs/tutorial.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
# Of the CSV's row the page shows the beginning; the figures of an output depend on the machine.
NUMBER = re.compile(r"\d+(\.\d+)?")


def _lines(text: str) -> set[str]:
    return {" ".join(NUMBER.sub("#", line).split()) for line in text.splitlines()}


@pytest.mark.slow
def test_every_command_works_and_prints_what_the_page_shows(popos, tmp_path):
    """In order, in a folder that has only docs/assets, as the clone."""
    shutil.copytree(REPOSITORY / "docs/assets", tmp_path / "docs/assets")
    printed = ""
    for kind, block in BLOCKS:
        if kind == "bash":
            done = [popos(*shlex.split(line)[1:]).ok() for line in block.splitlines()]
            printed = "\n".join(part for result in done for part in (result.out, result.err))
        elif block.startswith("image,"):
            labels = (tmp_path / "faces/images/labels.csv").read_text(encoding="utf-8").splitlines()
            for shown, real in zip(block.splitlines(), labels, strict=False):
                assert real.startswith(shown.removesuffix("...")), shown
        else:
            assert _lines(block) <= _lines(printed), printed

    after = json.loads((tmp_path / "runs/eval-drawn-8-2/metrics.json").read_text())["results"]
    on_page = [float(nme) for nme in re.findall(r"^\| `.+` \| (\d\.\d+) \|$", PAGE, flags=re.MULTILINE)]
    assert [result["nme"] for result in after] == pytest.approx(on_page, rel=0.1)
    assert (tmp_path / "drawn.onnx").exists()
    for named in re.findall(r"`((?:runs|found)/[^` ]*)`", PAGE):  # every file that the page speaks of
        assert (tmp_path / named).exists(), named


def test_the_page_is_read():
    """That the pattern above finds its commands."""
    commands = [line for kind, block in BLOCKS if kind == "bash" for line in block.splitlines()]
    assert len(commands) == 10 and all(line.startswith("popos ") for line in commands)
