"""The examples of docs/how-to/python.md, as they stand there."""

from __future__ import annotations

import json
import re
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from popos_cli.core.geometry import transform
from popos_cli.data.pictures import read_image

from .conftest import REPOSITORY

FIRST = "popos in Python"
SECTIONS = re.split(r"^#+ ", (REPOSITORY / "docs/how-to/python.md").read_text(), flags=re.MULTILINE)[1:]
EXAMPLES = {
    section.partition("\n")[0]: "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    for section in SECTIONS
}


@pytest.fixture
def run(home, astronaut, hopper, tmp_path):
    """Runs the first example and then, as one would go on, that of another heading; its names."""
    shutil.copy(astronaut, tmp_path / "photo.jpg")
    (tmp_path / "photos").mkdir()
    for photo in (astronaut, hopper):
        shutil.copy(photo, tmp_path / "photos")

    def run(heading, after_first=True):
        names = {"__name__": "example"}
        for example in ([FIRST] if after_first else []) + [heading]:
            exec(compile(EXAMPLES[example], f"docs/how-to/python.md: {example}", "exec"), names)
        return names

    return run


@pytest.fixture
def clip(tmp_path, astronaut):
    """Writes clip.mp4 of so many frames, 25 a second, and returns the photo (300, 360, 3) that each shows."""

    def clip(frames):
        photo = cv2.imread(str(astronaut))[:300, :360]
        writer = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (360, 300))
        for _ in range(frames):
            writer.write(photo)
        writer.release()
        return photo

    return clip


def test_faces_of_a_path(run, capsys):
    (face,) = run(FIRST, after_first=False)["faces"]
    assert face["left eye"].shape == (6, 2)
    assert "(68, 2)" in capsys.readouterr().out


def test_many_pictures(run, capsys):
    run("Many pictures")
    assert capsys.readouterr().out.splitlines()[-2:] == ["astronaut.jpg 1", "grace_hopper.jpg 1"]


def test_videos(run, clip, capsys):
    clip(6)
    run("Videos")
    assert capsys.readouterr().out.splitlines()[-2:] == ["0 0.0 [0]", "5 0.2 [0]"]


def test_a_box(run):
    names = run("Boxes of your own")
    np.testing.assert_allclose(names["face"].points, names["faces"][0].points, atol=8)


def test_overlays_json_and_tables(run, tmp_path):
    names = run("Overlays, JSON, tables")
    drawn = np.array(Image.open(tmp_path / "overlay.png"))
    np.testing.assert_array_equal(drawn, names["faces"].plot("photo.jpg", uncertainty=True))
    assert json.loads((tmp_path / "faces.json").read_text())["scheme"] == "300w"
    header, row = (tmp_path / "faces.csv").read_text().splitlines()
    assert header.startswith("source,frame,face_id,timestamp,confidence,success,x_0")
    assert len(row.split(",")) == 6 + 3 * 68


def test_aligned_crops(run, tmp_path):
    names = run("Aligned crops")
    assert np.array(Image.open(tmp_path / "crop.png")).shape == (256, 256, 3)
    face = names["faces"][0]
    eyes = [transform(face[n].astype(float), names["matrix"]).mean(0) for n in ("left eye", "right eye")]
    np.testing.assert_allclose((np.array(eyes) + 0.5) / 256, [[0.36, 0.40], [0.64, 0.40]], atol=0.02)


def test_supervision(run):
    pytest.importorskip("supervision")
    names = run("supervision")
    assert (names["annotated"] != names["faces"].plot("photo.jpg")).any()


def test_a_web_server(run, astronaut):
    testing = pytest.importorskip("fastapi.testclient")
    client = testing.TestClient(run("A web server", after_first=False)["app"])
    jpeg = {"Content-Type": "image/jpeg"}
    answer = client.post("/faces", content=astronaut.read_bytes(), headers=jpeg)
    assert answer.status_code == 200
    (face,) = answer.json()["faces"]
    assert np.array(face["landmarks"]).shape == (68, 2)
    for bad in (b"no picture", astronaut.read_bytes()[:9000]):
        answer = client.post("/faces", content=bad, headers=jpeg)
        assert (answer.status_code, answer.json()) == (400, {"detail": "not a picture"})


def test_a_demo_in_the_browser(run, monkeypatch, tmp_path):
    """Over the network of this machine, as a browser would."""
    pytest.importorskip("gradio")
    client = pytest.importorskip("gradio_client")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    names = run("A demo in the browser", after_first=False)
    demo = names["demo"]
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True)
    try:
        caller = client.Client(address, verbose=False, download_files=str(tmp_path / "answers"))
        answer = caller.predict(client.handle_file("photo.jpg"), api_name="/draw")
        drawn = np.array(Image.open(answer).convert("RGB")).astype(int)
    finally:
        demo.close()
    expected = names["predictor"]("photo.jpg").plot("photo.jpg")
    dots = (expected != read_image(tmp_path / "photo.jpg", upright=True)).any(axis=2)
    off = np.abs(drawn - expected)  # WebP's
    assert off.mean() < 5 and off[dots].mean() < 20


def test_a_camera(run, monkeypatch, clip):
    """The camera is a video of the photo, and the window a list."""
    photo = clip(3)
    shown, real = [], cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: real("clip.mp4"))
    monkeypatch.setattr(cv2, "imshow", lambda title, picture: shown.append(picture))
    monkeypatch.setattr(cv2, "waitKey", lambda milliseconds: -1)
    run("A camera", after_first=False)
    assert len(shown) == 3
    for picture in shown:
        green = (np.abs(picture.astype(int) - (64, 255, 64)).max(axis=2) < 60).sum()
        assert green > 50  # dots: the picture is BGR, their colour is the same
        assert np.abs(picture[250:].astype(int) - photo[250:]).mean() < 15  # and so are the photo's
