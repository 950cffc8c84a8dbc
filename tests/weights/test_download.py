"""Files fetched from hosts that fail in every way: each call ends right, or in one clear line, and what it
leaves behind is never taken for whole."""

from __future__ import annotations

import hashlib
import json
import random
import resource
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pooch
import pytest
from hosts import Fault
from huggingface_hub import constants

from popos_cli.errors import PoposError
from popos_cli.weights import download
from popos_cli.weights.catalog import Entry, entry_of
from popos_cli.weights.download import fetch, find_here

DATA = random.Random(0).randbytes(1_000_000)
OTHER = DATA[:-1] + b"x"
SHA256 = hashlib.sha256(DATA).hexdigest()
CUT = Fault(cut=0.37, times=None)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=lambda seconds: None))


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


# --- addresses ---------------------------------------------------------------------------------------


def test_a_file_by_its_hash(host, home):
    url = host.serve("/nets/net%20a.pth", DATA)
    path = fetch(entry(url))
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o644
    assert files(home / "downloads") == ["net_a.pth"]
    assert fetch(entry(url)) == fetch(entry_of(url, {})) == path
    assert len(host.log) == 1  # what is here is not asked for again


def test_the_hash_is_pinned_where_none_is_known(host, home):
    url = host.serve("/net.pth", DATA)
    path = fetch(entry_of(url, {}))
    assert pins(home) == {url: SHA256}
    host.serve("/net.pth", OTHER)
    path.unlink()
    error = refusal(url, url, "wrong file", SHA256[:16])
    assert str(home / "pins.json") in error.hint
    assert files(home / "downloads") == []
    (home / "pins.json").unlink()
    assert get(url) == OTHER


@pytest.mark.parametrize("known", [{"sha256": "0123abcd"}, {"sha256": "0" * 64}, {"size": 999_999}])
def test_a_file_that_the_catalog_does_not_know(host, home, known):
    url = host.serve("/net.pth", DATA)
    refusal(entry(url, **known), url, "wrong file")
    assert files(home / "downloads") == [] and not pins(home)
    assert get(entry(url, size=len(DATA))) == DATA


def test_a_file_damaged_here_is_fetched_again(host):
    url = host.serve("/net.pth", DATA)
    for source in (entry(url), entry_of(url, {})):
        fetch(source).write_bytes(DATA[:1000])
        assert get(source) == DATA
    fetch(entry(url)).write_bytes(DATA[:1000])
    refusal(entry(url), "downloads are switched off", no_network=True)


def test_a_failure_that_passes(host):
    url = host.serve("/net.pth", DATA)
    host.faults = [Fault(cut=0.37), Fault(status=503)]
    assert get(url) == DATA
    assert len(host.log) == 3


@pytest.mark.parametrize(
    "fault, words, tries",
    [
        (Fault(status=404, times=None), "404", 1),
        (Fault(status=403, times=None), "403", 1),
        (Fault(status=429, times=None), "429", 3),
        (Fault(status=503, times=None), "503", 3),
        (Fault(drop=True, times=None), "Connection aborted", 3),
        (CUT, "370000 bytes read", 3),
        (None, "Connection refused", 0),
    ],
)
def test_a_failure_that_stays(host, home, fault, words, tries):
    url = host.serve("/net.pth", DATA)
    if fault is None:
        host.stop()
    else:
        host.faults = [fault]
    error = refusal(url, url, "cannot be downloaded", words)
    assert "proxy" in error.hint
    assert len(host.log) == tries
    assert files(home) == []


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


def test_a_full_disk(host, home):
    url = host.serve("/net.pth", DATA)
    with files_of_at_most(400_000):
        refusal(entry(url), url, "cannot write")
    assert files(home) == []
    assert get(entry(url)) == DATA


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


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", None])
@pytest.mark.parametrize("on_hub", [True, False])
def test_offline(host, hub, monkeypatch, variable, on_hub):
    source = entry(hub.put("me/nets", "net.pth", DATA) if on_hub else host.serve("/net.pth", DATA))
    flags = {} if variable else {"no_network": True}
    with monkeypatch.context() as patch:
        if variable:
            patch.setenv(variable, "1")
        assert refusal(source, source.source, "switched off", **flags).hint
    assert host.log == hub.log == []
    path = fetch(source)
    if variable:
        monkeypatch.setenv(variable, "1")
    assert fetch(source, **flags) == path


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


def test_a_page_instead_of_weights_is_not_pinned(host, home):
    """Once the host has the file again, the address works."""

    def refuse_pages(path):
        if path.read_bytes()[:1] == b"<":
            raise PoposError(f"{path}: a page")

    url = host.serve("/net.pth", b"<p>Sign in</p>")
    assert refusal(url, check=refuse_pages).message == f"{url}: a page"
    assert files(home) == []
    host.serve("/net.pth", DATA)
    assert get(url, check=refuse_pages) == DATA
    assert pins(home) == {url: SHA256}


