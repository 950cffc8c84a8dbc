"""The site's reference, written at each build: commands from Typer, training settings from pydantic."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from popos_cli.cli.app import COMMANDS, build
from popos_cli.train.load import KEYS
from popos_cli.train.settings import TrainSettings

CLI = """# Command line

Every command has `--help`, and `--json` for one JSON document on stdout.
[Exit codes and errors](errors.md) says how it fails.
"""
SETTINGS = """# Training settings

A dataset's preset comes first, then `--config FILE.toml`, `POPOS_*` variables, `--set` and flags; the later
wins. `POPOS_SCHEDULE__EPOCHS=20` and `--set schedule.epochs=20` set the same key.

Presets change some of the defaults below. This prints what a run would use, as TOML that `--config` reads:

```bash
popos train --dataset 300w --dry-run
```

[Train and fine-tune](../how-to/train.md) says which of them matter.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, head, lines in (("cli", CLI, _commands()), ("settings", SETTINGS, _settings())):
        files.append(File.generated(config, f"reference/{name}.md", content=head + "\n".join(lines)))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Marks short code, such as --json, which browsers else break behind its hyphens."""
    return re.sub(r"<code>(?=[^<\n]{1,30}</code>)", '<code class="short">', html)


def _commands() -> Iterator[str]:
    app: Any = typer.main.get_command(build())  # typer has no public type for it
    root = typer.Context(app, info_name="popos")
    for name, command in app.commands.items():
        if command.hidden:  # an alias
            continue
        context = typer.Context(command, info_name=name, parent=root)
        yield from _command(command, context, COMMANDS[name][1])
        for below, part in getattr(command, "commands", {}).items():
            yield from _command(part, typer.Context(part, info_name=below, parent=context))


def _command(command: Any, context: typer.Context, aliases: tuple[str, ...] = ()) -> Iterator[str]:
    path = context.command_path
    yield f"\n{'#' * path.count(' ')}# {path}\n\n{command.help}\n"
    if aliases:
        yield f"Also called {', '.join(f'`popos {alias}`' for alias in aliases)}.\n"
    yield f"```text\n{path} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    if hasattr(command, "commands"):
        return
    examples = [line.strip() for line in command.epilog.removeprefix("Examples:").split("   |   ")]
    if path.startswith("popos bench "):  # its commands share their examples
        examples = [line for line in examples if line.startswith(path)]
    yield "```bash\n" + "\n".join(examples) + "\n```\n"
    for parameter in command.get_params(context):
        flags, text = parameter.get_help_record(context)
        if flags != "--help":
            yield f"* `{flags}`: {text.replace('<', '&lt;')}"


def _settings() -> Iterator[str]:
    for table, keys in groupby(KEYS, lambda key: key.rpartition(".")[0]):
        model: Any = TrainSettings.model_fields[table].annotation if table else TrainSettings
        fields = model.model_json_schema()["properties"]
        yield f"\n## {table or 'The run'}\n\n| key | default | values | what it is |\n|---|---|---|---|"
        for key in keys:
            field = fields[key.rpartition(".")[2]]
            default = "" if field.get("default") is None else f"`{json.dumps(field['default'])}`"
            yield f"| `{key}` | {default} | {_values(field)} | {field['description']} |"


def _values(field: dict[str, Any]) -> str:
    """The type of a field of a JSON schema and its range."""
    field = field["anyOf"][0] if "anyOf" in field else field  # the second is null: absent
    if "enum" in field:
        return ", ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    kind = "two numbers" if field["type"] == "array" else field["type"]
    signs = {"minimum": "from ", "exclusiveMinimum": "above ", "maximum": "to ", "exclusiveMaximum": "below "}
    return " ".join([kind, *(f"{sign}{field[key]:.10g}" for key, sign in signs.items() if key in field)])
