"""Several processes share the pictures, and whoever is killed is made up for."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

SIZE, PICTURES = 3, 18


@pytest.fixture
def photos(tmp_path, astronaut):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(PICTURES):
        shutil.copy(astronaut, folder / f"{number:02d}.jpg")
    (folder / "torn.jpg").write_bytes(astronaut.read_bytes()[:3000])
    return folder


def start(photos, parts, home):
    """As torchrun and srun start them: one command, told apart by their environment."""
    command = [sys.executable, "-m", "popos_cli", "predict", photos, "--weights", "small", "--parts", parts]
    place = {"WORLD_SIZE": str(SIZE), "LOCAL_WORLD_SIZE": str(SIZE), "POPOS_HOME": str(home)}
    return [
        subprocess.Popen(
            command, env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(SIZE)
    ]  # fmt: skip


def lines(parts):
    return [json.loads(text) for path in sorted(parts.glob("*")) for text in path.read_text().splitlines()]


def test_three_processes_of_which_one_is_killed(photos, tmp_path, home):
    parts = tmp_path / "parts"
    processes = start(photos, parts, home)
    killed = parts / f"part-00001-of-{SIZE:05d}.jsonl"
    while not (killed.exists() and killed.stat().st_size):
        assert processes[1].poll() is None
        time.sleep(0.005)
    processes[1].send_signal(signal.SIGKILL)
    assert sorted(process.wait(60) for process in processes) == [-signal.SIGKILL, 0, 1]  # 1: the torn picture
    with killed.open("a") as file:
        file.write('{"source": "torn li')
    before = {path: path.read_bytes() for path in parts.glob("*") if path != killed}
    assert len(before) == SIZE - 1

    again = start(photos, parts, home)
    assert sorted(process.wait(60) for process in again) == [0, 0, 1]
    for path, content in before.items():
        assert path.read_bytes().startswith(content)
    done = [entry for entry in lines(parts) if "error" not in entry]
    assert sorted(entry["source"] for entry in done) == sorted(map(str, photos.glob("[0-9]*.jpg")))
    assert all(len(entry["faces"]) == 1 and entry["scheme"] == "300w" for entry in done)
    assert len([entry for entry in lines(parts) if "error" in entry]) == 2  # tried again


def test_torn_lines_of_other_processes_and_other_weights(popos, photos, tmp_path):
    (photos / "torn.jpg").unlink()
    parts = tmp_path / "parts"
    popos("predict", photos, "--weights", "small", "--parts", parts).ok()
    whole = parts / "part-00000-of-00001.jsonl"
    other = whole.rename(parts / "part-00002-of-00003.jsonl")
    content = other.read_bytes()
    other.write_bytes(content[:-40])
    (parts / "part-00000-of-00003.jsonl").write_bytes(bytes(100) + b"\n")  # after a power cut
    popos("predict", photos, "--weights", "small", "--parts", parts).ok()
    assert len(whole.read_text().splitlines()) == 1
    assert other.read_bytes() == content[: content[:-1].rfind(b"\n") + 1]
    refused = popos("predict", photos, "--weights", "default", "--parts", parts)
    assert refused.code == 2 and "has results of weights 'small'" in refused.err


def test_one_process_goes_on_where_it_stopped(popos, photos, tmp_path):
    (photos / "torn.jpg").unlink()
    first, parts = sorted(photos.glob("*"))[:4], tmp_path / "parts"
    popos("predict", *first, "--parts", parts).ok()
    assert popos("predict", photos, "--parts", parts).ok().out == ""
    assert [entry["source"] for entry in lines(parts)] == list(map(str, sorted(photos.glob("*"))))
