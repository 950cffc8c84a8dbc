"""What a training shows: a live line on stderr, and a line of each epoch that stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from . import console

if TYPE_CHECKING:
    from ..train.runlog import Meter

WAITING = 0.1  # share of waiting for data from which an epoch's line names it


class TrainingBar:
    """Shows the trainer's progress (train.runlog.TrainingProgress)."""

    def __init__(self, bar: Progress, task: Any) -> None:
        self.bar, self.task = bar, task

    def start(self, steps: int, done: int) -> None:
        self.bar.update(self.task, total=steps, completed=done)

    def step(self, epoch: int, loss: float, meter: Meter) -> None:
        state = (
            f"loss {loss:.5f}  {meter.faces_per_second:.1f} faces/s  data wait {100 * meter.wait:.0f} %  "
            f"{meter.memory():.1f} GiB"
        )
        self.bar.update(self.task, advance=1, description=f"epoch {epoch}", state=state)

    def epoch(self, row: dict[str, float]) -> None:
        waiting = f", data wait {100 * row['data_wait']:.0f} %" if row["data_wait"] > WAITING else ""
        console.note(
            f"epoch {row['epoch']:.0f}: loss {row['loss']:.5f}, validation NME {row['val_nme']:.3f} % "
            f"(best {row['best_nme']:.3f} %), {row['faces_per_second']:.1f} faces/s{waiting}"
        )

    def note(self, message: str) -> None:
        console.note(message)


class _State(ProgressColumn):
    """The one column that is cut where the terminal is narrow."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["state"], no_wrap=True, overflow="ellipsis")


@contextmanager
def training_bar() -> Iterator[TrainingBar]:
    """A bar that is drawn where stderr is a terminal, and goes at the end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=10, table_column=Column(no_wrap=True)),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TextColumn("ETA"),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        _State(),
    )
    # Steps may take seconds, and validation counts too: an ETA from the last half minute would jump.
    bar = Progress(*columns, console=console.stderr, transient=True, speed_estimate_period=600)
    with console.shown(bar):
        yield TrainingBar(bar, bar.add_task("training", total=None, state=""))
