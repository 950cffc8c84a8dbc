"""Names as they may be shown."""

import pytest

from popos_cli.text import printable, shortened, without_folders

# With the joiners of Persian words and of emoji.
LETTERS = "Jürgen 日本語 \u0645\u06cc\u200c\u062e 👩\u200d🔬 a\\b"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\nb\r\tc\x00", r"a\nb\r\tc\x00"),
        ("\x9b2J\x7f", r"\x9b2J\x7f"),  # a control sequence of one letter, and delete
        ("photo\u202egnp.exe", r"photo\u202egnp.exe"),
        ("\u2066a\u2069\u200f\u2028b", r"\u2066a\u2069\u200f\u2028b"),
        ("caf\udce9", r"caf\udce9"),  # Latin-1 bytes in a file's name
        (LETTERS, LETTERS),
    ],
    ids=ascii,
)
def test_control_characters_are_escaped_and_letters_stay(name, shown):
    assert printable(name) == shown


def test_a_long_name_keeps_both_ends():
    assert shortened("x" * 30, 30) == "x" * 30
    for most in (9, 10):
        short = shortened("abcdefgh" + "x" * 300 + "stuvwxyz", most)
        assert len(short) == most and short.startswith("abc...") and short.endswith("xyz")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/runs/a.png", "a.png"),
        (
            "popos evaluate --out=/tmp/x --weights '/mnt/my disk/w'",
            "popos evaluate --out=x --weights 'my disk/w'",
        ),
        ("no such file: '/a/b.jpg', (/c/d)", "no such file: 'b.jpg', (d)"),
        (r"C:\Users\me\w.safetensors and D:/x/y", "w.safetensors and y"),
        ("runs/a/b ../c ./d ~/e 3 / 4 and/or", "runs/a/b ../c ./d ~/e 3 / 4 and/or"),
        ("hf://owner/repo/file https://host/path", "hf://owner/repo/file https://host/path"),
    ],
)
def test_absolute_paths_become_names(text, shown):
    assert without_folders(text) == shown


def test_paths_below_the_current_folder_are_told_from_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert without_folders(f"{tmp_path}/runs/a and {tmp_path}") == "runs/a and ."
