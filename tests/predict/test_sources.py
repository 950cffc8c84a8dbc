"""What a user's words stand for: files, folders, patterns."""

import json
import os
from pathlib import Path, PurePath

import pytest

from popos_cli.data.pictures import SUFFIXES, VIDEO_SUFFIXES
from popos_cli.errors import UsageError
from popos_cli.predict.frames import PictureFile, Span, Video
from popos_cli.predict.sources import expand


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """b.jpg, a.PNG, notes.txt, deep/c.webp, deep/d.jpg/ (a folder), empty/, below the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "d.jpg").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for name in ("b.jpg", "a.PNG", "notes.txt", "deep/c.webp"):
        (tmp_path / name).write_text("")
    return tmp_path


def names(sources, tree):
    return [os.path.relpath(source.name, tree) for source in expand(sources)]


def test_a_folder_is_searched_below_in_order(tree):
    assert names([str(tree)], tree) == ["a.PNG", "b.jpg", "deep/c.webp"]
    assert names(["."], tree) == ["a.PNG", "b.jpg", "deep/c.webp"]


def test_a_pattern_is_expanded_in_order(tree):
    assert names([str(tree / "*.*")], tree) == ["a.PNG", "b.jpg", "notes.txt"]
    assert names(["**/*.[jw]*"], tree) == ["b.jpg", "deep/c.webp"]


def test_sources_keep_their_order_and_come_once(tree):
    assert names(["deep/c.webp", "b.jpg", "*.jpg", "deep"], tree) == ["deep/c.webp", "b.jpg"]


def test_a_named_file_is_kept_whatever_it_is(tree):
    assert names(["notes.txt", "missing.jpg"], tree) == ["notes.txt", "missing.jpg"]
    (tree / "odd[1].jpg").write_text("")
    assert names(["odd[1].jpg"], tree) == ["odd[1].jpg"]


def test_linked_folders_are_searched_and_a_link_back_is_not(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "e.jpg").write_text("")
    (elsewhere / "back").symlink_to(tree)
    (tree / "deep" / "there").symlink_to(elsewhere)
    (tree / "deep" / "up").symlink_to("..")
    assert names(["."], tree) == ["a.PNG", "b.jpg", "deep/c.webp", "deep/there/e.jpg"]


def test_nothing_that_is_called_a_picture_is_passed_over(tree):
    """Reading it will say what is wrong with it."""
    (tree / "deep" / "gone.jpg").symlink_to("nowhere")
    (tree / "deep" / "phone.HEIC").write_text("")
    os.mkfifo(tree / "deep" / "pipe.png")
    (tree / "deep" / "._c.webp").write_text("")  # macOS's notes on c.webp
    (tree / "deep" / "clip.mp4").write_text("")
    found = ["deep/c.webp", "deep/clip.mp4", "deep/gone.jpg", "deep/phone.HEIC", "deep/pipe.png"]
    assert names(["deep"], tree) == found
    assert names(["deep/[cgp]*.[jJHwpm]*"], tree) == found


def test_own_overlays_are_left_out_and_a_users_pictures_are_not(tree):
    document = json.dumps({"images": [], "weights": "default", "scheme": "300w"})
    for name in ("b", "deep/x"):
        (tree / f"{name}_landmarks.jpg").write_text("")
        (tree / f"{name}.json").write_text(document)
    # A user's: nothing beside it; the labels of another program; the original.
    for name in ("my_landmarks.jpg", "a_landmarks.jpg", "x_landmarks.png", "_landmarks.jpg"):
        (tree / name).write_text("")
    (tree / "a.json").write_text('{"imagePath": "a_landmarks.jpg"}')
    mine = ["_landmarks.jpg", "a.PNG", "a_landmarks.jpg", "b.jpg", "deep/c.webp", "my_landmarks.jpg"]
    assert names(["."], tree) == [*mine, "x_landmarks.png"]
    assert names(["**/*.jpg"], tree) == [m for m in mine if m.endswith("jpg")]
    assert names(["b_landmarks.jpg"], tree) == ["b_landmarks.jpg"]  # named
    (tree / "clip_landmarks.mp4").write_text("")  # likewise of a video
    (tree / "clip.jsonl").write_text('{"source": "clip.mp4", "weights": "default", "scheme": "300w"}\nrest')
    (tree / "my_landmarks.mp4").write_text("")
    assert names(["*.mp4"], tree) == ["my_landmarks.mp4"]
    assert names(["clip.mp4", "clip_landmarks.mp4"], tree) == ["clip.mp4"]
    # As a shell expands *.jpg; b-2 is of another b.
    for end in ("_landmarks.jpg", ".json"):
        (tree / f"b-2{end}").write_text(document)
    (tree / "b_landmarks_landmarks.jpg").write_text("")
    shell = ["a_landmarks.jpg", "b-2_landmarks.jpg", "b.jpg", "b_landmarks.jpg"]
    assert names(shell, tree) == ["a_landmarks.jpg", "b.jpg"]
    assert names(["b-2_landmarks.jpg", "b_landmarks.jpg"], tree) == ["b-2_landmarks.jpg", "b_landmarks.jpg"]


@pytest.mark.parametrize("source", ["empty", "deep/*.png", "deep/d.*", ""])
def test_what_holds_no_picture_is_a_usage_error(tree, source):
    with pytest.raises(UsageError) as caught:
        expand(["b.jpg", source])
    assert source in str(caught.value) and (source or "empty name" in str(caught.value))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("source", ["http://example.com/a.jpg", "s3://shots/clip.mp4", "file:///tmp/a.mp4"])
def test_the_address_of_a_picture_or_of_something_unknown(source):
    with pytest.raises(UsageError, match="an address, not a file"):
        expand([source])


def test_every_known_ending_is_found_in_either_case(tmp_path):
    for suffix in SUFFIXES | VIDEO_SUFFIXES:
        for name in ("low" + suffix, "up" + suffix.upper()):
            (tmp_path / name).write_text("")
    assert len(expand([str(tmp_path)])) == 2 * len(SUFFIXES | VIDEO_SUFFIXES)


def test_cameras_and_streams(tree):
    span = Span(every=3, end=5.0)
    camera, device, stream = expand(["0", "/dev/video2", "rtsp://me:secret@door.local:554/live/1?x=1"], span)
    assert (camera.name, camera.origin, str(camera.place), camera.span) == ("0", 0, "camera-0", span)
    assert (device.name, device.origin) == ("/dev/video2", 2)
    assert stream.origin == "rtsp://me:secret@door.local:554/live/1?x=1"
    assert stream.name == "rtsp://me:***@door.local:554/live/1?x=1"
    assert str(stream.place) == "door.local_live_1"
    (tree / "0").write_text("")  # a file of that name
    (named,) = expand(["0"])
    assert named == PictureFile(Path("0"), PurePath("0"))


def test_a_video_by_its_ending_or_its_content(tree):
    (tree / "clip").write_bytes(b"\0\0\0\x18ftypmp42")
    (tree / "clip.jpg").write_bytes(b"\0\0\0\x18ftypmp42")  # reading it says what it is
    kinds = {s.name: type(s) for s in expand(["clip", "clip.jpg", "gone.MOV", "gone", "notes.txt"])}
    assert kinds == {
        "clip": Video, "clip.jpg": PictureFile, "gone.MOV": Video, "gone": PictureFile,
        "notes.txt": PictureFile,
    }  # fmt: skip


def test_places_of_outputs_mirror_the_folder(tree):
    places = {s.name: str(s.place) for s in expand([str(tree), "**/*.webp", "deep/c.webp"])}
    assert places == {
        f"{tree}/a.PNG": "a", f"{tree}/b.jpg": "b", f"{tree}/deep/c.webp": "deep/c", "deep/c.webp": "c",
    }  # fmt: skip


@pytest.mark.parametrize("wrong", [{"every": 0}, {"start": -1.0}, {"start": 3.0, "end": 3.0}])
def test_a_span_without_frames(wrong):
    with pytest.raises(ValueError):
        Span(**wrong)
