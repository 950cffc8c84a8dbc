"""Run folders: numbered, never overwritten."""

from __future__ import annotations

from pathlib import Path

from ..errors import PoposError


def new_run_folder(out: Path | None, stem: str) -> Path:
    """Create `out`, or ./runs/<stem>-<n> with the first free n. Raises PoposError if it is taken."""
    candidates = [out] if out else [Path("runs") / f"{stem}-{n}" for n in range(1, 100_000)]
    for path in candidates:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            if out and path.is_dir() and not any(path.iterdir()):
                return path
        except OSError as error:
            raise PoposError(
                f"cannot create {path}: {error.strerror or error}", "Choose another place with --out."
            ) from None
    raise PoposError(f"{candidates[-1]} exists already", "Choose another folder with --out.")
