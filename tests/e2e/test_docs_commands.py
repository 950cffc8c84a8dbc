"""The commands of README and docs, as far as the parser goes, and the links of README.

Every command in a ```bash block that runs popos is parsed by the real app, with its callbacks taken out:
unknown commands, flags and choices, missing arguments, and values of a wrong type or range are found, and
no work is done. So are unknown settings behind --set. `mkdocs build --strict` checks the links of docs/.
"""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from popos_cli.cli.app import build
from popos_cli.train.load import KEYS

from .conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
LAUNCHERS = {"srun", "torchrun"}


def popos_commands(page: Path) -> list[list[str]]:
    """The words behind `popos` of each command in the page's bash blocks."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines for words in map(_behind_popos, _split(line)) if words is not None]


def _split(line: str) -> list[list[str]]:
    """The words of each command of a line of bash, without variables set before it and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    redirected = False
    for word in lexer:
        if set(word) <= set("|&;()"):
            commands.append([])
            redirected = False
        elif set(word) <= set("<>"):
            redirected = True
        elif not redirected and (commands[-1] or not re.match(r"[A-Z_]+=", word)):
            commands[-1].append(word)
    return commands


def _behind_popos(words: list[str]) -> list[str] | None:
    if words and words[0] in LAUNCHERS:
        words = words[next((n for n, w in enumerate(words) if w in ("popos", "popos_cli")), len(words)) :]
    return words[1:] if words and words[0] in ("popos", "popos_cli") else None


@pytest.fixture(scope="module")
def parser() -> Any:
    """The real app, which parses and then does nothing."""

    def disarm(command: Any) -> Any:
        command.callback = None
        for parameter in command.params:
            parameter.callback = None
        for below in getattr(command, "commands", {}).values():
            disarm(below)
        return command

    return disarm(typer.main.get_command(build()))


def parse(parser: Any, words: list[str]) -> None:
    """Raises typer.TyperException for what the parser does not take, KeyError for an unknown setting."""
    parser(words, prog_name="popos", standalone_mode=False)
    for flag, value in pairwise(words):
        if flag == "--set":
            KEYS[value.partition("=")[0]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_parse(parser, page):
    for words in popos_commands(page):
        try:
            parse(parser, words)
        except (typer.TyperException, KeyError) as error:
            pytest.fail(f"popos {shlex.join(words)}: {getattr(error, 'message', error)}")


def test_examples_of_the_help_parse(parser):
    """They stand in docs/reference/cli.md, too, which is made at each build."""
    for command in parser.commands.values():
        for example in command.epilog.removeprefix("Examples:").split("   |   "):
            for words in filter(None, map(_behind_popos, _split(example))):
                parse(parser, words)


def test_how_commands_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "popos not-in-a-block\n```bash\npip install . && popos predict a.jpg  # a comment\n"
        "POPOS_HOME=/x popos train \\\n    --set a=1\npopos predict 'a b/*.png' --json > out.json | jq .\n"
        "torchrun --nproc 2 -m popos_cli eval\n```\n```python\npopos = 1\n```\n"
    )
    assert popos_commands(page) == [
        ["predict", "a.jpg"], ["train", "--set", "a=1"], ["predict", "a b/*.png", "--json"], ["eval"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    ["predikt a.jpg", "predict", "predict a.jpg --bx", "train --dataset d --gpus two", "eval --resolution 5",
     "bench data --set augment.flop=1"],
)  # fmt: skip
def test_what_does_not_parse(parser, line):
    with pytest.raises((typer.TyperException, KeyError)):
        parse(parser, line.split())


def test_links_of_the_readme():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = REPOSITORY / (file or "README.md")
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)", target.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings]
            assert anchor in slugs, link


def test_common_errors_are_those_that_popos_prints():
    """Each line on the page of errors stands, up to `...`, in the table that test_bad_inputs.py holds."""
    page = (REPOSITORY / "docs/reference/errors.md").read_text(encoding="utf-8")
    printed = (Path(__file__).parent / "bad_inputs.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| `(.+?)` \|", page.partition("## Common errors")[2], re.MULTILINE)
    assert len(lines) >= 12
    for line in lines:
        parts = ".*?".join(map(re.escape, line.split("...")))
        assert re.search(parts, printed), line