def test_a_file_of_ones_own(tmp_path):
    """A path in a user's catalog is compared, too, and never removed."""
    path = tmp_path / "net.safetensors"
    refusal(entry(str(path)), str(path), "missing")
    path.write_bytes(OTHER)
    refusal(entry(str(path)), str(path), "SHA-256")
    assert fetch(entry(str(path), None)) == path
    path.write_bytes(DATA)
    assert fetch(entry(str(path))) == path


# --- the Hub, through its real client ----------------------------------------------------------------


def asked(hub):
    """The methods of the requests for the file."""
    return [r.method for r in hub.log if "/net." in r.path]


def test_the_hub(hub, home):
    source = hub.put("me/nets", "net.safetensors", DATA)
    assert get(source) == DATA
    assert pins(home) == {source: SHA256}
    assert asked(hub) == ["HEAD", "HEAD", "GET"]
    hub.log.clear()
    assert get(source) == DATA  # from its cache, by the pin
    assert hub.log == []


def test_a_small_file_and_a_revision(hub):
    source = hub.put("me/nets", "deep/net.json", b"{}")
    for address in (source, f"{source}@v1", "hf://me/nets@v1/deep/net.json"):
        assert get(address) == b"{}"
    assert "/me/nets/resolve/v1/deep/net.json" in {r.path for r in hub.log}


@pytest.mark.parametrize(
    "address, token, words",
    [
        ("hf://me/nets/net.pth", "hf_secret", "404"),
        ("hf://me/none/net.safetensors", "hf_secret", "404"),
        ("hf://me/nets/net.safetensors", "", "401"),
    ],
)
def test_what_the_hub_refuses(hub, tmp_path, monkeypatch, address, token, words):
    source = hub.put("me/nets", "net.safetensors", DATA)
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", token)
    error = refusal(address, address, "cannot be downloaded", words)
    assert "hf_secret" not in error.message + error.hint
    assert files(tmp_path / "hub") == []
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert get(source) == DATA


@pytest.mark.parametrize("fault, words", [(None, "refused"), (Fault(drop=True, times=None), "disconnected")])
def test_a_failure_of_the_hub_that_stays(hub, tmp_path, fault, words):
    source = hub.put("me/nets", "net.safetensors", DATA)
    if fault is None:
        hub.stop()
    else:
        hub.faults = [fault]
    refusal(source, source, "cannot be downloaded", words)
    assert not [name for name in files(tmp_path / "hub") if name.startswith("net")]


def test_a_file_that_is_not_what_the_hub_says(hub, home, tmp_path):
    source = hub.put("me/nets", "net.safetensors", DATA)
    hub.false_hash = "0" * 64
    refusal(source, source, "wrong file", SHA256[:16])
    assert "0" * 64 not in files(tmp_path / "hub") and not pins(home)
    hub.false_hash = None
    assert get(source) == DATA


def test_a_file_changed_on_the_hub(hub, home, tmp_path, monkeypatch):
    source = hub.put("me/nets", "net.safetensors", DATA)
    get(source)
    hub.put("me/nets", "net.safetensors", OTHER)
    assert get(source) == DATA  # here, pinned, and not asked for
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub 2"))
    assert str(home / "pins.json") in refusal(source, source, "wrong file", SHA256[:16]).hint
    assert "net.safetensors" not in files(tmp_path / "hub 2")


def test_what_is_in_the_hubs_cache_without_a_pin(hub, home):
    """Another program's download, say, is checked and pinned, without asking the Hub."""
    source = hub.put("me/nets", "net.safetensors", DATA)
    get(source)
    (home / "pins.json").unlink()
    hub.stop()
    assert get(source) == DATA
    assert pins(home) == {source: SHA256}


def test_a_newer_file_that_another_program_brought(hub, home):
    """It is refused by the pin, but stays in the cache that they share."""
    source = hub.put("me/nets", "net.safetensors", OTHER)
    path = fetch(entry_of(source, {}))
    (home / "pins.json").write_text(json.dumps({source: SHA256}))
    refusal(source, "wrong file")
    assert path.read_bytes() == OTHER


def test_a_file_damaged_in_the_hubs_cache(hub):
    source = hub.put("me/nets", "net.safetensors", DATA)
    fetch(entry_of(source, {})).resolve().write_bytes(DATA[:1000])
    refusal(source, source, "switched off", no_network=True)
    assert get(source) == DATA


def test_a_full_disk_and_the_hub(hub, tmp_path):
    source = hub.put("me/nets", "net.safetensors", DATA)
    with files_of_at_most(400_000):
        refusal(source, source, "cannot write")
    assert "net.safetensors" not in files(tmp_path / "hub")
    assert get(source) == DATA
