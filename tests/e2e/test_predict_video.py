"""popos predict on videos: JSON lines, tables, annotated videos; progress, Ctrl-C, windows."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import cut, moving_face, write_clip

COUNT, RATE = 8, 25
WEIGHTS = ("--weights", "small", "--detector", "haar")


@pytest.fixture(scope="module")
def clips(tmp_path_factory, astronaut):
    """clip.mp4: eight frames of a face that moves; clip.avi: the same."""
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "clip.mp4", moving_face(astronaut, COUNT), RATE)
    write_clip(folder / "clip.avi", moving_face(astronaut, COUNT), RATE, "MJPG")
    return folder


@pytest.fixture
def clip(clips, tmp_path):
    """clip.mp4 in the working folder."""
    (tmp_path / "clip.mp4").write_bytes((clips / "clip.mp4").read_bytes())
    return "clip.mp4"


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_json_lines_to_the_letter(popos, clip):
    result = popos("predict", clip, "--json", *WEIGHTS).ok()
    assert result.err == ""
    lines = lines_of(result.out)
    assert [(line["source"], line["frame"]) for line in lines] == [(clip, n) for n in range(COUNT)]
    assert [line["time"] for line in lines] == pytest.approx([n / RATE for n in range(COUNT)])
    for line in lines:
        assert {"source", "frame", "time", "width", "height", "faces"} <= set(line)
        assert (line["width"], line["height"]) == (320, 240)
        assert len(line["faces"]) >= 1 and len(line["faces"][0]["landmarks"]) == 68
    assert not Path("popos-out").exists()
    assert popos("predict", clip, "--jsonl", *WEIGHTS).ok().out == result.out


def test_a_part_of_it(popos, clip):
    flags = ("--every", 3, "--start", "0:00.04", "--end", "0:00:00.30", "--no-smooth")
    lines = lines_of(popos("predict", clip, "--json", *flags, *WEIGHTS).ok().out)
    assert [line["frame"] for line in lines] == [1, 4, 7]


def test_what_people_get(popos, clip):
    result = popos("predict", clip, "--csv", "faces.csv", *WEIGHTS).ok()
    assert result.out == f"clip.mp4: {COUNT} frames, faces in {COUNT}\n"
    assert re.search(rf"^{COUNT} frames, \d+ faces in [\d.]+ s \([\d.]+ per second\)$", result.err, re.M)
    assert {p.name for p in Path("popos-out").iterdir()} == {"clip.jsonl", "clip_landmarks.mp4"}
    lines = lines_of(Path("popos-out/clip.jsonl").read_text())
    assert lines == lines_of(popos("predict", clip, "--json", *WEIGHTS).ok().out)
    with open("faces.csv") as file:
        rows = list(csv.DictReader(file))
    faces = [(line, face) for line in lines for face in line["faces"]]
    assert len(rows) == len(faces)
    for row, (line, face) in zip(rows, faces, strict=True):
        assert (int(row["frame"]), float(row["timestamp"])) == (line["frame"], line["time"])
        assert [float(row["x_30"]), float(row["y_30"])] == face["landmarks"][30]
        assert float(row["u_67"]) == face["uncertainty"][67]
    drawn, plain = (cv2.VideoCapture(name) for name in ("popos-out/clip_landmarks.mp4", clip))
    assert drawn.get(cv2.CAP_PROP_FPS) == RATE
    for line in lines:
        (done, image), (_, before) = drawn.read(), plain.read()
        assert done and image.shape == (240, 320, 3)
        x, y = np.round(line["faces"][0]["landmarks"][30]).astype(int)
        assert np.abs(image.astype(int) - before)[y - 1 : y + 2, x - 1 : x + 2].max() > 40
    assert not drawn.read()[0]
    # Its own outputs are no sources.
    assert {line["source"] for line in lines_of(popos("predict", ".", "--json", *WEIGHTS).ok().out)} == {clip}


def test_verbose_names_every_frame(popos, clip):
    out = popos("predict", clip, "--verbose", "--every", 4, *WEIGHTS).ok().out
    assert "clip.mp4 frame 4 (0.16 s): " in out and "nose bridge" in out


def test_pictures_and_videos_together(popos, tmp_path, clip, astronaut, empty_picture):
    """A folder with sub-folders, a torn video among them."""
    (tmp_path / "all/deep").mkdir(parents=True)
    (tmp_path / "all/photo.jpg").write_bytes(astronaut.read_bytes())
    (tmp_path / "all/deep/photo.jpg").write_bytes(empty_picture.read_bytes())
    (tmp_path / "all/deep/clip.mp4").write_bytes((tmp_path / clip).read_bytes())
    cut(tmp_path / clip, 0.5).rename(tmp_path / "all/torn.mp4")
    result = popos("predict", "all", "--json", "--out", "out", "--csv", "t.csv", "--every", 4, *WEIGHTS)
    assert result.code == 1 and len(result.errors) == 1 and "all/torn.mp4: not a video" in result.errors[0]
    lines = lines_of(result.out)
    assert [(line["source"], line["frame"], line["time"]) for line in lines] == [
        ("all/deep/clip.mp4", 0, 0), ("all/deep/clip.mp4", 4, 0.16), ("all/deep/photo.jpg", 0, None),
        ("all/photo.jpg", 0, None), ("all/torn.mp4", 0, None),
    ]  # fmt: skip
    assert [len(line["faces"]) >= 1 for line in lines] == [True, True, False, True, False]
    assert "error" in lines[-1]
    written = {str(p.relative_to("out")) for p in Path("out").rglob("*") if p.is_file()}
    assert written == {
        "deep/clip.jsonl", "deep/clip_landmarks.mp4", "deep/photo.json", "deep/photo_landmarks.jpg",
        "photo.json", "photo_landmarks.jpg",
    }  # fmt: skip
    with open("t.csv") as file:
        rows = [(row["source"], row["frame"], row["success"]) for row in csv.DictReader(file)]
    assert rows[-2:] == [("all/deep/photo.jpg", "0", "0"), ("all/photo.jpg", "0", "1")]


def test_a_torn_video_keeps_its_frames(popos, clips, tmp_path):
    (tmp_path / "torn.avi").write_bytes((clips / "clip.avi").read_bytes())
    cut(tmp_path / "torn.avi", 0.6)
    result = popos("predict", "torn.avi", "--json", "--out", "out", *WEIGHTS)
    assert result.code == 1 and "torn.avi: the video is truncated: it ends after" in result.errors[0]
    *frames, last = lines_of(result.out)
    assert len(frames) >= 3 and "truncated" in last["error"]
    assert lines_of(Path("out/torn.jsonl").read_text()) == frames
    assert cv2.VideoCapture("out/torn_landmarks.mp4").get(cv2.CAP_PROP_FRAME_COUNT) == len(frames)


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ("a.jpg --every 2", "--every, --start and --end are for videos"),
        ("a.mp4 --start 5 --end 4", "--end 4: must be behind --start 5"),
        ("a.mp4 --start soon", "--start 'soon': expected seconds, m:ss or h:mm:ss"),
        ("a.mp4 --every 0", "--every"),
        ("a.mp4 --box 1,2,30,40", "--box is for pictures, and a.mp4 is none"),
        ("a.mp4 --whole-image", "--whole-image is for pictures, and a.mp4 is none"),
    ],
)
def test_flags_that_do_not_fit(popos, arguments, wrong):
    result = popos("predict", *arguments.split())
    assert result.code == 2 and wrong in result.errors[0]
    assert wrong in popos("predict", *arguments.split(), "--jsonl").json["error"]["message"]


def test_a_window_where_there_is_no_display(popos, monkeypatch, clip):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    result = popos("predict", clip, "--show", *WEIGHTS)
    assert result.code == 1 and result.errors == ["error: --show: OpenCV can open no window here"]


@pytest.mark.parametrize("flag", ["--json", "--jsonl", None])
def test_ctrl_c_keeps_what_is_done(environment, astronaut, tmp_path, flag):
    """Of thousands of pictures, and of a video that takes minutes."""
    (tmp_path / "many").mkdir()
    for number in range(500):
        (tmp_path / f"many/{number:03}.jpg").symlink_to(astronaut)
    if flag != "--json":
        write_clip(tmp_path / "many/long.mp4", moving_face(astronaut, 60) * 20, RATE)
        (tmp_path / "many/long.mp4").rename(tmp_path / "many/0.mp4")  # the first
    command = [sys.executable, "-m", "popos_cli", "predict", "many", "--out", "out", *WEIGHTS]
    with subprocess.Popen(
        [*command, *[flag] * bool(flag)], env=environment, cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        wanted = (tmp_path / "out/004.json") if flag == "--json" else (tmp_path / "out/0.jsonl")
        deadline = time.monotonic() + 60
        while not wanted.exists() or not wanted.stat().st_size:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "error: interrupted" in err and "Traceback" not in err
    if flag == "--json":
        document = json.loads(out)
        assert 4 <= len(document["images"]) < 500 and document["error"]["message"] == "interrupted"
        assert all(len(image["faces"]) == 1 for image in document["images"])
        return
    lines = lines_of((tmp_path / "out/0.jsonl").read_text())
    assert 1 <= len(lines) < 1200
    shown = cv2.VideoCapture(str(tmp_path / "out/0_landmarks.mp4")).get(cv2.CAP_PROP_FRAME_COUNT)
    assert shown in (len(lines), len(lines) - 1)
    if flag:
        assert lines_of(out) in (lines, lines[:-1])


def on_a_terminal(command, environment, terminal=None, **streams):
    """Exit code, what a terminal shows as stderr of a command, and what its stdout had."""
    terminal, end = terminal or pty.openpty()
    process = subprocess.Popen(command, env=environment | {"TERM": "xterm"}, stderr=end, **streams)
    os.close(end)
    shown = b""
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:
            break
        shown += data
        if not data:
            break
    out = process.stdout.read() if process.stdout else ""
    process.wait()
    os.close(terminal)
    return process.returncode, shown.decode(), out


def test_progress_is_shown_and_stdout_stays_pure(environment, clip):
    command = [sys.executable, "-m", "popos_cli", "predict", clip, "--json", *WEIGHTS]
    code, shown, out = on_a_terminal(command, environment, stdout=subprocess.PIPE, text=True)
    assert code == 0 and len(lines_of(out)) == COUNT
    assert "predicting" in shown and f"/{COUNT}" in shown and "/s" in shown and "ETA" in shown
    assert f"{COUNT} frames, " in shown


def test_lines_stand_above_the_bar(environment, astronaut):
    """stdout and stderr are one terminal: each line is written on a line that was cleared."""
    terminal, end = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "popos_cli",
        "predict",
        astronaut,
        astronaut.with_name("gone.jpg"),
        *WEIGHTS,
    ]
    code, shown, _ = on_a_terminal(command, environment, terminal=(terminal, end), stdout=end)
    assert code == 1
    for line in (f"{astronaut}: 1 face", "gone.jpg: no such file or directory"):
        assert re.search(rf"\x1b\[2K[^\n]*{re.escape(line)}", shown)
    assert "1 picture, 1 face, 1 error in" in shown


def test_slow_videos_and_names_that_are_no_utf8(popos, astronaut, tmp_path):
    """An annotated video of less than one frame a second; OpenCV would end the process at such a name."""
    frames = moving_face(astronaut, 5)
    write_clip(tmp_path / "slow.avi", frames, codec="MJPG", rate=0.5)
    popos("predict", "slow.avi", "--out", "out").ok()
    capture = cv2.VideoCapture(str(tmp_path / "out/slow_landmarks.mp4"))
    assert sum(capture.grab() for _ in range(100)) == 5
    odd = os.fsdecode(b"\xe9.avi")
    shutil.copy(tmp_path / "slow.avi", odd)
    result = popos("predict", odd, "slow.avi", "--jsonl")
    assert result.code == 1 and "not valid UTF-8" in result.err
    assert len(result.out.splitlines()) == 6


def test_a_header_that_promises_a_thousand_million_frames(popos, astronaut, tmp_path):
    """As in a video that was written into a pipe."""
    path = tmp_path / "piped.avi"
    write_clip(path, moving_face(astronaut, 4), codec="MJPG")
    data = bytearray(path.read_bytes())
    header = data.index(b"strh") + 8
    data[header + 32 : header + 36] = (0x40000000).to_bytes(4, "little")
    path.write_bytes(data)
    found = popos("predict", path, "--jsonl")
    assert sum(bool(json.loads(line)["faces"]) for line in found.out.splitlines()) == 4
