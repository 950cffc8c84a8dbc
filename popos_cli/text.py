"""Names of files, datasets and weights, which may contain anything, made fit to show."""

import re
from pathlib import Path

# C0 and C1 controls, line separators, what changes the direction of text, bytes that are no UTF-8.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

# An absolute path, of this system or Windows: not the rest of a relative one, nor of an address.
_ABSOLUTE = re.compile(r"""(?<![\w/\\.~-])(?:[A-Za-z]:[\\/]|/)(?!/)[^\s'"<>|:;,()]+""")


def printable(text: str) -> str:
    """`text` on one line, its control characters as Python writes them: "\\x1b", "\\n", "\\u202e"."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def shortened(text: str, most: int) -> str:
    """At most `most` characters: start and end, which distinguish names, with dots between them."""
    if len(text) <= most:
        return text
    start = (most - 3) // 2
    return f"{text[:start]}...{text[start + 3 - most :]}"


def without_folders(text: str) -> str:
    """`text` whose absolute paths are paths from the current folder, or names: fit to be passed on."""

    def short(found: re.Match[str]) -> str:
        path = Path(found[0])
        if path.is_relative_to(Path.cwd()):
            return str(path.relative_to(Path.cwd()))
        return re.split(r"[\\/]", found[0].rstrip("\\/"))[-1]

    return _ABSOLUTE.sub(short, text)
