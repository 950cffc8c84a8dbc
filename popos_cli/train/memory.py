"""How much memory a process may still take: what the machine has, and what its container allows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import PoposError


def available_bytes(root: Path = Path("/")) -> int:
    """Memory that may be taken without swapping, within the limits of this process's control groups (Docker,
    Kubernetes, SLURM; versions 1 and 2). Caches count, since the system gives them up when asked.

    root: where /proc and /sys lie. Raises PoposError where the system does not say (Windows).
    """
    return min([_of_machine(root), *_left_in_groups(root)])


def _of_machine(root: Path) -> int:
    with suppress(OSError, KeyError):
        return 1024 * _table(root / "proc/meminfo")["MemAvailable:"]
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # macOS gives no other number
    except (AttributeError, ValueError, OSError):
        raise PoposError(
            "this system does not say how much memory is free", "Give a number: --batch-size 32."
        ) from None


def _left_in_groups(root: Path) -> Iterator[int]:
    """What each control group that this process is in leaves of its limit; none where there is no limit."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                top, files = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
                cache = "total_inactive_file"
            elif not controllers:
                top, files, cache = root / "sys/fs/cgroup", ("memory.max", "memory.current"), "inactive_file"
            else:
                continue
            # Limits hold from the top down. A container often sees its own group as the top, but its path
            # from the host's.
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                with suppress(OSError, ValueError, KeyError):  # ValueError: "max", no limit
                    limit, used = (int((folder / name).read_text()) for name in files)
                    yield max(limit - used + _table(folder / "memory.stat")[cache], 0)
                if folder == top:
                    break


def _table(path: Path) -> dict[str, int]:
    """Lines "name number ..."."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}
