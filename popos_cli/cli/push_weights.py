"""popos push-weights: our own weights -> a repository on the Hub, with a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import console
from .options import JSON

EXAMPLES = (
    "Examples:  popos push-weights runs/wflw-16-1 ada/landmarks --metrics runs/eval-wflw-16-1/metrics.json   "
    "|   popos push-weights mine.safetensors ada/landmarks --licence cc-by-nc-4.0 --dry-run"
)


def push_weights(
    weights: Annotated[str, typer.Argument(help="A run folder, a .safetensors file or a name.")],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/REPO", help="On the Hub; made where there is none.")
    ],
    file: Annotated[
        str | None, typer.Option(help="NAME.safetensors there.", show_default="its own, or the run's")
    ] = None,
    metrics: Annotated[
        list[Path] | None,
        typer.Option(help="A metrics.json of popos evaluate, whose figures go into the card; repeatable."),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(help="An identifier (apache-2.0, cc-by-nc-4.0) or a name.", show_default="not stated"),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Only you and your organisation see it.")
    ] = False,
    message: Annotated[
        str | None, typer.Option(help="Of the commit.", show_default="Add NAME.safetensors")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the model card and stop.")] = False,
    json: JSON = False,
) -> None:
    """Upload weights of popos and a model card (README.md), written from what is in the file: data,
    recipe, figures, codec, licence, and how to use them.

    The token is the one of hf auth login, or HF_TOKEN; it needs write access.
    """
    from ..weights.push import plan_upload, push

    upload = plan_upload(weights, repository, file, licence, metrics or [])
    if dry_run and not json:
        console.write(upload.card)
        return
    if not console.stderr.is_terminal:
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

        disable_progress_bars()
    commit = None if dry_run else push(upload, private, message)
    if json:
        console.print_json({
            "weights": upload.address, "repository": upload.repository, "file": upload.file,
            "source": str(upload.path), "size": upload.path.stat().st_size, "licence": upload.licence,
            "card": upload.card, "commit": commit,
        })  # fmt: skip
        return
    console.stdout.print(f"uploaded: {upload.address}")
    console.stdout.print(f"commit: {commit}")
    console.note(f"next: popos predict photo.jpg --weights {upload.address}")
