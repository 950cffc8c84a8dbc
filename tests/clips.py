"""Small real videos, written by OpenCV, and what can happen to their files."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

SIZE = (160, 120)


def numbered(count):
    """Pictures BGR with their number in black and white, a bit every 20 pixels; a red corner."""
    pictures = []
    for number in range(count):
        picture = np.full((SIZE[1], SIZE[0], 3), 127, np.uint8)
        picture[:40, :40] = (0, 0, 255)
        for bit in range(8):
            picture[60:, 20 * bit : 20 * bit + 20] = 255 * (number >> bit & 1)
        pictures.append(picture)
    return pictures


def number_of(image):
    """The number of a picture of `numbered`, RGB, after a codec."""
    return sum((image[70:110, 20 * bit + 5 : 20 * bit + 15].mean() > 127) << bit for bit in range(8))


def moving_face(photo, count):
    """A face that moves two pixels a frame to the left, BGR (240, 320, 3)."""
    picture = cv2.imread(str(photo))
    return [np.ascontiguousarray(picture[20:260, 60 + 2 * n : 380 + 2 * n]) for n in range(count)]


def write_clip(path, pictures, rate=25.0, codec="mp4v"):
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (width, height))
    assert writer.isOpened()
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return Path(path)


def turned(path):
    """Have players turn this MP4 to the right, as a phone does that was held upright: the matrix of its track
    header (ISO 14496-12) then rotates by 90 degrees."""
    data = bytearray(path.read_bytes())
    matrix = data.find(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", data[matrix : matrix + 36])[:2] == (0x10000, 0)
    rotation = (0, 0x10000, 0, -0x10000, 0, 0, SIZE[1] << 16, 0, 0x40000000)
    data[matrix : matrix + 36] = struct.pack(">9i", *rotation)
    path.write_bytes(data)
    return path


def trimmed(path):
    """Have players end this MP4 at its half, as phones do: its edit list then is half as long."""
    data = bytearray(path.read_bytes())
    duration = data.find(b"elst") + 12
    (whole,) = struct.unpack(">I", data[duration : duration + 4])
    data[duration : duration + 4] = struct.pack(">I", whole // 2)
    path.write_bytes(data)
    return path


def cut(path, share):
    """Keep this share of the file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def index_first(path):
    """The MP4 as the web has it, its index before its pictures: only then can a torn one be played."""
    data = path.read_bytes()
    start, boxes = 0, {}
    while start < len(data):
        size = int.from_bytes(data[start : start + 4], "big")
        boxes[data[start + 4 : start + 8]] = data[start : start + size]
        start += size
    index = bytearray(boxes[b"moov"])
    table = index.find(b"stco") + 8
    (count,) = struct.unpack(">I", index[table : table + 4])
    for place in range(table + 4, table + 4 + 4 * count, 4):
        (offset,) = struct.unpack(">I", index[place : place + 4])
        index[place : place + 4] = struct.pack(">I", offset + len(index))
    rest = b"".join(box for kind, box in boxes.items() if kind not in (b"ftyp", b"moov"))
    path.write_bytes(boxes[b"ftyp"] + bytes(index) + rest)
    return path
