"""POPOS_HOME: shared by processes and machines, not always there, and not always whole."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import pytest

import popos_cli
import popos_cli.home as home_module
from popos_cli.errors import PoposError
from popos_cli.home import (
    clear_leftovers,
    locked,
    new_folder,
    new_run_folder,
    read_or_set_aside,
    remember,
    remembered,
    replacing,
)

REPOSITORY = Path(__file__).resolve().parents[1]
YESTERDAY = time.time() - 25 * 3600


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def start(code, *arguments, **options):
    """A Python process of its own that finds this source tree."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, **options)


REMEMBER = """
import sys
from pathlib import Path
from popos_cli.home import remember
for number in range(10):
    remember("runs", Path(sys.argv[1]) / f"{sys.argv[2]}-{number}")
"""


def test_processes_that_register_at_once_lose_nothing(place, tmp_path):
    processes = [start(REMEMBER, tmp_path, who) for who in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    expected = {str(tmp_path / f"{who}-{number}") for who in range(4) for number in range(10)}
    runs = json.loads((place / "registry.json").read_text())["runs"]
    assert len(runs) == 40 and set(runs) == expected
    for run in expected:
        Path(run).mkdir()
    assert {str(run) for run in remembered("runs")} == expected
    assert [name for name in os.listdir(place) if "tmp" in name] == []


@pytest.mark.parametrize(
    "content",
    [
        b"{", b"", b"[]", b'{"runs": "x"}', b'{"runs": [1]}', b'{"runs": ["\xe9"]}', b"[" * 100_000,
        b"\x00" * 20,
    ],
)  # fmt: skip
def test_a_broken_registry_is_set_aside_with_a_note(content, place, tmp_path, caplog):
    place.mkdir()
    (place / "registry.json").write_bytes(content)
    assert remembered("runs") == [] and remembered("roots") == []
    (note,) = caplog.messages  # once: it has another name now
    (aside,) = place.glob("registry.json.*.broken")
    assert aside.read_bytes() == content and str(place / "registry.json") in note and aside.name in note
    remember("runs", tmp_path)
    assert remembered("runs") == [tmp_path]


def test_a_broken_file_that_another_process_has_replaced_is_not_set_aside(place, monkeypatch):
    """This process has read the broken file; before it can act, another has put a whole one in its place."""
    place.mkdir()
    path = place / "registry.json"
    path.write_text("{")
    inner = home_module.locked

    def slow(*arguments):
        path.write_text('{"runs": []}')
        return inner(*arguments)

    monkeypatch.setattr(home_module, "locked", slow)
    assert read_or_set_aside(path, json.loads, None) == {"runs": []}
    assert path.exists() and not list(place.glob("*.broken"))


def test_what_cannot_be_remembered_is_a_note(place, tmp_path, caplog):
    place.write_bytes(b"")  # a home that is a file
    remember("runs", tmp_path)
    assert remembered("runs") == [] and "is not remembered" in caplog.text


def test_paths_that_are_not_utf_8_are_remembered(place, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    remember("roots", folder)
    assert remembered("roots") == [folder]


def others_may_read(path):
    """Whether all users reach this file: an environment may lie in a private folder."""
    return all(place.stat().st_mode & 0o001 for place in path.parents)


AS_NOBODY = pytest.mark.skipif(
    not hasattr(os, "geteuid")
    or os.geteuid() != 0
    or not all(others_may_read(Path(package.__file__).resolve()) for package in (cv2, popos_cli)),
    reason="only root can become another user, who must be able to read popos and OpenCV",
)
ANOTHER_USER = """
import os, sys
from pathlib import Path
# root reads the sources, also those of Python that load late
import encodings.utf_8_sig, popos_cli.data.index, popos_cli.predict.detect, popos_cli.weights.find
import popos_cli.weights.format
os.setgid(54321), os.setuid(54321)  # nobody knows this user
from popos_cli.home import remember, remembered
from popos_cli.data.index import prepared_names
from popos_cli.predict.detect import load_detector
from popos_cli.weights.find import face_weights, find_weights
for case in sys.argv[1:]:
    for name in ("HOME", "POPOS_HOME", "XDG_DATA_HOME"):
        os.environ.pop(name, None)
    os.environ.update([case.split("=")] if case else [])
    remember("runs", Path("/"))
    found = remembered("runs"), prepared_names(), find_weights("small").exists(), len(list(face_weights()))
    assert found == ([], [], True, 3), (case, found)
    assert type(load_detector()).__name__ == "Haar", case
"""


@AS_NOBODY
def test_without_a_home_that_can_be_reached_bundled_weights_are_found(tmp_path):
    """Another user's home, with and without a folder of ours in it, no home at all, and no possible name."""
    locked_up, working = tmp_path / "root", tmp_path / "here"
    for folder in (locked_up / ".local/share/popos", locked_up / "home", working):
        folder.mkdir(parents=True)
    os.chmod(locked_up, 0o700)
    os.chmod(working, 0o777)
    cases = [
        f"POPOS_HOME={locked_up}", f"POPOS_HOME={locked_up / 'home'}", f"POPOS_HOME={locked_up / 'new'}",
        f"HOME={locked_up}", "POPOS_HOME=~/popos", "HOME=/nowhere/at/all", "",
        f"POPOS_HOME=/{'a' * 300}",
    ]  # fmt: skip
    process = start(ANOTHER_USER, *cases, cwd=working, stderr=subprocess.PIPE, text=True)
    _, err = process.communicate()
    assert process.returncode == 0, err
    notes = [note for note in err.splitlines() if "faces are found by haar" not in note]
    assert len(notes) == len(cases) and all("is not remembered" in note for note in notes)
    assert os.listdir(working) == []  # no folder that is called ~


def test_temporary_names_are_unique_and_not_longer_than_names_may_be(tmp_path):
    names = set()
    for _ in range(20):
        with replacing(tmp_path / ("x" * 250 + ".json")) as temporary:
            temporary.write_text("{}")
            names.add(temporary)
    assert len(names) == 20 and os.listdir(tmp_path) == ["x" * 250 + ".json"]


def test_a_folder_that_another_process_finishes_first_stays(tmp_path):
    with pytest.raises(FileExistsError), new_folder(tmp_path / "images") as mine:
        (mine / "1.png").write_text("mine")
        with new_folder(tmp_path / "images") as theirs:
            (theirs / "1.png").write_text("theirs")
    assert (tmp_path / "images" / "1.png").read_text() == "theirs"
    assert os.listdir(tmp_path) == ["images"]


HOLD = """
import sys, time
from pathlib import Path
from popos_cli.home import locked, new_folder
with locked(Path(sys.argv[1])), new_folder(Path(sys.argv[1]) / "images") as folder:
    (folder / "1.png").write_text("half")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_goes_once_its_lock_is_free(tmp_path):
    target = tmp_path / "cofw"
    process = start(HOLD, target, stdout=subprocess.PIPE, text=True)
    folder = Path(process.stdout.readline().strip())
    with pytest.raises(PoposError, match="another process is writing"), locked(target, patience=0.1):
        pass
    process.kill()
    process.wait()
    with locked(target, patience=10) as held:
        assert held and folder.is_dir()
        clear_leftovers(target, held)
    assert os.listdir(target) == []


def test_what_others_may_still_be_writing_is_left_alone_for_a_day(tmp_path):
    """Those of another machine also where the lock is held: it may not reach that far."""
    foreign = "0" * 16 if not home_module._MACHINE.startswith("0") else "1" * 16
    mine, theirs, old = f".a.{home_module._MACHINE}00000000.tmp", f".b.{foreign}.tmp", f".c.{foreign}.tmp"
    others = [".hidden", "images.7.tmp", ".x.tmp"]
    for name in (mine, theirs, old, *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"")
    for name in (old, *others):
        os.utime(tmp_path / name, (YESTERDAY, YESTERDAY))
    clear_leftovers(tmp_path)
    assert set(os.listdir(tmp_path)) == {mine, theirs, *others}
    clear_leftovers(tmp_path, held=True)
    assert set(os.listdir(tmp_path)) == {theirs, *others}
    clear_leftovers(tmp_path / "nowhere")


def test_threads_of_one_process_take_turns(tmp_path):
    inside, most = [], []

    def work():
        with locked(tmp_path / "x") as held:
            assert held
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


def test_run_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [str(new_run_folder(None, "300w-16")) for _ in range(3)] == [
        f"runs/300w-16-{n}" for n in (1, 2, 3)
    ]
    assert new_run_folder(tmp_path / "deep/run", "x").is_dir()
    assert new_run_folder(tmp_path / "deep/run", "x").is_dir()  # it is empty
    with pytest.raises(PoposError, match="deep exists already"):
        new_run_folder(tmp_path / "deep", "x")
