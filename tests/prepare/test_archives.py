"""Archives as they are downloaded, broken, or made to do harm."""

import errno
import gzip
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile

import pytest

from popos_cli.errors import PoposError
from popos_cli.prepare import archives
from popos_cli.prepare.archives import Archive, extract_once, unpack_missing
from popos_cli.prepare.tree import Tree

AFW = {"afw/1.jpg": b"one", "afw/1.pts": b"version: 1\n", "afw/deep/er/2.PNG": b"two"}


def pack(path, entries, mode=None):
    """Write a zip or tar; entries: name, ZipInfo or TarInfo -> bytes. mode: that of a tar."""
    pairs = list(entries.items() if isinstance(entries, dict) else entries)
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in pairs:
                archive.writestr(name, data)
        return path
    with tarfile.open(path, mode or ("w" if path.suffix == ".tar" else "w:gz")) as archive:
        for entry, data in pairs:
            info = entry if isinstance(entry, tarfile.TarInfo) else tarfile.TarInfo(entry)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def content(folder):
    """Path below a folder -> bytes, of every file in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def unpacked(target):
    """Every folder that an archive was unpacked to; nothing else may lie there."""
    folders = sorted(target.glob("*/*"))
    assert all(re.fullmatch(r"[0-9a-f]{8}", folder.parent.name) for folder in folders)
    return folders


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "home" / "extracted" / "300w"


def archive_of(name, present=lambda tree: False):
    return Archive(re.escape(name), present)


def unpack(path, target, announce=print):
    """The content of the folder that `path` is unpacked to; the tree that is returned has the same files."""
    wanted = archive_of(path.name.removesuffix(".001"))
    tree = unpack_missing([wanted], Tree.below(path), target, announce)
    (folder,) = {folder for folder in tree.listing if folder.parent.parent == target}
    files = content(folder)
    assert folder in unpacked(target)
    assert {f.relative_to(folder).as_posix() for f in tree.files(r".*") if f != path} == set(files)
    return files


def refusal(path, target):
    """The error that unpacking ends in: one line that names the archive, and nothing left behind."""
    before = content(target)
    with pytest.raises(PoposError) as caught:
        unpack_missing([Archive(r"afw\..*", lambda tree: False)], Tree.below(path), target, print)
    message = caught.value.message
    assert str(path) in message and "\n" not in message and message.isprintable() and caught.value.hint
    assert content(target) == before and not list(target.glob(".*"))
    assert [p.name for p in target.parent.parent.rglob("*") if "evil" in p.name] == []
    return message


ENDINGS = pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tgz"])


@ENDINGS
def test_an_archive_is_unpacked(raw, target, ending):
    announced = []
    assert unpack(pack(raw / f"afw.{ending}", AFW), target, announced.append) == AFW
    assert announced == [f"afw.{ending}"] and os.listdir(raw) == [f"afw.{ending}"]
    (folder,) = unpacked(target)
    assert folder.name == "afw"  # with a top folder afw/ in the archive or without


def test_an_archive_is_recognised_by_its_bytes(raw, target):
    """Browsers unpack the .gz of a .tar.gz and keep the name."""
    assert unpack(pack(raw / "afw.tar.gz", AFW, "w"), target) == AFW


def split(path, sizes):
    data = path.read_bytes()
    for number, size in enumerate([*sizes, len(data)], start=1):
        path.with_name(f"{path.name}.{number:03d}").write_bytes(data[:size])
        data = data[size:]
    path.unlink()


@pytest.mark.parametrize("sizes", [[150, 150, 150], [1, 2, 3], [], [0, 40]])
def test_a_split_zip(raw, target, sizes):
    noise = {f"01_Indoor/indoor_{n:03d}.png": os.urandom(100) for n in range(1, 8)}
    split(pack(raw / "300w.zip", noise), sizes)
    announced = []
    # Whether all of the folder was named or only the first part.
    assert unpack(raw / "300w.zip.001", target, announced.append) == noise
    tree = unpack_missing([archive_of("300W.zip")], Tree.below(raw), target, announced.append)
    assert announced == ["300w.zip"] and len(list(tree.files(r"indoor_.*"))) == 7


@pytest.mark.parametrize("part", [1, 2, 3, 4])
def test_a_missing_part_is_named(raw, target, part):
    split(pack(raw / "afw.zip", AFW), [50, 50, 50])
    (raw / f"afw.zip.{part:03d}").unlink()
    message = rf"afw\.zip\.{part:03d}: .*missing" if part < 4 else r"afw\.zip \(3 parts\): .*broken or cut"
    with pytest.raises(PoposError, match=message):
        unpack_missing([archive_of("afw.zip")], Tree.below(raw), target, print)


def test_only_what_is_missing_is_unpacked(raw, target):
    """Also where an earlier archive has given it: colour and grey COFW."""
    pack(raw / "afw.zip", AFW)
    pack(raw / "ibug.zip", {"ibug/1.jpg": b""})
    pack(raw / "IBUG_grey.zip", {"ibug/2.jpg": b""})
    (raw / "afw").mkdir()

    def known(archive, folder):
        return archive_of(archive, lambda tree: any(tree.folders(folder)))

    names = {"afw.zip": "afw", "ibug.zip": "ibug", "ibug_grey.zip": "ibug", "lfpw.zip": "lfpw"}
    wanted = [known(archive, folder) for archive, folder in names.items()]
    tree = unpack_missing(wanted, Tree.below(raw), target, print)
    (folder,) = unpacked(target)
    assert raw in tree.listing and list(tree.files(r"\d\.jpg")) == [folder / "ibug/1.jpg"]
    assert unpack_missing(wanted, tree, target, print) is tree


def test_the_shallowest_is_taken_and_case_is_ignored(raw, target):
    (raw / "a" / "b").mkdir(parents=True)
    pack(raw / "a" / "b" / "afw.zip", {"deep.jpg": b""})
    pack(raw / "a" / "AFW.ZIP", {"shallow.jpg": b""})
    tree = unpack_missing([archive_of("afw.zip")], Tree.below(raw), target, print)
    assert [path.name for path in tree.files(r".*\.jpg")] == ["shallow.jpg"]


def test_a_changed_archive_gets_another_folder(raw, target):
    """An index that was made of the earlier one names pictures in there."""
    path, announced = pack(raw / "afw.zip", AFW), []
    unpack(path, target, announced.append)
    (earlier,) = unpacked(target)
    (earlier / "afw/1.jpg").write_bytes(b"mark")
    assert unpack(path, target, announced.append)["afw/1.jpg"] == b"mark" and len(announced) == 1
    path.rename(raw.parent / "kept.zip")
    pack(path, {"new.jpg": b"new"})
    assert unpack(path, target, announced.append) == {"new.jpg": b"new"} and len(announced) == 2
    assert content(earlier)["afw/1.jpg"] == b"mark" and len(unpacked(target)) == 2
    later = path.stat().st_mtime + 10
    os.utime(path, (later, later))
    unpack(path, target, announced.append)
    assert len(announced) == 3
    (raw.parent / "kept.zip").replace(path)  # the first download is back
    assert unpack(path, target, announced.append)["afw/1.jpg"] == b"mark" and len(announced) == 3


@pytest.mark.filterwarnings("ignore:Duplicate name")
@ENDINGS
def test_odd_names(raw, target, ending):
    """The last of two entries of one name counts; backslashes of Windows tools are folders."""
    entries = [("a.jpg", b"first"), ("./a.jpg", b"last"), ("ü/日本 _01.png", b"3"), ("afw\\sub\\1.jpg", b"1")]
    expected = {"a.jpg": b"last", "ü/日本 _01.png": b"3", "afw/sub/1.jpg": b"1"}
    assert unpack(pack(raw / f"afw.{ending}", entries), target) == expected


ESCAPES = [
    "../evil.jpg", "afw/../../evil.jpg", "/evil.jpg", "//host/share/evil.jpg", "..\\evil.jpg", "C:\\evil.jpg",
    "c:evil.jpg", "\\evil.jpg", "a/..\\../evil.jpg", "..", "__MACOSX/../../evil",
]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_entries_that_leave_the_folder_are_refused(raw, target, name):
    for ending in ("zip", "tar.gz"):
        message = refusal(pack(raw / f"afw.{ending}", {**AFW, name: b"evil"}), target)
        assert repr(name) in message and "would leave the folder" in message
    assert "\\udcff" in refusal(pack(raw / "afw.tar", {"\udcff/../../evil.jpg": b"evil"}), target)


def test_links_and_devices_are_skipped(raw, target):
    links = [
        (tarfile.SYMTYPE, "a.jpg", "../evil.jpg"), (tarfile.SYMTYPE, "images", "/etc"),
        (tarfile.SYMTYPE, "afw/up", ".."), (tarfile.LNKTYPE, "b.jpg", "/etc/passwd"),
        (tarfile.LNKTYPE, "c.jpg", "afw/1.jpg"), (tarfile.CHRTYPE, "d.jpg", ""),
        (tarfile.FIFOTYPE, "e.jpg", ""),
    ]  # fmt: skip
    entries = []
    for kind, name, aim in links:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, aim
        entries.append((info, b""))
    entries += [*AFW.items(), ("images/passwd", b"not through the link")]
    files = unpack(pack(raw / "afw.tar.gz", entries), target)
    assert files == AFW | {"images/passwd": b"not through the link"}
    link = zipfile.ZipInfo("link.jpg")
    link.create_system, link.external_attr = 3, (0o120777) << 16
    assert unpack(pack(raw / "b.zip", {link: b"/etc/passwd"}), target) == {"link.jpg": b"/etc/passwd"}
    assert not any(path.is_symlink() for path in target.rglob("*"))


@pytest.mark.parametrize("ending", ["zip", "tar.gz"])
def test_bombs_are_refused(raw, target, ending, monkeypatch):
    path = pack(raw / f"afw.{ending}", {"list.txt": b"0.0 " * 500_000})
    assert len(unpack(path, target)["list.txt"]) == 2_000_000  # a short text may well shrink so far
    pack(path, {"a.jpg": b"", "b.jpg": bytes(20_000_000)})
    monkeypatch.setattr(archives, "SLACK", 0)
    assert "50 times its size" in refusal(path, target)
    monkeypatch.setattr(archives, "MOST_ENTRIES", 2)
    assert "more than 2 entries" in refusal(pack(path, AFW), target)


@pytest.mark.parametrize("page", [b"<!DOCTYPE html>\n", b"\n \t<HTML><body>", b"\xef\xbb\xbf<!doctype HTML>"])
@pytest.mark.parametrize("name", ["afw.zip", "afw.tar.gz"])
def test_a_web_page_is_recognised(raw, target, name, page):
    (raw / name).write_bytes(page + b"<p>Please fill in the form</p></html>")
    assert f"{name} is an HTML page, not an archive" in refusal(raw / name, target)


@pytest.mark.parametrize("data", [b"", b"Rar!\x1a\7\0 and so on", b"PK and so on", b"\x1f\x8b and so on"])
def test_what_is_no_archive_is_refused(raw, target, data):
    (raw / "afw.zip").write_bytes(data)
    assert "broken or cut short" in refusal(raw / "afw.zip", target)


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.9, 0.999])
@ENDINGS
def test_a_cut_archive_is_refused(raw, target, ending, kept):
    path = pack(raw / f"afw.{ending}", {f"{number}.jpg": os.urandom(3000) for number in range(20)})
    data = path.read_bytes()
    if ending == "tar":  # its last bytes are padding
        data = data[: 20 * 3584 - 80]
    path.write_bytes(data[: int(kept * len(data))])
    assert "broken or cut short" in refusal(path, target)


def patched(path, offset, form, value):
    """Put a number into the first entry of a zip's directory."""
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\1\2") + offset
    data[start : start + struct.calcsize(form)] = struct.pack(form, value)
    path.write_bytes(data)


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def spoil_checksum(path):
    """Behind the end of the tar, which is padded to a tape's block."""
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(1_000_000))[:-8] + bytes(8))


