"""Archives as they are downloaded, broken, or made to do harm."""

import errno
import gzip
import io
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from popos_cli.errors import PoposError
from popos_cli.prepare import archives, unpacking
from popos_cli.prepare.archives import Archive, unpack_missing
from popos_cli.prepare.tree import Tree

AFW = {"afw/1.jpg": b"one", "afw/1.pts": b"version: 1\n", "afw/deep/er/2.PNG": b"two"}
TARS = {"tar": "w", "tar.gz": "w:gz", "tgz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}


def write_zip(path, entries, method=zipfile.ZIP_DEFLATED):
    """entries: name or ZipInfo -> bytes, or pairs of them where names come twice."""
    pairs = entries.items() if isinstance(entries, dict) else entries
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in pairs:
            archive.writestr(name, data)
    return path


def write_tar(path, entries, mode="w:gz", form=tarfile.PAX_FORMAT):
    """entries: name or TarInfo -> bytes, or pairs of them."""
    pairs = entries.items() if isinstance(entries, dict) else entries
    with tarfile.open(path, mode, format=form) as archive:
        for entry, data in pairs:
            info = entry if isinstance(entry, tarfile.TarInfo) else tarfile.TarInfo(entry)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def tar_entry(name, kind, linkname=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info


def content(folder):
    """Path below a folder -> bytes, of every file in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def unpacked(target):
    """Every folder that an archive was unpacked to; nothing else may lie there."""
    folders = sorted(target.glob("*/*"))
    assert all(re.fullmatch(r"[0-9a-f]{8}", folder.parent.name) for folder in folders)
    return folders


def home_of(target, name):
    """The one folder that an archive of that name was unpacked to."""
    (folder,) = target.glob(f"[!.]*/{name}")
    return folder


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "home" / "extracted" / "300w"


def absent(tree):
    return False


def unpack(path, target, told=None):
    """What `path` gives, as `content` has it; the tree that came back must have the same."""
    name = path.name.removesuffix(".001")
    tree = unpack_missing([Archive(name.replace(".", r"\."), absent)], Tree.below(path), target, told)
    (folder,) = {folder for folder in tree.listing if folder.parent.parent == target}
    assert folder in unpacked(target)
    files = content(folder)
    assert {f.relative_to(folder).as_posix() for f in tree.files(r"[^.].*") if f != path} == set(files)
    return files


def refusal(path, target):
    """The error that unpacking ends in: one line that names the archive, and nothing left behind."""
    before, folders = content(target), unpacked(target)
    with pytest.raises(PoposError) as caught:
        unpack_missing([Archive(r"afw\..*", absent)], Tree.below(path), target)
    message = caught.value.message
    assert str(path) in message and "\n" not in message and caught.value.hint
    assert content(target) == before and unpacked(target) == folders and not list(target.glob(".*"))
    assert [p.name for p in target.parent.parent.rglob("*") if "evil" in p.name] == []
    return message


def test_a_zip(raw, target):
    told = []
    assert unpack(write_zip(raw / "afw.zip", AFW), target, told.append) == AFW
    assert told == ["afw.zip"]
    assert (home_of(target, "afw") / "afw" / "1.jpg").is_file()  # its own top folder stays
    assert os.listdir(raw) == ["afw.zip"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("ending", TARS)
def test_tars(raw, target, ending, form):
    assert unpack(write_tar(raw / f"afw.{ending}", AFW, TARS[ending], form), target) == AFW
    assert unpacked(target) == [home_of(target, "afw")]


def test_an_archive_is_what_its_bytes_are(raw, target):
    """Browsers unpack the .gz of a .tar.gz and keep the name."""
    assert unpack(write_tar(raw / "afw.tar.gz", AFW, "w"), target) == AFW


def split(path, sizes):
    data = path.read_bytes()
    for number, size in enumerate([*sizes, len(data)], start=1):
        path.with_name(f"{path.name}.{number:03d}").write_bytes(data[:size])
        data = data[size:]
    path.unlink()


@pytest.mark.parametrize("sizes", [[150, 150, 150], [1, 2, 3], [], [0, 40]])
def test_a_split_zip(raw, target, sizes):
    noise = {f"01_Indoor/indoor_{n:03d}.png": os.urandom(100) for n in range(1, 8)}
    split(write_zip(raw / "300w.zip", noise), sizes)
    told = []
    # Whether all of the folder was named or only the first part.
    assert unpack(raw / "300w.zip.001", target, told.append) == noise
    tree = unpack_missing([Archive(r"300W\.zip", absent)], Tree.below(raw), target, told.append)
    assert told == ["300w.zip"]
    assert len(list(tree.files(r"indoor_.*"))) == 7


def test_a_split_zip_larger_than_buffers(raw, target):
    noise = {"a.jpg": os.urandom(400_000), "b.jpg": os.urandom(300_000)}
    split(write_zip(raw / "300w.zip", noise), [65_536, 65_537, 200_001])
    assert unpack(raw / "300w.zip.001", target) == noise


@pytest.mark.parametrize("missing", ["001", "002", "003"])
def test_a_missing_part_is_named(raw, target, missing):
    split(write_zip(raw / "afw.zip", AFW), [50, 50, 50])
    (raw / f"afw.zip.{missing}").unlink()
    with pytest.raises(PoposError, match=rf"afw\.zip\.{missing}: .*missing"):
        unpack_missing([Archive(r"afw\.zip", absent)], Tree.below(raw), target)


def test_a_missing_last_part(raw, target):
    split(write_zip(raw / "afw.zip", AFW), [50, 50, 50])
    (raw / "afw.zip.004").unlink()
    with pytest.raises(PoposError, match=r"afw\.zip \(parts \.001 to \.003\): .*broken or cut short"):
        unpack_missing([Archive(r"afw\.zip", absent)], Tree.below(raw), target)


def test_only_what_is_missing_is_unpacked(raw, target):
    write_zip(raw / "afw.zip", AFW)
    write_zip(raw / "ibug.zip", {"ibug/1.jpg": b""})
    (raw / "afw").mkdir()
    known = [Archive(rf"{n}\.zip", lambda t, n=n: any(t.folders(n))) for n in ("afw", "ibug", "lfpw")]
    tree = unpack_missing(known, Tree.below(raw), target)
    assert unpacked(target) == [home_of(target, "ibug")]
    assert list(tree.files(r"1\.jpg")) == [home_of(target, "ibug") / "ibug" / "1.jpg"]
    assert raw in tree.listing
    assert unpack_missing(known, tree, target) is tree


def test_a_flat_archive_lies_in_a_folder_of_its_name(raw, target):
    """afw.zip with and without a top folder afw/ is found by that name."""
    write_zip(raw / "afw.zip", {"1.jpg": b""})
    tree = unpack_missing([Archive(r"afw\.zip", absent)], Tree.below(raw), target)
    assert list(tree.folders("afw")) == [home_of(target, "afw")]


def test_an_archive_is_passed_by_for_what_an_earlier_one_gave(raw, target):
    write_zip(raw / "COFW.zip", {"COFW_test.mat": b""})
    write_zip(raw / "COFW_color.zip", {"COFW_test_color.mat": b""})
    labels = [
        Archive(p, lambda tree: any(tree.files(r".*\.mat"))) for p in (r"COFW_color\.zip", r"COFW\.zip")
    ]
    unpack_missing(labels, Tree.below(raw), target)
    assert unpacked(target) == [home_of(target, "COFW_color")]


def test_the_shallowest_is_taken_and_case_is_nothing(raw, target):
    (raw / "a" / "b").mkdir(parents=True)
    write_zip(raw / "a" / "b" / "afw.zip", {"deep.jpg": b""})
    write_zip(raw / "a" / "AFW.ZIP", {"shallow.jpg": b""})
    tree = unpack_missing([Archive(r"afw\.zip", absent)], Tree.below(raw), target)
    assert content(home_of(target, "AFW")) == {"shallow.jpg": b""}
    assert any(tree.files(r"shallow\.jpg"))


def test_an_archive_is_unpacked_once_and_anew_when_it_changes(raw, target):
    path, told = write_zip(raw / "afw.zip", AFW), []
    unpack(path, target, told.append)
    (home_of(target, "afw") / "afw" / "1.jpg").write_bytes(b"mark")
    assert unpack(path, target, told.append)["afw/1.jpg"] == b"mark" and len(told) == 1
    write_zip(path, {"new.jpg": b"new"})
    assert unpack(path, target, told.append) == {"new.jpg": b"new"} and len(told) == 2
    later = path.stat().st_mtime + 10
    os.utime(path, (later, later))
    unpack(path, target, told.append)
    assert len(told) == 3 and [folder.name for folder in unpacked(target)] == ["afw"] * 3


def test_a_changed_archive_leaves_the_earlier_folder_as_it_is(raw, target):
    """An index that was made of it names pictures in there."""
    path, told = write_zip(raw / "afw.zip", AFW), []
    unpack(path, target, told.append)
    earlier = home_of(target, "afw")
    times = {file: file.stat().st_mtime_ns for file in (earlier, *earlier.rglob("*"))}
    path.rename(raw.parent / "kept.zip")
    write_zip(path, {"afw/1.jpg": b"another", "new.jpg": b"new"})
    assert unpack(path, target, told.append) == {"afw/1.jpg": b"another", "new.jpg": b"new"}
    assert len(unpacked(target)) == 2 and content(earlier) == AFW
    assert {file: file.stat().st_mtime_ns for file in (earlier, *earlier.rglob("*"))} == times
    (raw.parent / "kept.zip").replace(path)  # the first download is back
    assert unpack(path, target, told.append) == AFW
    assert told == ["afw.zip"] * 2 and len(unpacked(target)) == 2


def test_only_pictures_and_labels_are_written(raw, target):
    wanted = {"a.jpg": b"1", "b/c.Mat": b"2", "ü/日本 _01.png": b"3", "r.json": b"4", "./s.csv": b"5"}
    others = ["README", "run.sh", "a.exe", "jpg", "b.jpg/", "__MACOSX/a.jpg", "b/__MACOSX/._a.jpg", "._a.jpg"]
    others += [".git/x.txt", "b/.hidden.json", ".hidden.json", "odd\u202e.jpg", "line\nbreak.jpg", ".jpg"]
    expected = {name.removeprefix("./"): data for name, data in wanted.items()}
    entries = wanted | {name: b"other" if name[-1] != "/" else b"" for name in others}
    assert unpack(write_zip(raw / "afw.zip", entries), target) == expected
    shutil.rmtree(target)
    entries["bytes\udcff.jpg"] = b"not unicode"
    entries["nül\0.jpg"] = b"no name"
    entries.pop("b.jpg/")
    assert unpack(write_tar(raw / "afw.tar.gz", entries), target) == expected


def test_backslashes_of_windows_tools_are_folders(raw, target):
    assert unpack(write_zip(raw / "afw.zip", {"afw\\sub\\1.jpg": b"1"}), target) == {"afw/sub/1.jpg": b"1"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_come_twice(raw, target):
    twice = [("a.jpg", b"first one"), ("b.jpg", b"b"), ("./a.jpg", b"other"), ("a.jpg", b"last")]
    assert unpack(write_zip(raw / "afw.zip", twice), target) == {"a.jpg": b"last", "b.jpg": b"b"}
    shutil.rmtree(target)
    assert unpack(write_tar(raw / "afw.tar", twice, "w"), target) == {"a.jpg": b"last", "b.jpg": b"b"}


ESCAPES = [
    "../evil.jpg", "afw/../../evil.jpg", "/evil.jpg", "//host/share/evil.jpg", "..\\evil.jpg", "C:\\evil.jpg",
    "c:evil.jpg", "\\evil.jpg", "a/..\\../evil.jpg", "..", "../evil.exe", "__MACOSX/../../evil", "a/C:/evil",
]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_entries_that_leave_the_folder_are_refused(raw, target, name):
    entries = {**AFW, name: b"evil"}
    for path in (write_zip(raw / "afw.zip", entries), write_tar(raw / "afw.tar.gz", entries)):
        message = refusal(path, target)
        assert repr(name) in message and "would leave the folder" in message


def test_no_entry_leaves_the_folder_even_if_its_name_was_made_of_bytes(raw, target):
    path = write_tar(raw / "afw.tar", {"\udcff/../../evil.jpg": b"evil"})
    assert "\\udcff" in refusal(path, target)  # printable on any terminal


LINKS = [
    (tarfile.SYMTYPE, "a.jpg", "../evil.jpg"),
    (tarfile.SYMTYPE, "a.jpg", "/etc/passwd"),
    (tarfile.SYMTYPE, "sub/a", "../../evil"),
    (tarfile.LNKTYPE, "sub/a.jpg", "../evil.jpg"),
    (tarfile.LNKTYPE, "a.jpg", "/etc/passwd"),
    (tarfile.CHRTYPE, "a.jpg", ""),
    (tarfile.BLKTYPE, "a.jpg", ""),
    (tarfile.FIFOTYPE, "a.jpg", ""),
]


@pytest.mark.parametrize("kind, name, aim", LINKS)
def test_what_tarfiles_data_filter_refuses_is_refused(raw, target, tmp_path, kind, name, aim):
    entry = tar_entry(name, kind, aim)
    with pytest.raises(tarfile.FilterError):
        tarfile.data_filter(entry, str(tmp_path / "any"))
    path = write_tar(raw / "afw.tar", [*AFW.items(), (entry, b"")])
    assert repr(name) in refusal(path, target)


def test_links_inside_a_tar_become_copies(raw, target):
    links = [
        (tar_entry("early.jpg", tarfile.SYMTYPE, "afw/1.jpg"), b""),
        *AFW.items(),
        (tar_entry("afw/hard.jpg", tarfile.LNKTYPE, "afw/1.jpg"), b""),
        (tar_entry("afw/soft.jpg", tarfile.SYMTYPE, "../afw/1.jpg"), b""),
        (tar_entry("self.jpg", tarfile.SYMTYPE, "self.jpg"), b""),
        (tar_entry("afw/1.jpg", tarfile.LNKTYPE, "afw/1.jpg"), b""),
        (tar_entry("lost.jpg", tarfile.SYMTYPE, "nowhere.jpg"), b""),
        (tar_entry("images", tarfile.SYMTYPE, "afw"), b""),
        (tar_entry("afw/up", tarfile.SYMTYPE, ".."), b""),
        (tarfile.TarInfo("images/3.jpg"), b"three"),  # not through the link
    ]
    copies = dict.fromkeys(("early.jpg", "afw/hard.jpg", "afw/soft.jpg"), b"one")
    assert unpack(write_tar(raw / "afw.tar.gz", links), target) == AFW | copies | {"images/3.jpg": b"three"}
    assert not any(path.is_symlink() for path in target.rglob("*"))


def test_symbolic_links_in_a_zip_are_passed_by(raw, target):
    link = zipfile.ZipInfo("link.jpg")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert unpack(write_zip(raw / "afw.zip", {**AFW, link: b"/etc/passwd"}), target) == AFW


@pytest.fixture
def tight(monkeypatch):
    """No slack beside the 50 times, so that bombs may be small."""
    monkeypatch.setattr(unpacking, "SLACK", 0)


def test_a_zip_bomb_is_refused_before_anything_is_written(raw, target, tight, monkeypatch):
    monkeypatch.setattr(unpacking, "_write", None)
    path = write_zip(raw / "afw.zip", {"a.jpg": b"", "b.jpg": bytes(2_000_000)})
    assert "more than 50 times its size" in refusal(path, target)


@pytest.mark.parametrize("name", ["a.jpg", "skipped.bin"])
def test_a_tar_bomb_is_refused_on_the_way(raw, target, tight, name):
    path = write_tar(raw / "afw.tar.gz", {"first.jpg": b"1", name: bytes(20_000_000)})
    assert "more than 50 times its size" in refusal(path, target)


def test_a_tar_bomb_in_a_header_is_refused(raw, target):
    info = tarfile.TarInfo("a.jpg")
    info.pax_headers = {"comment": "x" * 3_000_000}
    assert "a header of 3000" in refusal(write_tar(raw / "afw.tar.gz", [(info, b"")]), target)


def test_headers_that_never_end_are_refused(raw, target):
    """Each long name is followed by another instead of its file."""
    long_name = tar_entry("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    path = write_tar(raw / "afw.tar.gz", [(long_name, b"a.jpg\0")] * 2000, form=tarfile.GNU_FORMAT)
    assert "broken" in refusal(path, target)


def test_the_slack_lets_small_archives_be(raw, target):
    """A short text may well shrink more than fifty times."""
    text = {"list.txt": b"0.0 " * 500_000}
    assert (path := write_zip(raw / "afw.zip", text)).stat().st_size * 50 < 2_000_000
    assert unpack(path, target) == text


def test_more_than_the_disk_has_is_refused(raw, target, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2_000_000))
    files = {"a.jpg": os.urandom(1_500_000), "b.jpg": os.urandom(1_500_000)}
    for path in (write_zip(raw / "afw.zip", files), write_tar(raw / "afw.tar.gz", files)):
        assert "only 2 MB are free" in refusal(path, target)


def test_too_many_entries_are_refused(raw, target, monkeypatch):
    monkeypatch.setattr(unpacking, "MOST_ENTRIES", 3)
    assert unpack(write_zip(raw / "afw.zip", AFW), target) == AFW
    shutil.rmtree(target)
    many = {**AFW, "README": b""}
    for path in (write_zip(raw / "afw.zip", many), write_tar(raw / "afw.tar.gz", many)):
        assert "more than 3 entries" in refusal(path, target)


def patched(path, name, offset, value):
    """Put a 32-bit number into the directory entry of a name in a zip."""
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\1\2")
    while data[start + 46 : start + 46 + len(name)] != name.encode():
        start = data.index(b"PK\1\2", start + 1)
    data[start + offset : start + offset + 4] = struct.pack("<I", value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("announced", [10, 100_000])
def test_a_zip_entry_of_another_size_than_announced_is_refused(raw, target, announced):
    path = write_zip(raw / "afw.zip", {"a.jpg": b"x" * 50_000, "b.jpg": b""})
    assert "broken" in refusal(patched(path, "a.jpg", 24, announced), target)


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html>\n<html>", b"\n \t<HTML><body>", b"\xef\xbb\xbf<!doctype HTML>"]
)
@pytest.mark.parametrize("name", ["afw.zip", "afw.tar.gz"])
def test_a_web_page_is_recognised(raw, target, name, page):
    (raw / name).write_bytes(page + b"<p>Please fill in the form</p></html>")
    message = refusal(raw / name, target)
    assert f"{name} is an HTML page, not an archive" in message and "form or a login page" in message


@pytest.mark.parametrize(
    "data, message", [(b"", "empty"), (b"Rar!\x1a\7\0 and so on", "neither a zip nor a tar")]
)
def test_what_is_no_archive_is_refused(raw, target, data, message):
    (raw / "afw.zip").write_bytes(data)
    assert message in refusal(raw / "afw.zip", target)


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("ending", ["zip", *TARS])
def test_a_cut_archive_is_refused(raw, target, ending, kept):
    files = {f"{number}.jpg": os.urandom(3000) for number in range(20)}
    path = raw / f"afw.{ending}"
    write_zip(path, files) if ending == "zip" else write_tar(path, files, TARS[ending])
    data = path.read_bytes()
    if ending == "tar":  # its last bytes are padding
        data = data[: 20 * 3584 + 512]
    path.write_bytes(data[: int(kept * len(data))])
    assert "broken or cut short" in refusal(path, target)


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_damaged_byte_is_noticed(raw, target, ending):
    files = {f"{number}.jpg": os.urandom(3000) for number in range(5)}
    path = raw / f"afw.{ending}"
    write_zip(path, files) if ending == "zip" else write_tar(path, files, TARS[ending])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    assert "broken or cut short" in refusal(path, target)


def test_a_wrong_checksum_behind_the_end_of_a_tar_is_noticed(raw, target):
    data = write_tar(raw / "afw.tar", AFW, "w").read_bytes() + bytes(1_000_000)  # padded to a tape's block
    path = raw / "afw.tar.gz"
    path.write_bytes(gzip.compress(data))
    assert unpack(path, target) == AFW
    path.write_bytes(gzip.compress(data)[:-8] + bytes(8))
    assert "CRC check failed" in refusal(path, target)


def test_a_damaged_header_inside_a_tar_is_not_its_end(raw, target):
    path = write_tar(
        raw / "afw.tar", {"a.jpg": b"1", "b.jpg": b"2", "c.jpg": b"3"}, "w", tarfile.USTAR_FORMAT
    )
    data = bytearray(path.read_bytes())
    data[1024 + 150] ^= 1  # in the checksum of b.jpg's header
    path.write_bytes(data)
    assert "bad checksum" in refusal(path, target)


def test_an_encrypted_zip_is_refused(raw, target):
    path = write_zip(raw / "afw.zip", AFW)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0", 1))
    assert "encrypted" in refusal(path, target) and "password" in refusal(path, target)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_of_a_zip_are_refused(raw, target, method):
    assert f"not read here ({method})" in refusal(write_zip(raw / "afw.zip", AFW, method), target)


@pytest.mark.parametrize("ending", ["zip", "tar.gz"])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_an_early_end_leaves_no_folder_and_the_earlier_one(raw, target, monkeypatch, ending, failure):
    path = raw / f"afw.{ending}"

    def write(files):
        write_zip(path, files) if ending == "zip" else write_tar(path, files)

    write(AFW)
    unpack(path, target)
    earlier, homes = home_of(target, "afw"), os.listdir(target)
    write({"1.jpg": b"new", "2.jpg": b"new", "3.jpg": b"new"})
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
    assert len(copied) == 2
    assert content(earlier) == AFW and os.listdir(target) == homes and unpacked(target) == [earlier]
    assert len(unpack(path, target)) == 3  # the earlier folder does not come to stand for the new one
    assert content(earlier) == AFW


def test_a_broken_archive_leaves_no_folder_and_the_earlier_one(raw, target):
    path = write_zip(raw / "afw.zip", AFW)
    unpack(path, target)
    earlier, homes = home_of(target, "afw"), os.listdir(target)
    files = {f"{number}.jpg": os.urandom(3000) for number in range(5)}
    data = bytearray(write_zip(path, files).read_bytes())
    data[len(data) // 2] ^= 255  # some are written by then
    path.write_bytes(data)
    assert "broken or cut short" in refusal(path, target)
    assert content(earlier) == AFW and os.listdir(target) == homes and unpacked(target) == [earlier]
    assert unpack(write_zip(path, files), target) == files


def test_a_folder_that_cannot_get_its_name_leaves_the_earlier_one(raw, target, monkeypatch):
    path = write_zip(raw / "afw.zip", AFW)
    unpack(path, target)
    write_zip(path, {"new.jpg": b""})

    def fail(self, to):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        assert "Input/output error" in refusal(path, target)
    assert content(home_of(target, "afw")) == AFW
    assert unpack(path, target) == {"new.jpg": b""}


ANOTHER_PROCESS = """
import sys
from pathlib import Path
from popos_cli.prepare.archives import Archive, unpack_missing
from popos_cli.prepare.tree import Tree
archive = Archive(r"afw\\.zip", lambda tree: False)
told = lambda name: print(name, flush=True)
tree = unpack_missing([archive], Tree.below(Path(sys.argv[1])), Path(sys.argv[2]), told)
print(next(tree.files(r"1\\.jpg")))
"""


WITHOUT_LOCKS = """
from popos_cli import home
class NoLocks:
    def __init__(self, *_, **__): ...
    def acquire(self): raise OSError(37, "No locks available")
home.FileLock = NoLocks
"""


def test_another_process_waits_and_finds_the_archive_unpacked(raw, target, monkeypatch):
    path, inner, others = write_zip(raw / "afw.zip", AFW), archives.unpack, []

    def unpack_beside_another(label, source, folder):
        command = [sys.executable, "-c", ANOTHER_PROCESS, str(raw), str(target)]
        others.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        with pytest.raises(subprocess.TimeoutExpired):
            others[0].wait(1)  # s
        inner(label, source, folder)

    monkeypatch.setattr(archives, "unpack", unpack_beside_another)
    assert unpack(path, target) == AFW
    node = home_of(target, "afw").stat().st_ino
    out, _ = others[0].communicate()
    assert out.splitlines()[-1] == str(home_of(target, "afw") / "afw" / "1.jpg")
    assert home_of(target, "afw").stat().st_ino == node


def test_two_processes_on_a_disk_without_locks_leave_each_others_work_alone(raw, target, monkeypatch):
    """The other one begins and ends while this one has all but the name. It may be on another machine, or
    in a container, where this one's process number is nobody's."""
    path, inner, outputs, nodes = write_zip(raw / "afw.zip", AFW), archives.unpack, [], []
    monkeypatch.setattr("popos_cli.home.FileLock", None)  # put back afterwards
    exec(WITHOUT_LOCKS, {})

    def unpack_twice(label, source, folder):
        inner(label, source, folder)
        command = [sys.executable, "-c", WITHOUT_LOCKS + ANOTHER_PROCESS, str(raw), str(target)]
        outputs.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        nodes.append(home_of(target, "afw").stat().st_ino)
        assert content(folder) == AFW  # it left this one's alone

    monkeypatch.setattr(archives, "unpack", unpack_twice)
    told = []
    assert unpack(path, target, told.append) == AFW and told == ["afw.zip"]
    folder = home_of(target, "afw")
    assert outputs == [f"afw.zip\n{folder / 'afw' / '1.jpg'}\n"]
    assert os.listdir(target) == [folder.parent.name] and unpacked(target) == [folder]
    assert nodes == [folder.stat().st_ino]  # what the other one may be reading was not replaced


def test_two_threads_unpack_the_same_archive_at_once(raw, target, monkeypatch):
    path, inner, told, given = write_zip(raw / "afw.zip", AFW), archives.unpack, [], []
    other = threading.Thread(target=lambda: given.append(unpack(path, target, told.append)))

    def unpack_beside_another(label, source, folder):
        if not other.ident:
            other.start()
            other.join(0.2)  # s; it has to wait
        inner(label, source, folder)

    monkeypatch.setattr(archives, "unpack", unpack_beside_another)
    given.append(unpack(path, target, told.append))
    other.join()
    assert given == [AFW, AFW]
    assert os.listdir(target) == [home_of(target, "afw").parent.name]


def test_a_target_that_cannot_be_is_told(raw, target):
    target.parent.parent.mkdir()
    target.parent.write_bytes(b"a file")
    path = write_zip(raw / "afw.zip", AFW)
    with pytest.raises(PoposError, match=r"cannot unpack .*afw\.zip"):
        unpack_missing([Archive(r"afw\.zip", absent)], Tree.below(path), target)


def test_an_archive_that_cannot_be_read_is_told(raw, target):
    (raw / "afw.zip").symlink_to(raw / "gone.zip")
    with pytest.raises(PoposError, match=r"afw\.zip.*No such file"):
        unpack_missing([Archive(r"afw\.zip", absent)], Tree.below(raw), target)


def test_a_killed_run_is_cleared_up_after_but_not_what_others_do_now(raw, target):
    """Another machine's temporaries, and those of earlier versions, go when they are a day old."""
    write_zip(raw / "afw.zip", AFW)
    code = ANOTHER_PROCESS.replace("archive =", HANGS + "archive =")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(raw), str(target)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "afw.zip\n"
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.wait()
    assert [name for name in os.listdir(target) if name.startswith(".afw.")]
    kept = [".afw.7.tmp", ".helen.0123456789abcdef.tmp", ".helen.tmp"]
    for name in (*kept, ".afw.1.tmp"):
        (target / name).mkdir()
        (target / name / "x.jpg").write_bytes(b"")
    yesterday = time.time() - 25 * 3600
    os.utime(target / ".afw.1.tmp", (yesterday, yesterday))
    unpack_missing([Archive(r"afw\.zip", absent)], Tree.below(raw), target)
    assert content(home_of(target, "afw")) == AFW
    assert sorted(os.listdir(target)) == sorted([*kept, home_of(target, "afw").parent.name])
    assert all((target / name / "x.jpg").is_file() for name in kept)


HANGS = """
import time
from popos_cli.prepare import archives
def unpack(label, source, folder):
    (folder / "1.jpg").write_bytes(b"half")
    print("half", flush=True)
    time.sleep(60)
archives.unpack = unpack
"""
