"""Run folders: numbered, never overwritten."""

from __future__ import annotations

from pathlib import Path

from ..errors import PoposError


def refuse_taken(out: Path | None) -> None:
    """Raises PoposError where `new_run_folder` would: before hours of work, not after."""
    if out is None:
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PoposError(f"{out} exists already", "Choose another folder with --out.")
    if not next(p for p in [out, *out.absolute().parents] if p.exists()).is_dir():
        raise PoposError(f"cannot create {out}: Not a directory", "Choose another place with --out.")


def new_run_folder(out: Path | None, stem: str) -> Path:
    """Create `out`, or ./runs/<stem>-<n> with the first free n. Raises PoposError if it is taken."""
    candidates = iter([out]) if out else (Path("runs") / f"{stem}-{n}" for n in range(1, 100_000))
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
    raise PoposError(f"{path} exists already", "Choose another folder with --out.")