@pytest.mark.parametrize(
    "ending, spoil, reason",
    [
        ("zip", flip_a_byte, ""),
        ("tar.gz", flip_a_byte, ""),
        ("tar.gz", spoil_checksum, "CRC check failed"),
        ("zip", lambda path: patched(path, 24, "<I", 10), ""),  # bytes that the first entry announces
        ("zip", lambda path: patched(path, 24, "<I", 100_000), "3000 bytes instead of 100000"),
        ("zip", lambda path: patched(path, 8, "<H", 1), "encrypted"),
        ("zip", lambda path: patched(path, 10, "<H", 99), "compression method"),
    ],
)
def test_a_damaged_archive_leaves_no_folder_and_the_earlier_one(raw, target, ending, spoil, reason):
    path = pack(raw / f"afw.{ending}", AFW)
    unpack(path, target)
    pack(path, files := {f"{number}.jpg": os.urandom(3000) for number in range(5)})
    spoil(path)
    message = refusal(path, target)
    assert "broken or cut short" in message and reason in message
    assert [content(folder) for folder in unpacked(target)] == [AFW]
    assert unpack(pack(path, files), target) == files


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_an_early_end_leaves_no_folder_and_the_earlier_one(raw, target, monkeypatch, failure):
    path = pack(raw / "afw.zip", AFW)
    unpack(path, target)
    pack(path, files := {f"{number}.jpg": b"new" for number in range(3)})
    copy, copied = shutil.copyfileobj, []

    def fail_at_the_second(*args):
        copied.append(copy(*args))
        if len(copied) == 2:
            raise failure

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", fail_at_the_second)
        if isinstance(failure, OSError):
            message = refusal(path, target)
            assert "No space left on device" in message and f"to {target}:" in message
        else:
            with pytest.raises(KeyboardInterrupt):
                unpack(path, target)
    assert len(copied) == 2 and [content(folder) for folder in unpacked(target)] == [AFW]
    assert unpack(path, target) == files


