"""Files fetched from hosts that fail in every way: each call ends right, or in one clear line, and what it
leaves behind is never taken for whole."""

from __future__ import annotations

import hashlib
import json
import random
import resource
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pooch
import pytest
from hosts import Fault
from huggingface_hub import try_to_load_from_cache

from popos_cli.errors import PoposError
from popos_cli.weights import download
from popos_cli.weights.catalog import Entry, entry_of
from popos_cli.weights.download import fetch, fetch_soon, find_here
from popos_cli.weights.hub import cached

DATA = random.Random(0).randbytes(1_000_000)
OTHER = DATA[:-1] + b"x"
SHA256 = hashlib.sha256(DATA).hexdigest()
NAME = "net.safetensors"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture(params=["https", "Hub"])
def source(request, home, host, hub, tmp_path):
    """A host or the Hub. put(data): serves the file, and returns its address; folder: for its downloads."""
    if request.param == "Hub":
        return SimpleNamespace(
            host=hub, folder=tmp_path / "hub", put=lambda data: hub.put("me/nets", NAME, data)
        )
    return SimpleNamespace(
        host=host, folder=home / "downloads", put=lambda data: host.serve(f"/nets/{NAME}", data)
    )


def entry(source, sha256=SHA256[:8], **more):
    return Entry(name="net", source=source, sha256=sha256, **more)


def get(source, **more):
    """The bytes of the file."""
    return fetch(source if isinstance(source, Entry) else entry_of(source, {}), **more).read_bytes()


def refusal(source, *words, **more):
    """The error, of one line in which `words` occur; nothing is left that a later call would take."""
    wanted = source if isinstance(source, Entry) else entry_of(source, {})
    with pytest.raises(PoposError) as caught:
        fetch(wanted, **more)
    message = caught.value.message
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert find_here(wanted) is None
    return caught.value


def files(folder):
    """Names of all files below a folder, locks aside."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def pins(home):
    path = home / "pins.json"
    return json.loads(path.read_text()) if path.exists() else {}


@contextmanager
def files_of_at_most(size):
    """A disk that is full after so many bytes of a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# --- from everywhere ---------------------------------------------------------------------------------


def test_a_file_by_its_hash(source):
    address = source.put(DATA)
    assert get(entry(address)) == DATA
    source.host.stop()
    assert get(entry(address)) == get(address) == DATA  # what is here is not asked for again


def test_the_hash_is_pinned_where_none_is_known(source, home):
    address = source.put(DATA)
    path = fetch(entry_of(address, {}))
    assert pins(home) == {address: SHA256}
    source.put(OTHER)
    assert get(address) == DATA  # here, pinned, and not asked for
    path.resolve().unlink()
    path.unlink(missing_ok=True)
    error = refusal(address, address, "wrong file", SHA256[:16])
    assert str(home / "pins.json") in error.hint
    assert NAME not in files(source.folder)
    (home / "pins.json").unlink()
    assert get(address) == OTHER


@pytest.mark.parametrize("known", [{"sha256": "0123abcd"}, {"sha256": "0" * 64}, {"size": 999_999}])
def test_a_file_that_the_catalog_does_not_know(source, home, known):
    address = source.put(DATA)
    refusal(entry(address, **known), address, "wrong file")
    assert NAME not in files(source.folder) and not pins(home)
    assert get(entry(address, size=len(DATA))) == DATA


def test_a_file_damaged_here_is_fetched_again(source):
    address = source.put(DATA)
    for wanted in (entry(address), entry_of(address, {})):
        fetch(wanted).resolve().write_bytes(DATA[:1000])
        assert get(wanted) == DATA
    fetch(entry(address)).resolve().write_bytes(DATA[:1000])
    refusal(entry(address), address, "downloads are switched off", no_network=True)


def test_a_file_here_without_a_pin_is_pinned_as_it_is(source, home):
    """Another program's download into the Hub's cache, say."""
    address = source.put(DATA)
    get(address)
    (home / "pins.json").unlink()
    source.host.stop()
    assert get(address) == DATA
    assert pins(home) == {address: SHA256}


def test_a_page_instead_of_weights_is_not_pinned(source, home):
    """Once the host has the file again, the address works."""

    def refuse_pages(path):
        if path.read_bytes()[:1] == b"<":
            raise PoposError(f"{path}: a page")

    address = source.put(b"<p>Sign in</p>")
    assert refusal(address, check=refuse_pages).message == f"{address}: a page"
    assert NAME not in files(source.folder) and not pins(home)
    source.put(DATA)
    assert get(address, check=refuse_pages) == DATA
    assert pins(home) == {address: SHA256}


