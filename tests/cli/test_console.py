"""What reaches the terminal."""

import io
import json

import pytest
from rich.console import Console

from popos_cli.cli import console
from popos_cli.errors import PoposError

NAME = "a\x1b[2J[red]b[/]\n\u202ec\x9b:smile:日本"
SHOWN = r"a\x1b[2J[red]b[/]\n\u202ec\x9b:smile:日本"
CONTROLS = {"\x1b", "\x9b", "\u202e"}


def test_names_on_both_streams_and_in_tables(capsys):
    console.stdout.print(f"out {NAME}")
    console.note(f"note {NAME}")
    console.fail(PoposError(f"bad {NAME!r}", f"try {NAME}"), as_json=False)
    console.print_table(f"title {NAME}", ["name", "n"], [[NAME, "1"], ["other", "2"]])
    out, err = capsys.readouterr()
    first, title, _, *rows = out.splitlines()
    assert (first, title) == (f"out {SHOWN}", f"title {SHOWN}")
    assert [row.split() for row in rows] == [[SHOWN, "1"], ["other", "2"]]
    note, _, hint = err.splitlines()
    assert (note, hint) == (f"note {SHOWN}", f"hint: try {SHOWN}")
    assert not CONTROLS & set(out + err)


def test_a_progress_bar_shows_a_name_as_it_is():
    terminal = io.StringIO()
    with console.progress_bar("evaluating [/]\x1b]0;x\x07") as (bar, _):
        Console(file=terminal, width=200).print(bar.get_renderable())
    assert r"evaluating [/]\x1b]0;x\x07" in terminal.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
@pytest.mark.parametrize("name", ["日本 é", NAME, "caf\udce9"], ids=ascii)
def test_json_keeps_every_name_in_any_encoding(monkeypatch, encoding, name):
    data = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(data, encoding=encoding))
    console.prepare_streams()
    console.print_json({"name": name})
    text = data.getvalue().decode(encoding)
    assert json.loads(text) == {"name": name}
    assert not CONTROLS & set(text)
    assert ("日本" in text) == (name == "日本 é" and encoding == "utf-8")


class Full(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        raise OSError(28, "No space left on device")


def test_notes_that_cannot_be_written_are_no_failure(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(Full(), write_through=True))
    console.note("epoch 1")
    console.note("epoch 2")
    console.prepare_streams()


@pytest.fixture
def table(capsys, monkeypatch):
    """table(columns, rows, width): the lines of a table on a terminal of that width, None: on none."""

    def lines(columns, rows, width=None):
        if width:
            monkeypatch.setenv("COLUMNS", str(width))
        else:
            monkeypatch.delenv("COLUMNS", raising=False)
        console.print_table("", columns, rows)
        return capsys.readouterr().out.splitlines()[1:]

    return lines


FOLDER = "/very/long/folder/of/somebody/with/many/parts/in/which/weights/lie/below/runs/300w-16-1"
ROWS = [[FOLDER, "gauss-newton", "12.345", "words that may break and so they do where they must", FOLDER]] * 2


@pytest.mark.parametrize("width", [None, 120, 80, 64])
def test_tables_fit_and_paths_lose_their_start(table, width):
    lines = table(["name", "decoder", "NME %", "what", "path"], ROWS, width)
    assert max(map(len, lines)) <= (width or 80)
    words = " ".join(lines).split()
    assert any(word.startswith("...") and FOLDER.endswith(word[3:]) for word in words)
    assert "12.345" in words and "words" in words
    whole = " ".join(["name decoder NME % what path", *ROWS[0]])
    assert all(word.removeprefix("...") in whole for word in words)


def test_what_has_room_is_whole(table):
    assert FOLDER in " ".join(table(["name", "path"], [["a", FOLDER]], 120))


def test_numbers_are_not_cut_where_nothing_fits(table):
    rows = [["a", *(f"{n}2345.678" for n in range(8))]]
    assert all(number in table(["", *"abcdefgh"], rows, 40)[-1] for number in rows[0])
