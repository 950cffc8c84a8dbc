"""Frames of real videos: which ones, when, which way up; torn, damaged and trimmed files; streams."""

import functools
import http.server
import itertools
import logging
import os
import socket
import threading
import time
from pathlib import Path, PurePath

import cv2
import numpy as np
import pytest
from clips import cut, index_first, number_of, numbered, trimmed, turned, write_clip

from popos_cli.data.containers import cut_short
from popos_cli.errors import PoposError
from popos_cli.predict import frames as module
from popos_cli.predict.frames import Span, Video
from popos_cli.predict.sources import expand

COUNT, RATE = 40, 20.0
WRITTEN = {"clip.mp4": "mp4v", "clip.avi": "MJPG", "clip.webm": "VP80"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The same forty frames in three containers; number n is at n / 20 seconds."""
    folder = tmp_path_factory.mktemp("clips")
    for name, codec in WRITTEN.items():
        write_clip(folder / name, numbered(COUNT), RATE, codec)
    return folder


@pytest.fixture
def clip(written, tmp_path):
    """A copy of one of them."""

    def copied(name="clip.mp4"):
        path = tmp_path / name
        path.write_bytes((written / name).read_bytes())
        return path

    return copied


def video(path, **span):
    return Video(str(path), Path(path), PurePath("clip"), Span(**span))


def read(source):
    """The frames, and what is said behind them."""
    found = []
    try:
        for frame in source.frames():
            found.append(frame)
    except PoposError as error:
        return found, error.message
    return found, None


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ({}, range(COUNT)),
        ({"every": 7}, range(0, COUNT, 7)),
        ({"start": 0.5}, range(10, COUNT)),
        ({"start": 0.51, "every": 4}, range(11, COUNT, 4)),
        ({"end": 0.5}, range(10)),  # so that --start .5 has no frame twice
        ({"start": 1.0, "end": 1.5, "every": 3}, range(20, 30, 3)),
    ],
    ids=str,
)
def test_numbers_and_times_are_the_whole_videos(written, name, span, expected):
    found, error = read(video(written / name, **span))
    assert error is None
    assert [frame.number for frame in found] == [number_of(frame.image) for frame in found] == list(expected)
    assert [frame.time for frame in found] == pytest.approx([n / RATE for n in expected], abs=1e-3)
    assert found[0].image.shape == (120, 160, 3)
    assert found[0].rate == pytest.approx(RATE / span.get("every", 1))
    assert (found[0].image[10:30, 10:30].mean((0, 1)) > 150).tolist() == [True, False, False]  # red: RGB
    assert video(written / name, **span).length() == pytest.approx(len(found), abs=1)


def test_a_phones_video_is_upright(clip):
    (first, *_), error = read(video(turned(clip())))
    assert error is None and first.image.shape == (160, 120, 3)
    reds = np.argwhere((first.image[..., 0] > 150) & (first.image[..., 1] < 90))
    assert reds.mean(0) == pytest.approx([20, 100], abs=4)  # from the upper left to the upper right


@pytest.mark.parametrize("name", WRITTEN)
def test_a_torn_video_gives_what_it_has(clip, name):
    path = clip(name)
    if name == "clip.mp4":
        cut(path, 0.6)
        assert read(video(path)) == (
            [],
            f"{path}: not a video that OpenCV {cv2.__version__} can read, or a torn one",
        )
        index_first(clip(name))
    whole, error = read(video(path))
    assert error is None and len(whole) == COUNT
    found, error = read(video(cut(path, 0.6)))
    # The last one may be half a frame.
    assert [number_of(frame.image) for frame in found[:-1]] == list(range(len(found) - 1))
    assert 15 <= len(found) < 30
    assert error == f"{path}: the video is truncated: it ends after {len(found)} of {COUNT} frames"
    # What was asked for is there.
    assert read(video(path, end=0.1))[1] is None


def test_damaged_frames_are_left_out_and_said(written, tmp_path):
    """In the middle of an AVI; each of its frames is a JPEG."""
    data = bytearray((written / "clip.avi").read_bytes())
    starts = [n for n in range(len(data)) if data[n : n + 3] == b"\xff\xd8\xff"]
    assert len(starts) == COUNT
    for start, next_start in itertools.pairwise(starts[10:13]):
        data[start : next_start - 8] = bytes(next_start - 8 - start)  # a chunk's header has 8 bytes
    path = tmp_path / "bad.avi"
    path.write_bytes(data)
    found, error = read(video(path))
    assert error and "damaged" in error
    numbers = [frame.number for frame in found]
    assert numbers[:10] == list(range(10)) and numbers[-1] == COUNT - 1 and len(numbers) < COUNT
    assert [frame.time for frame in found] == pytest.approx([n / RATE for n in numbers], abs=1e-3)
    assert number_of(found[-1].image) == COUNT - 1


def test_a_trimmed_video_is_no_torn_one(clip, caplog):
    with caplog.at_level(logging.WARNING):
        found, error = read(video(trimmed(clip())))
    assert len(found) == COUNT // 2 and error is None
    assert "ends after 20 frames; its header says 40" in caplog.text


def test_what_is_no_video(tmp_path):
    for name, data, wrong in [
        ("text.mp4", b"no video", "not a video that OpenCV"),
        ("empty.mov", b"", "the file is empty"),
        ("gone.avi", None, "no such file or directory"),
    ]:
        if data is not None:
            (tmp_path / name).write_bytes(data)
        found, error = read(video(tmp_path / name))
        assert found == [] and f"{tmp_path / name}: {wrong}" in error
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "a pipe" in read(video(tmp_path / "pipe.mp4"))[1]
    assert video(tmp_path / "gone.avi").length() == 1


def test_a_start_behind_the_end(written):
    found, error = read(video(written / "clip.mp4", start=90))
    assert found == [] and "no frame at or after 90 s: it ends at 1.95 s" in error


def test_odd_names(written, tmp_path):
    for name in ("concat:x|y.mp4", "50%d.mp4", "my clip [1].mp4", "Jürgen.mp4"):
        (tmp_path / name).write_bytes((written / "clip.mp4").read_bytes())
        assert len(read(video(tmp_path / name))[0]) == COUNT


@pytest.mark.parametrize("data, whole", [
    (b"RIFF\x10\0\0\0AVI rest" + bytes(12), True),
    (b"RIFF\x20\0\0\0AVI rest" + bytes(12), False),
    (b"RIFF\0\0\0\0AVI rest", True),  # a recording that was never finished
    (b"\0\0\0\x0cftypmp42\0\0\0\x20mdat" + bytes(24), True),
    (b"\0\0\0\x0cftypmp42\0\0\0\x20mdat" + bytes(23), False),
    (b"\0\0\0\x0cftypmp42\0\0\0\x01mdat\0\0\0\0\0\0\1\0" + bytes(23), False),  # a size of 8 bytes
    (b"\0\0\0\x0cftypmp42\0\0\0\0mdat" + bytes(9), True),
    (b"\x1aE\xdf\xa3\x84abcd\x18\x53\x80\x67\x40\x04abcd", True),
    (b"\x1aE\xdf\xa3\x84abcd\x18\x53\x80\x67\x40\x05abcd", False),
    (b"\x1aE\xdf\xa3\x84abcd\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xffab", True),  # size unknown
    (b"G" * 400, True),
])  # fmt: skip
def test_what_containers_say_of_their_size(tmp_path, data, whole):
    (tmp_path / "clip").write_bytes(data)
    assert cut_short(tmp_path / "clip") is not whole


@pytest.fixture
def server(written):
    """The address of a web server of the clips."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(written)))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}"
    web.shutdown()


def test_a_video_from_the_web(server):
    found, error = read(expand([f"{server}/clip.avi"], Span(every=3))[0])
    assert error is None and not any(frame.live for frame in found)
    assert [(frame.number, number_of(frame.image)) for frame in found] == [(n, n) for n in range(0, COUNT, 3)]


@pytest.fixture
def web_camera():
    """The address of a camera as many are: twenty JPEGs behind one another, and then it goes away."""

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for picture in numbered(20):
                data = cv2.imencode(".jpg", picture)[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                time.sleep(0.02)

        def log_message(self, *arguments):
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}/live"
    web.shutdown()


def test_a_live_stream_that_ends(web_camera, caplog):
    with caplog.at_level(logging.WARNING):
        found, error = read(expand([web_camera])[0])
    assert error is None and len(found) >= 10 and all(frame.live for frame in found)
    assert [number_of(frame.image) for frame in found] == [frame.number for frame in found]
    times = [frame.time for frame in found]
    assert times == sorted(times) and times[-1] < 30
    assert f"{web_camera} ended after {len(found)} frames" in caplog.text


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_server_that_never_answers(monkeypatch, scheme):
    monkeypatch.setattr(module, "TIMEOUT", 500)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        address = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/live"
        assert read(expand([address])[0]) == ([], f"{address}: no video comes from this address")
        assert time.monotonic() - began < 10


def test_a_camera_that_is_not_there():
    found, error = read(expand(["97"])[0])
    assert (found, error) == ([], "camera 97 cannot be opened")