@pytest.mark.parametrize(
    "fault, words",
    [(None, "refused"), (Fault(drop=True, times=None), "onnect"), (Fault(status=404, times=None), "404")],
)
def test_a_failure_that_stays(source, fault, words):
    address = source.put(DATA)
    if fault is None:
        source.host.stop()
    else:
        source.host.faults = [fault]
    assert "proxy" in refusal(address, address, "cannot be downloaded", words).hint
    assert NAME not in files(source.folder)


def test_a_full_disk(source):
    address = source.put(DATA)
    with files_of_at_most(400_000):
        refusal(entry(address), address, "cannot write")
    assert NAME not in files(source.folder)
    assert get(entry(address)) == DATA


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", None])
def test_offline(source, monkeypatch, variable):
    wanted, flags = entry(source.put(DATA)), {} if variable else {"no_network": True}
    with monkeypatch.context() as patch:
        if variable:
            patch.setenv(variable, "1")
        refusal(wanted, wanted.source, "switched off", **flags)
    assert source.host.log == []
    path = fetch(wanted)
    if variable:
        monkeypatch.setenv(variable, "1")
    assert fetch(wanted, **flags) == path


@pytest.fixture
def asked(monkeypatch):
    """What this process has tried in vain or not."""
    monkeypatch.setattr(download, "_asked", set())
    monkeypatch.setattr(download, "PATIENCE", 20)  # seconds: this machine may be busy


def test_soon(source, asked, caplog):
    wanted = entry(source.put(DATA))
    path = fetch_soon(wanted)
    assert path.read_bytes() == DATA
    assert "fetched" in caplog.text


@pytest.mark.parametrize("fault", [Fault(status=503, times=None), Fault(delay=30, times=None)])
def test_not_soon(source, asked, home, monkeypatch, caplog, fault):
    """It is said, and not tried again: in this process, nor for a day in another."""
    source.host.faults = [fault]
    if fault.delay:
        monkeypatch.setattr(download, "PATIENCE", 0.2)
    wanted = entry(source.put(DATA))
    start = time.monotonic()
    assert fetch_soon(wanted) is None
    assert not fault.delay or time.monotonic() - start < 10
    assert wanted.source in caplog.text
    tries = len(source.host.log)
    marker = home / "downloads" / f"{wanted.name}.failed"
    marker.unlink()
    assert fetch_soon(wanted) is None
    monkeypatch.setattr(download, "_asked", set())
    marker.touch()
    assert fetch_soon(wanted) is None
    assert len(source.host.log) <= tries + (fault.delay > 0)


def test_soon_but_another_file(source, asked, caplog):
    """The catalog's hash holds."""
    wanted = entry(source.put(DATA), sha256="0" * 64)
    assert fetch_soon(wanted) is None
    assert "wrong file" in caplog.text
    assert find_here(wanted) is None


