"""The shipped catalog is sound, and a user's own is read beside it or refused."""

import hashlib
import re

import pytest

from popos_cli.errors import PoposError, UsageError
from popos_cli.weights.catalog import entry_of, load_catalog

MINE = """
[mine]
what = "my points"
source = "https://example.org/mine.pth"
sha256 = "0123ABCD"
format = "mmpose"
sigma = 2
label_offset = [1, 1.5]
"""


def test_the_shipped_entries():
    for entry in load_catalog().values():
        assert entry.what and entry.licence
        if entry.local:
            assert hashlib.sha256(entry.local.read_bytes()).hexdigest() == entry.sha256
        if entry.manual:
            assert "https://" in entry.manual and "popos import-weights" in entry.manual
            assert "\n" not in entry.manual


def test_published_files_are_known_by_the_hash_in_their_names():
    published = [entry for entry in load_catalog().values() if "openmmlab" in (entry.source or "")]
    assert len(published) == len({entry.source for entry in published}) == 9
    for entry in published:
        assert f"-{entry.sha256}_" in entry.source
        assert ("_dark-" in entry.source) == (entry.decoder == "dark")
        assert (entry.sigma == 1.5) == (entry.dataset in ("300w", "cofw"))
        assert (entry.label_offset == (1, 1)) == (entry.dataset == "300w")
        assert f"hrnetv2_w18_{'coco' if entry.dataset == 'coco-face' else entry.dataset}_" in entry.source


def test_a_catalog_of_ones_own(home, tmp_path):
    (home / "catalog.toml").write_text(MINE)
    more = tmp_path / "more.toml"
    more.write_text(
        '[default]\nsource = "nets/w.safetensors"\n[mine]\nkind = "detector"\nsource = "m.onnx"\n'
    )
    entry = load_catalog()["mine"]
    assert (entry.kind, entry.licence) == ("face", "not stated")
    assert (entry.sha256, entry.label_offset) == ("0123abcd", (1.0, 1.5))
    catalog = load_catalog(more)
    assert catalog["default"].local == tmp_path / "nets/w.safetensors"
    assert catalog["mine"].kind == "detector"
    assert set(catalog) == {*load_catalog()}


@pytest.mark.parametrize(
    "text, words",
    [
        ("[mine", "not a readable TOML file"),
        ("mine = 3", "[mine]"),
        ('["../mine"]\nsource = "x"', "[../mine]"),
        ("[mine]\nsize = 3", "needs a source"),
        ('[mine]\nsource = ""', "needs a source"),
        ('[mine]\nsource = "x"\nmanual = "y"', "needs a source"),
        ('[mine]\nsource = "x"\nlicense = "MIT"', "license"),
        ('[mine]\nsource = "x"\nresolution = true', "resolution"),
        ('[mine]\nsource = "x"\nscheme = "zz"', "scheme 'zz'"),
        ('[mine]\nsource = "x"\nkind = "nose"', "kind: Input should be 'face', 'backbone'"),
        ('[mine]\nsource = "x"\nsha256 = "0123456z"', "sha256"),
        ('[mine]\nsource = "x"\nlabel_offset = [nan, 0]', "label_offset"),
        (f'[mine]\nsource = "x"\nlabel_offset = [1{"0" * 400}, 0]', "label_offset"),
        ('[mine]\nsource = "x"\nsigma = inf', "sigma"),
        ('[mine]\nsource = "hf://one-part"', "hf://one-part"),
        ('[mine]\nsource = "ftp://host/net.pth"', "ftp://host"),
        ('[mine]\nsource = "a\\u0000b"', "[mine]"),
        (f"[mine]\nsource = {'[' * 10_000}", "not a readable TOML file"),
        (f"[mine]\nsize = {'9' * 5000}", "not a readable TOML file"),
        (b"[mine]\nwhat = '\xff'", "not a readable TOML file"),
        (None, "cannot read the catalog"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_catalog_that_cannot_be_used(home, text, words, caplog):
    """Refused where a flag names it; in POPOS_HOME its good entries are used, and a note names the others."""
    path, good = home / "catalog.toml", b'\n[good]\nsource = "w.safetensors"\n'
    if text is None:
        path.mkdir()
    else:
        path.write_bytes((text if isinstance(text, bytes) else text.encode()) + good)
    with pytest.raises(PoposError) as caught:
        load_catalog(path)
    message = caught.value.message
    assert str(path) in message and words in message and "\n" not in message
    caplog.clear()
    catalog = load_catalog()
    assert ("good" in catalog) == ("TOML" not in words and text is not None)
    assert "default" in catalog and "mine" not in catalog
    assert {record.getMessage() for record in caplog.records} <= {f"passed over: {message}"}  # said once


def test_a_catalog_that_an_editor_of_windows_wrote(home):
    (home / "catalog.toml").write_bytes(b"\xef\xbb\xbf" + MINE.replace("\n", "\r\n").encode())
    assert "mine" in load_catalog()


def test_a_catalog_that_is_not_there(tmp_path):
    with pytest.raises(PoposError, match=r"gone\.toml"):
        load_catalog(tmp_path / "gone.toml")


@pytest.mark.parametrize(
    "address", ["ftp://a/b.pth", "file:///etc/passwd", "https://", "http://[::1/x", "hf://a/b"]
)
def test_what_is_no_address(address):
    with pytest.raises(UsageError, match=re.escape(address)):
        entry_of(address, {})
    assert entry_of("net.pth", {}) is None
