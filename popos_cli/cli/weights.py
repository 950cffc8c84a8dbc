"""popos download-weights: the catalog, and fetching what is not bundled."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import UsageError
from . import console
from .options import JSON, one_of

EXAMPLES = (
    "Examples:  popos download-weights   |   popos download-weights hrnet-w18-imagenet   |   "
    "popos download-weights --all --dry-run"
)


def download_weights(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Catalog names, or hf://owner/repo/file.", show_default="list them"),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Everything in the catalog.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be fetched.")] = False,
    json: JSON = False,
) -> None:
    """List known weights, or fetch some into the Hub client's cache (HF_HOME, HF_TOKEN and
    HF_HUB_OFFLINE are respected). Bundled ones are here already.
    """
    from ..weights.catalog import BUNDLED, CATALOG
    from ..weights.find import find_weights, in_cache

    if names and all_:
        raise UsageError("names and --all exclude each other")
    for name in names or []:
        if not name.startswith("hf://"):
            one_of(name, tuple(CATALOG), "weights")
    wanted = list(CATALOG) if all_ else list(names or [])
    if not wanted:
        entries = [
            {
                "name": e.name, "kind": e.kind, "what": e.what, "licence": e.licence,
                "source": f"bundled/{e.source}" if e.bundled else e.source,
                "here": (BUNDLED / e.source).exists() if e.bundled else in_cache(e.source) is not None,
            }
            for e in CATALOG.values()
        ]  # fmt: skip
        if json:
            console.print_json({"weights": entries})
            return
        rows = [
            [e["name"], "yes" if e["here"] else "no", e["what"], e["licence"], e["source"]] for e in entries
        ]
        console.print_table("weights", ["name", "here", "what", "licence", "source"], rows)  # type: ignore[arg-type]
        return
    done = []
    for name in wanted:
        source = CATALOG[name].source if name in CATALOG else name
        if dry_run:
            here = (name in CATALOG and CATALOG[name].bundled) or in_cache(source) is not None
            done.append({"name": name, "action": "here already" if here else "download", "path": source})
        else:
            done.append({"name": name, "action": "here", "path": str(find_weights(name))})
    if json:
        console.print_json({"weights": done})
    else:
        console.print_table("weights", ["name", "action", "path"], [list(d.values()) for d in done])
