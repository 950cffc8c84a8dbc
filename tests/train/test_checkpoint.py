"""What survives a kill, a torn file, a full disk, and a second process."""

from __future__ import annotations

import os
import random
import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from popos_cli.errors import PoposError
from popos_cli.home import clear_leftovers
from popos_cli.train.checkpoint import (
    FORMAT,
    PREVIOUS,
    REFUSED,
    STATE,
    has_state,
    load_state,
    only_writer,
    save_state,
)

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def state(step: int) -> dict[str, Any]:
    return {"step": step, "model": {"weight": torch.full((50, 7), float(step))}, "losses": [[step, 0.5]]}


class Taker:
    """Accepts any state, or refuses what `refusal` raises for; notes the steps that it took."""

    def __init__(self, refusal: Callable[[int], Exception | None] = lambda step: None) -> None:
        self.refusal = refusal
        self.steps: list[int] = []

    def __call__(self, found: dict[str, Any]) -> None:
        if error := self.refusal(found["step"]):
            raise error
        assert torch.equal(found["model"]["weight"], state(found["step"])["model"]["weight"])
        assert found["losses"] == state(found["step"])["losses"]
        self.steps.append(found["step"])


@pytest.fixture
def taker() -> Taker:
    return Taker()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with the states of steps 1 and 2."""
    for step in (1, 2):
        save_state(tmp_path / "run", state(step))
    return tmp_path / "run"


def names(run: Path) -> set[str]:
    return {path.name for path in run.iterdir()}


def child(work: Callable[[], object]) -> int:
    """Fork; the child does `work` and ends. Returns its process id."""
    if pid := os.fork():
        return pid
    try:
        work()
    finally:
        os._exit(0)


def test_the_one_before_is_kept(run: Path, taker: Taker) -> None:
    save_state(run, state(3))
    assert names(run) == {STATE, PREVIOUS}
    assert load_state(run, taker) == []
    (run / STATE).unlink()  # as between the two renames
    assert has_state(run)
    assert load_state(run, taker) == []
    assert taker.steps == [3, 2]


def test_nothing_there(tmp_path: Path, taker: Taker) -> None:
    assert not has_state(tmp_path)
    assert load_state(tmp_path, taker) is None


@needs_fork
@pytest.mark.parametrize("moment", ["torch.save", "os.fsync", "os.replace 1", "os.replace 2", "done"])
def test_killed_at_the_worst_moments(run: Path, taker: Taker, moment: str) -> None:
    name, _, number = moment.partition(" ")
    calls = 0

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == int(number or 1):
                if name == "torch.save":
                    arguments[1].write(b"PK\x03\x04 half of it")
                    arguments[1].flush()
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return wrapped

    def work() -> None:
        if name != "done":
            owner = torch if name == "torch.save" else os
            setattr(owner, name.partition(".")[2], deadly(getattr(owner, name.partition(".")[2])))
        save_state(run, state(3))

    _, status = os.waitpid(child(work), 0)
    assert os.WIFSIGNALED(status) == (name != "done")
    assert load_state(run, taker) == []
    assert taker.steps == [3 if moment == "done" else 2]
    clear_leftovers(run, held=True)
    assert names(run) <= {STATE, PREVIOUS}


def cut(share: float) -> Callable[[Path], object]:
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip_a_weight(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.rindex(torch.full((7,), 2.0).numpy().tobytes()) + 2] ^= 1
    path.write_bytes(content)


def other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


class Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("harm",)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (cut(0.0), "torn"),
        (cut(0.3), "torn"),
        (cut(0.999), "torn"),
        (zeros, "torn"),
        (flip_a_weight, "torn"),
        (lambda path: path.write_text("<html>"), "torn"),
        (other_zip, "torn"),
        (lambda path: torch.save({"format": FORMAT, "step": Harmful()}, path), "torn"),
        (lambda path: torch.save([1, 2], path), "not written by this version of popos"),
        (lambda path: torch.save({"step": 2, "optimiser": {}}, path), "not written by this version"),
    ],
)
def test_a_bad_one_is_named_and_the_one_before_used(
    run: Path, taker: Taker, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], object], reason: str
) -> None:
    monkeypatch.chdir(run.parent)
    spoil(run / STATE)
    spoilt = (run / STATE).read_bytes()
    (remark,) = load_state(run, taker) or []
    assert remark.startswith(f"{run / STATE} is {reason}")
    assert taker.steps == [1]
    assert (run / REFUSED).read_bytes() == spoilt
    # It must not become "the one before": a kill within the next saving would leave nothing.
    assert load_state(run, taker) == []
    save_state(run, state(2))
    assert load_state(run, taker) == []
    (run / STATE).unlink()
    assert load_state(run, taker) == []
    assert taker.steps == [1, 1, 2, 1]
    assert names(run.parent) == {"run"}  # nothing that a file holds was run


def test_no_flipped_byte_goes_unseen(run: Path, taker: Taker) -> None:
    """Refused, or (in zip's padding) without effect."""
    content, refused = (run / STATE).read_bytes(), 0
    places = random.Random(0)
    for _ in range(60):
        spoilt = bytearray(content)
        spoilt[places.randrange(len(content))] ^= 1 << places.randrange(8)
        (run / STATE).write_bytes(spoilt)
        (run / PREVIOUS).unlink(missing_ok=True)
        try:
            assert load_state(run, taker) == []
        except PoposError:
            refused += 1
    assert refused > 20
    assert set(taker.steps) <= {2}


@pytest.mark.parametrize(
    "error", [RuntimeError("size mismatch"), ValueError(), KeyError("best"), TypeError()]
)
def test_of_another_network(run: Path, error: Exception) -> None:
    taker = Taker(lambda step: error if step == 2 else None)
    (remark,) = load_state(run, taker) or []
    assert "of another network or optimiser" in remark
    assert taker.steps == [1]


def test_none_can_be_used(run: Path, taker: Taker) -> None:
    with pytest.raises(PoposError) as caught:
        load_state(run, Taker(lambda step: KeyError("x")))
    assert caught.value.message.count("of another network") == 2
    assert "settings" in (caught.value.hint or "")
    torch.save({"step": 2}, run / STATE)  # of an earlier version
    (run / PREVIOUS).write_bytes(b"")
    with pytest.raises(PoposError) as caught:
        load_state(run, taker)
    assert f"{STATE} is not written by this version of popos" in caught.value.message
    assert f"{PREVIOUS} is torn" in caught.value.message
    assert str(run) in (caught.value.hint or "")
    assert names(run) == {STATE, PREVIOUS}  # nothing is moved


def test_a_full_gpu_is_not_the_files_fault(run: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        load_state(run, Taker(lambda step: torch.OutOfMemoryError("no memory")))
    assert names(run) == {STATE, PREVIOUS}


@needs_fork
def test_a_full_disk(run: Path, taker: Taker, tmp_path: Path) -> None:
    large = torch.zeros(100_000)  # made here: OpenMP, once used, hangs in a forked process

    def work() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            save_state(run, {"step": 3, "model": large})
        except PoposError as error:
            (tmp_path / "message").write_text(error.message)

    os.waitpid(child(work), 0)
    assert "File too large" in (tmp_path / "message").read_text()
    assert names(run) == {STATE, PREVIOUS}
    assert load_state(run, taker) == []
    assert taker.steps == [2]


@needs_fork
def test_one_writer_at_a_time(run: Path) -> None:
    before = names(run)
    with only_writer(run):
        with pytest.raises(PoposError, match="another process trains there"), only_writer(run, patience=0):
            pass
        assert names(run) == before
    with only_writer(run, patience=0):
        pass


@needs_fork
def test_waits_for_one_that_is_ending(run: Path, tmp_path: Path) -> None:
    def hold() -> None:
        with only_writer(run):
            (tmp_path / "held").touch()
            time.sleep(0.3)

    holder = child(hold)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with only_writer(run, patience=20):
        pass
    os.waitpid(holder, 0)
