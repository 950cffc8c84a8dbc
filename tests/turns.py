"""What a viewer makes of the stored pixels of a picture, by its EXIF orientation; and files that have one."""

import io

import numpy as np
from PIL import Image

TAG = 0x0112
TURNS = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: np.rot90(p),
}


def saved(picture, orientation, ending):
    """The bytes of a file with these stored pixels (H, W, 3) and this orientation (None: without one)."""
    exif = Image.Exif()
    tags = {} if orientation is None else {TAG: orientation}
    exif.update(tags)
    form, options = {
        "jpg": ("JPEG", {"exif": exif, "quality": 100, "subsampling": 0}),
        "png": ("PNG", {"exif": exif}),
        "webp": ("WEBP", {"exif": exif, "lossless": True}),
        "tif": ("TIFF", {"tiffinfo": tags}),
        "avif": ("AVIF", {"exif": exif, "quality": 100, "subsampling": "4:4:4"}),
    }[ending]
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, form, **options)
    return buffer.getvalue()
