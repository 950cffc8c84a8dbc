"""popos download-weights: the catalog, and fetching what is not bundled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PoposError, UsageError, debugging
from . import console
from .options import JSON, one_of

if TYPE_CHECKING:
    from ..weights.catalog import Entry

EXAMPLES = (
    "Examples:  popos download-weights   |   popos download-weights mmpose-wflw hrnet-w18-imagenet   |   "
    "popos download-weights hf://owner/repo/model.safetensors   |   popos download-weights --all --dry-run"
)


def download_weights(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Catalog names, hf://owner/repo/file or https addresses.", show_default="list them"
        ),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Everything in the catalog.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be fetched.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no network: use what is here.")] = False,
    catalog: Annotated[
        Path | None, typer.Option(help="A catalog of your own; POPOS_HOME/catalog.toml is always read.")
    ] = None,
    json: JSON = False,
) -> None:
    """List known weights, or fetch some: from the Hub into its client's cache (HF_HOME, HF_TOKEN and
    HF_HUB_OFFLINE are respected), other files into POPOS_HOME.

    Every file is compared with its SHA-256 before it is used. Checkpoints of mmpose are converted. Bundled
    weights are here already.
    """
    from ..weights.catalog import load_catalog

    if names and all_:
        raise UsageError("names and --all exclude each other")
    known = load_catalog(catalog)
    if not names and not all_:
        _list(known, json)
        return
    wanted = list(known.values()) if all_ else [_entry(name, known) for name in names or []]
    if all_:
        for entry in (e for e in wanted if e.manual):
            console.note(f"{entry.name} is left out: {entry.manual}")
        wanted = [entry for entry in wanted if not entry.manual]
    done = [_plan(e) for e in wanted] if dry_run else [_fetch(e, offline, len(wanted) == 1) for e in wanted]
    if json:
        console.print_json({"weights": done})
    elif rows := [[d["name"], d["action"], d["path"]] for d in done if "error" not in d]:
        console.print_table("weights", ["name", "action", "path"], rows)
    if any("error" in d for d in done):
        raise typer.Exit(1)


def _entry(name: str, known: dict[str, Entry]) -> Entry:
    """Raises UsageError for what is neither a name of the catalog nor an address."""
    from ..weights.catalog import entry_of

    return entry_of(name, known) or known[one_of(name, tuple(known), "weights")]


def _plan(entry: Entry) -> dict[str, Any]:
    from ..weights.find import file_here

    action = "here already" if file_here(entry) else "by hand" if entry.manual else "download"
    return {"name": entry.name, "action": action, "path": entry.shown_source}


def _fetch(entry: Entry, offline: bool, alone: bool) -> dict[str, Any]:
    """Fetch one; where it is one of several, a failure is reported and the others are still fetched."""
    from ..weights.find import obtain

    try:
        return {"name": entry.name, "action": "here", "path": str(obtain(entry, offline))}
    except PoposError as error:
        if alone or debugging():
            raise
        console.fail(error, as_json=False)
        return {"name": entry.name, "action": "failed", "path": entry.shown_source, "error": error.message}


def _list(known: dict[str, Entry], json: bool) -> None:
    from ..weights.find import file_here, weights_here

    broken = {name: found for name, found in weights_here() if isinstance(found, PoposError)}
    entries = []
    for entry in known.values():
        if entry.name in broken:
            console.note(f"note: {broken[entry.name].message}")
        file = file_here(entry)
        entries.append({
            **entry.model_dump(include={"name", "kind", "what", "scheme", "resolution", "licence"}),
            "size": entry.size or (file.stat().st_size if file else None), "source": entry.shown_source,
            "here": file is not None and entry.name not in broken,
        })  # fmt: skip
    if json:
        console.print_json({"weights": entries})
        return
    rows = [
        [e["name"], "yes" if e["here"] else "no", e["what"],
         f"{e['size'] / 1e6:.1f} MB" if e["size"] else "", e["licence"]]
        for e in entries
    ]  # fmt: skip
    console.print_table("weights", ["name", "here", "what", "size", "licence"], rows)
