"""What any exception is called on the terminal."""

from __future__ import annotations

from .errors import PoposError


def explained(error: Exception) -> PoposError:
    """The failure that a user is told about: a PoposError as it is, anything else as a bug of ours."""
    text, hint = _own_words(str(error).strip())
    if isinstance(error, PoposError):
        return error if text == error.message.strip() else PoposError(text, error.hint or hint)
    return explain_import_error(error) or PoposError(
        f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__,
        "This looks like a bug; run again with POPOS_DEBUG=1 for the full report.",
    )


def explain_import_error(error: Exception) -> PoposError | None:
    """What to install when a dependency does not import; None where the cause is another."""
    if not isinstance(error, ImportError | RuntimeError | OSError):
        return None
    text, _ = _own_words(str(error))
    if "libGL" in text or "libgthread" in text or "libglib" in text:
        return PoposError(
            f"OpenCV does not import: {text.splitlines()[0]}",
            "Install the system libraries: apt-get install libgl1 libglib2.0-0",
        )
    if "torchvision::" in text or ("torchvision" in text and "torch" in text):
        return PoposError(
            "torch and torchvision do not match: " + text.splitlines()[0],
            "Reinstall both from one index: pip install --force-reinstall torch torchvision",
        )
    if isinstance(error, ImportError):
        return PoposError(
            f"a package does not import: {text.splitlines()[0]}",
            "Repair the installation: pip install --force-reinstall popos-cli",
        )
    return None


def _own_words(text: str) -> tuple[str, str | None]:
    """What an exception said, and its hint. From a loader's process torch brings the text of a traceback,
    with the class and these words in its last line, or in the one before the hint's."""
    if text.startswith("Caught ") and "Original Traceback" in text:
        before, _, hint = text.partition("\nhint: ")
        return before.splitlines()[-1].partition(": ")[2], hint or None
    return text, None
