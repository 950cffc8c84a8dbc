"""Arrays, paths and PIL images are one picture to the Predictor."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from popos_cli.errors import PoposError
from popos_cli.predict.images import as_rgb

PHOTO = Path(__file__).parents[2] / "docs/assets/astronaut.jpg"
TURN_RIGHT = 6  # EXIF: a viewer turns the stored picture to the right


@pytest.fixture(scope="module")
def photo():
    with Image.open(PHOTO) as image:
        return image.convert("RGB")


def saved(picture, form="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer


def turned(picture):
    """A JPEG whose pixels lie on their side, and whose EXIF says so."""
    exif = Image.Exif()
    exif[0x0112] = TURN_RIGHT
    return saved(picture.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=97, exif=exif)


def test_an_array_is_taken_as_it_is(photo):
    image = np.array(photo)
    assert as_rgb(image) is image


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_read(kind, photo):
    assert np.abs(as_rgb(kind(PHOTO)).astype(int) - np.array(photo)).max() <= 3  # two JPEG decoders


def test_files_and_pil_images_are_turned_upright(photo, tmp_path):
    path = tmp_path / "phone.jpg"
    path.write_bytes(turned(photo).getvalue())
    with Image.open(path) as opened:
        for image in (path, opened):
            assert np.abs(as_rgb(image).astype(int) - np.array(photo)).mean() < 3


def test_pil_images_of_every_mode(photo):
    grey = photo.convert("L")
    as_grey = np.repeat(np.array(grey)[..., None], 3, axis=2)
    deep = Image.fromarray(np.array(grey).astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    alpha = photo.convert("RGBA")
    alpha.putalpha(100)
    cases = {
        "L": grey,
        "LA": grey.convert("LA"),
        "I;16": deep,
        "F": grey.convert("F"),
        "I": grey.convert("I"),
    }
    for name, image in cases.items():
        np.testing.assert_array_equal(as_rgb(image), as_grey, err_msg=name)
    np.testing.assert_array_equal(as_rgb(alpha), np.array(photo))
    for mode, off in {"P": 30, "CMYK": 2, "YCbCr": 3, "1": 90, "HSV": 6}.items():
        image = as_rgb(photo.convert(mode))
        assert image.shape == (512, 512, 3) and image.dtype == np.uint8
        assert np.abs(image.astype(int) - np.array(photo)).mean() < off, mode


def test_a_path_to_nothing_is_named():
    with pytest.raises(PoposError, match=r"nowhere\.jpg: no such file"):
        as_rgb("nowhere.jpg")


@pytest.mark.parametrize("image", [None, 7, b"photo.jpg", [[1, 2]], np.zeros((5, 5), np.uint8)])
def test_anything_else_is_refused(image):
    with pytest.raises(ValueError, match="an image must be"):
        as_rgb(image)


def test_pil_is_not_imported_for_others():
    code = "import sys; from popos_cli.predict.images import as_rgb; as_rgb(sys.argv[1]); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code, PHOTO], capture_output=True, text=True, check=True)
    modules = loaded.stdout.split()
    assert "cv2" in modules and "PIL" not in modules and "torch" not in modules


@pytest.mark.parametrize(("mode", "factor"), [("F", 1 / 255), ("I", 257)])
def test_pil_images_of_an_unknown_range_are_refused(photo, mode, factor):
    """White or black would be seen, and no face."""
    values = np.array(photo.convert("L")).astype(np.float64) * factor
    image = Image.fromarray(values.astype(np.float32 if mode == "F" else np.int32))
    assert image.mode == mode
    with pytest.raises(ValueError, match="from 0 to 255"):
        as_rgb(image)