def test_never_soon_when_offline(source, asked, home, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch_soon(entry(source.put(DATA))) is None
    assert source.host.log == [] and not (home / "downloads").exists()


# --- from other hosts --------------------------------------------------------------------------------


def test_where_a_file_goes(host, home):
    path = fetch(entry(host.serve("/nets/net%20a.pth", DATA)))
    assert path.stat().st_mode & 0o777 == 0o644
    assert files(home / "downloads") == ["net_a.pth"]


@pytest.mark.parametrize(
    "faults, words, tries",
    [
        ([Fault(cut=0.37), Fault(status=503)], None, 3),
        ([Fault(status=403, times=None)], "403", 1),
        ([Fault(status=429, times=None)], "429", 3),
        ([Fault(status=503, times=None)], "503", 3),
        ([Fault(cut=0.37, times=None)], "370000 bytes read", 3),
    ],
)
def test_what_may_pass_is_tried_again(host, home, faults, words, tries):
    url = host.serve("/net.pth", DATA)
    host.faults = faults
    if words:
        refusal(url, url, "cannot be downloaded", words)
        assert files(home) == []
    else:
        assert get(url) == DATA
    assert len(host.log) == tries


def test_redirects(host):
    """Followed, but not to another kind of address, nor from https to http."""
    url = host.serve("/net.pth", DATA)
    assert get(host.redirect("/old.pth", url)) == DATA
    for place in ("ftp://127.0.0.1/net.pth", "file:///etc/passwd"):
        there = host.redirect(f"/{place[:3]}.pth", place)
        refusal(there, there, place, "not safe")

    def answer(place):
        return SimpleNamespace(is_redirect=True, url="https://a.org/net.pth", headers={"location": place})

    for place in ("https://b.org/net.pth", "/other.pth"):
        download._refuse_answer("https://a.org/net.pth", answer(place))
    with pytest.raises(PoposError, match=r"b\.org/net\.pth, which is not safe"):
        download._refuse_answer("https://a.org/net.pth", answer("http://b.org/net.pth"))


def test_a_home_that_cannot_be_written(host, home):
    home.rmdir()
    home.write_text("a file")
    refusal(entry(host.serve("/net.pth", DATA)), "cannot write", str(home))
    assert host.log == []


def test_two_calls_at_once(host):
    url = host.serve("/net.pth", DATA)
    host.faults = [Fault(delay=0.2)]
    found = []
    calls = [threading.Thread(target=lambda: found.append(get(url))) for _ in range(2)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert found == [DATA, DATA]
    assert len(host.log) == 1


@pytest.mark.parametrize("address", ["https://a b/c.pth", "http://127.0.0.1:99999/x.pth"])
def test_an_address_of_nowhere(address):
    refusal(address, address)


def test_pins_that_are_none_are_set_aside(host, home, caplog):
    (home / "pins.json").write_text('{"a": 1}')
    url = host.serve("/net.pth", DATA)
    assert get(url) == DATA
    assert pins(home) == {url: SHA256}
    (aside,) = home.glob("pins.json.*.broken")
    assert aside.read_text() == '{"a": 1}' and aside.name in caplog.text


def test_a_file_of_ones_own(tmp_path):
    """A path in a user's catalog is compared, too, and never removed."""
    path = tmp_path / NAME
    refusal(entry(str(path)), str(path), "missing")
    path.write_bytes(OTHER)
    refusal(entry(str(path)), str(path), "SHA-256")
    assert fetch(entry(str(path), None)) == path
    path.write_bytes(DATA)
    assert fetch(entry(str(path))) == path


# --- from the Hub, through its real client -----------------------------------------------------------


def test_a_small_file_and_a_revision(hub):
    address = hub.put("me/nets", "deep/net.json", b"{}")
    for one in (address, f"{address}@v1", "hf://me/nets@v1/deep/net.json"):
        assert get(one) == b"{}"
    assert "/me/nets/resolve/v1/deep/net.json" in {r.path for r in hub.log}


@pytest.mark.parametrize("revision", [None, "main", "v1", "v2"])
def test_the_cache_is_read_as_its_client_reads_it(hub, revision):
    """v2 was never fetched."""
    address = hub.put("me/nets", "deep/net.json", b"{}")
    for one in (address, f"{address}@v1"):
        get(one)
    for file in ("deep/net.json", "deep/other.json", "deep"):
        found = try_to_load_from_cache("me/nets", file, revision=revision)
        there = cached("me/nets", file, revision)
        assert found == (str(there) if there else None)
    assert bool(cached("me/nets", "deep/net.json", revision)) == (revision != "v2")


@pytest.mark.parametrize(
    "address, token, words",
    [
        ("hf://me/nets/net.pth", "hf_secret", "404"),
        ("hf://me/none/net.safetensors", "hf_secret", "404"),
        ("hf://me/nets/net.safetensors", "", "401"),
    ],
)
def test_what_the_hub_refuses(hub, tmp_path, monkeypatch, address, token, words):
    there = hub.put("me/nets", NAME, DATA)
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", token)
    error = refusal(address, address, "cannot be downloaded", words)
    assert "hf_secret" not in error.message + error.hint
    assert files(tmp_path / "hub") == []
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert get(there) == DATA


def test_a_file_that_is_not_what_the_hub_says(hub, home, tmp_path):
    address = hub.put("me/nets", NAME, DATA)
    hub.false_hash = "0" * 64
    refusal(address, address, "wrong file", SHA256[:16])
    assert "0" * 64 not in files(tmp_path / "hub") and not pins(home)
    hub.false_hash = None
    assert get(address) == DATA


def test_a_newer_file_that_another_program_brought(hub, home):
    """It is refused by the pin, but stays in the cache that they share."""
    address = hub.put("me/nets", NAME, OTHER)
    path = fetch(entry_of(address, {}))
    (home / "pins.json").write_text(json.dumps({address: SHA256}))
    refusal(address, "wrong file")
    assert path.read_bytes() == OTHER
