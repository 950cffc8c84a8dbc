"""Names of files, datasets and weights, which may contain anything, made fit to show."""

import re

# C0 and C1 controls, line separators, what changes the direction of text, bytes that are no UTF-8.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` on one line, its control characters as Python writes them: "\\x1b", "\\n", "\\u202e"."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def shortened(text: str, most: int) -> str:
    """At most `most` characters: start and end, which distinguish names, with dots between them."""
    if len(text) <= most:
        return text
    start = (most - 3) // 2
    return f"{text[:start]}...{text[start + 3 - most :]}"