def test_what_cannot_be_read_or_written_is_named(raw, target):
    (raw / "afw.zip").symlink_to(raw / "gone.zip")
    with pytest.raises(PoposError, match=r"cannot unpack .*afw\.zip.*No such file"):
        unpack_missing([archive_of("afw.zip")], Tree.below(raw), target, print)
    (raw / "afw.zip").unlink()
    target.parent.parent.mkdir()
    target.parent.write_bytes(b"a file")
    with pytest.raises(PoposError, match=r"cannot unpack .*afw\.zip"):
        unpack_missing([archive_of("afw.zip")], Tree.below(pack(raw / "afw.zip", AFW)), target, print)


ANOTHER_PROCESS = """
import sys, time
from pathlib import Path
from popos_cli.prepare.archives import extract_once
def extract(folder):
    (folder / "1.jpg").write_bytes(b"half")
    print("half", flush=True)
    time.sleep(60 if "hang" in sys.argv else 0)
print(extract_once([Path(sys.argv[1])], Path(sys.argv[2]), extract))
"""


def start(*arguments):
    command = [sys.executable, "-c", ANOTHER_PROCESS, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_others_wait_and_find_the_content(raw, target):
    """Another process, and another thread of this one."""
    path, others, given = pack(raw / "afw.zip", AFW), [], []
    thread = threading.Thread(target=lambda: given.append(extract_once([path], target, pytest.fail)))

    def extract(folder):
        others.append(start(path, target))
        thread.start()
        with pytest.raises(subprocess.TimeoutExpired):
            others[0].wait(1)  # s
        assert thread.is_alive()
        (folder / "1.jpg").write_bytes(b"whole")

    folder = extract_once([path], target, extract)
    thread.join()
    assert given == [folder] and others[0].communicate()[0] == f"{folder}\n"
    assert content(target) == {f"{folder.name}/1.jpg": b"whole"}


def test_a_killed_process_is_cleared_up_after(raw, target):
    path = pack(raw / "afw.zip", AFW)
    process = start(path, target, "hang")
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.wait()
    assert [name for name in os.listdir(target) if name.endswith(".tmp")]
    assert unpack(path, target) == AFW
    assert os.listdir(target) == [folder.parent.name for folder in unpacked(target)]
