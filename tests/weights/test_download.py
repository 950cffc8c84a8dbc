"""Files fetched from hosts that fail in every way: each call ends right, or in one clear line, and what it
leaves behind is never taken for whole."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
from hosts import Fault, Host, Hub

from popos_cli.errors import PoposError, UsageError
from popos_cli.weights import network, urls
from popos_cli.weights.catalog import Entry
from popos_cli.weights.download import fetch, find_here

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = random.Random(0).randbytes(1_000_000)
OTHER = DATA[:-1] + b"x"
SHA256 = hashlib.sha256(DATA).hexdigest()
AT_ONCE = {"Retry-After": "0"}
FETCH = """
import resource, sys
from popos_cli.errors import PoposError
from popos_cli.weights.download import fetch
limit = int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    print(fetch(sys.argv[1]))
except PoposError as error:
    print(error.message, file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(network, "PAUSES", (0.0, 0.0, 0.0))
    return tmp_path / "home"


@pytest.fixture
def host():
    with Host() as host:
        yield host


@pytest.fixture
def hub():
    with Hub() as hub:
        yield hub


def entry(url, sha256=SHA256[:8], **more):
    return Entry("net", "face", "a net", "MIT", url, sha256=sha256, **more)


def refusal(source, *words, **more):
    """The one line of the error, which names the source, in which `words` occur; nothing is left as whole."""
    with pytest.raises(PoposError) as caught:
        fetch(source, **more)
    message = caught.value.message
    assert "\n" not in message
    assert all(word in message for word in words), message
    known = source if isinstance(source, Entry) else entry(source, None)
    assert find_here(known) is None
    return caught.value


def left(home):
    """Names of what a download left, locks aside."""
    return sorted(p.name for p in (home / "downloads").rglob("*") if p.is_file() and p.suffix != ".lock")


# --- addresses ---------------------------------------------------------------------------------------


def test_a_file_by_its_hash(host, home):
    url = host.serve("/nets/net%20a.pth", DATA)
    host.files["/nets/net a.pth"] = host.files.pop("/nets/net%20a.pth")
    seen = []
    path = fetch(entry(url), progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == DATA
    assert left(home) == ["net_a.pth"]
    assert seen[-1] == (len(DATA), len(DATA))
    assert fetch(entry(url)) == fetch(url) == path
    assert len(host.log) == 1  # what is here is not asked for again


def test_the_hash_is_pinned_where_none_is_known(host, home):
    url = host.serve("/net.pth", DATA)
    path = fetch(url)
    assert json.loads((home / "pins.json").read_text()) == {url: SHA256}
    host.serve("/net.pth", OTHER)
    path.unlink()
    error = refusal(url, url, "changed since its first download", SHA256[:16])
    assert str(home / "pins.json") in error.hint
    assert left(home) == []
    (home / "pins.json").unlink()
    assert fetch(url).read_bytes() == OTHER


@pytest.mark.parametrize("sha256", [SHA256[:8], SHA256])
def test_a_wrong_hash(host, home, sha256):
    url = host.serve("/net.pth", OTHER)
    refusal(entry(url, sha256), url, "wrong file", sha256[:16])
    assert left(home) == []
    host.serve("/net.pth", DATA)
    assert fetch(entry(url, sha256)).read_bytes() == DATA


def test_a_file_damaged_here_is_fetched_again(host):
    url = host.serve("/net.pth", DATA)
    for source in (entry(url), url):
        fetch(source).write_bytes(DATA[:1000])
        assert fetch(source).read_bytes() == DATA
    fetch(url).write_bytes(DATA[:1000])
    refusal(entry(url), "downloads are switched off", no_network=True)


def test_a_cut_is_mended_in_the_same_call(host):
    url = host.serve("/net.pth", DATA)
    host.faults = [Fault(cut=0.37), Fault(cut=0.8)]
    assert fetch(entry(url)).read_bytes() == DATA
    assert [r.headers.get("range") for r in host.log] == [None, "bytes=370000-", "bytes=800000-"]
    assert host.log[1].headers["if-range"] == host.files["/net.pth"].etag


@pytest.mark.parametrize("sha256", [SHA256, None], ids=["hash", "no hash"])
def test_a_host_gone_at_37_percent(host, home, sha256):
    """The next call goes on from there."""
    url = host.serve("/net.pth", DATA)
    host.faults = [Fault(cut=0.37), Fault(drop=True, times=None)]
    refusal(entry(url, sha256), url, "cannot be reached")
    assert left(home) == ["net.pth.part", "net.pth.part.etag"]
    assert 2 < len(host.log) < 10
    host.faults, host.log = [], []
    assert fetch(entry(url, sha256)).read_bytes() == DATA
    assert [r.headers["range"] for r in host.log] == ["bytes=370000-"]
    assert left(home) == ["net.pth"]


@pytest.mark.parametrize("etags", [True, False])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_changed_between_two_calls(host, etags, ranges):
    """The old beginning is dropped, whether the host, or else the hash, tells the two apart."""
    host.etags, host.ranges = etags, ranges
    url = host.serve("/net.pth", b"?" * len(DATA))
    host.faults = [Fault(cut=0.37), Fault(drop=True, times=None)]
    refusal(entry(url), "cannot be reached")
    host.faults = []
    host.serve("/net.pth", DATA)
    assert fetch(entry(url)).read_bytes() == DATA


def test_nothing_to_tell_the_beginning_by(host):
    """Without ETag and hash a part is of no use: it starts again."""
    host.etags = False
    url = host.serve("/net.pth", DATA)
    host.faults = [Fault(cut=0.37)]
    assert fetch(url).read_bytes() == DATA
    assert [r.headers.get("range") for r in host.log] == [None, None]


@pytest.mark.parametrize("more", [b"", b"more than the file has"])
def test_a_part_as_long_as_the_file(host, home, more):
    """A call that was killed before the last step, and a part of some other, longer file."""
    url = host.serve("/net.pth", DATA)
    path = fetch(entry(url))
    path.rename(path.with_name("net.pth.part"))
    with path.with_name("net.pth.part").open("ab") as file:
        file.write(more)
    assert fetch(entry(url)).read_bytes() == DATA
    assert left(home) == ["net.pth"]


def test_a_length_that_nobody_knows(host):
    host.lengths = False
    url = host.serve("/net.pth", DATA)
    refusal(url, url, "how long the file is")
    host.faults = [Fault(cut=0.37)]
    refusal(entry(url), "wrong file")
    assert fetch(entry(url)).read_bytes() == DATA


@pytest.mark.parametrize(
    "status, words", [(404, "no such file"), (410, "no such file"), (401, "access refused"), (403, "refused")]
)
def test_a_refusal(host, status, words):
    url = host.serve("/net.pth", DATA)
    host.faults = [Fault(status=status, times=None)]
    refusal(entry(url), url, words, str(status))
    assert len(host.log) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_refusal_that_passes(host, status):
    url = host.serve("/net.pth", DATA)
    host.faults = [Fault(status=status, headers=AT_ONCE, times=2)]
    assert fetch(entry(url)).read_bytes() == DATA
    assert len(host.log) == 3


def test_a_refusal_that_does_not_pass(host):
    url = host.serve("/net.pth", DATA)
    host.faults = [Fault(status=503, times=None)]
    refusal(entry(url), url, "503")
    assert len(host.log) == 4
    host.faults = [Fault(status=429, headers={"Retry-After": "3600"})]
    assert "3600 seconds" in refusal(entry(url), url, "too many requests").hint
    assert len(host.log) == 5  # that long it does not wait


def test_retry_after(host):
    assert network.pause(0, 429, "7") == 7
    assert network.pause(0, 503, "Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert network.pause(0, 503, "soon") == network.PAUSES[0]
    assert network.pause(0, 404, "1") is None


def test_a_host_that_is_not_there(host):
    url = host.serve("/net.pth", DATA)
    host.stop()
    refusal(entry(url), url, "cannot be reached", "refused")


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_page_instead_of_a_file(host, home, kind):
    url = host.serve("/net.pth", b"\n<!DOCTYPE html><p>Log in first", content_type=kind)
    refusal(url, url, "web page")
    assert left(home) == []


def test_a_full_disk(host, home):
    url = host.serve("/net.pth", DATA)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
    try:
        refusal(entry(url), "cannot write", str(home / "downloads"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert fetch(entry(url)).read_bytes() == DATA
    assert host.log[-1].headers["range"] == "bytes=400000-"


def test_a_place_that_cannot_be_written(host, home):
    home.write_text("a file")
    refusal(entry(host.serve("/net.pth", DATA)), "cannot write", str(home))
    assert host.log == []


def test_two_calls_at_once(host):
    url = host.serve("/net.pth", DATA)
    host.faults = [Fault(delay=0.1)]
    found = []
    calls = [threading.Thread(target=lambda: found.append(fetch(url).read_bytes())) for _ in range(2)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert found == [DATA, DATA]
    assert len(host.log) == 1


def test_a_slow_host_is_waited_for(host, monkeypatch):
    monkeypatch.setattr(urls, "TIMEOUT", 0.5)
    url = host.serve("/net.pth", DATA)
    host.faults = [Fault(delay=0.15)]  # five times, longer than the limit in all
    assert fetch(entry(url)).read_bytes() == DATA
    assert len(host.log) == 1
    host.faults = [Fault(delay=0.7, times=None)]
    url = host.serve("/other.pth", OTHER)
    refusal(entry(url), url, "cannot be reached", "timed out")


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", None])
def test_offline(host, monkeypatch, variable):
    url = host.serve("/net.pth", DATA)
    flags = {} if variable else {"no_network": True}
    if variable:
        monkeypatch.setenv(variable, "1")
    error = refusal(entry(url), url, "switched off", **flags)
    assert error.hint
    assert host.log == []
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    path = fetch(entry(url))
    if variable:
        monkeypatch.setenv(variable, "1")
    assert fetch(entry(url), **flags) == path


@pytest.mark.parametrize(
    "address", ["ftp://a/b.pth", "file:///etc/passwd", "https://", "http://[::1/x", "net.pth", "hf://a/b"]
)
def test_what_is_no_address(address):
    with pytest.raises(UsageError) as caught:
        fetch(address)
    assert address in caught.value.message


@pytest.mark.parametrize("address", ["https://a b/c.pth", "http://127.0.0.1:99999/x.pth"])
def test_an_address_of_nowhere(address):
    with pytest.raises(PoposError) as caught:
        fetch(address)
    assert address in caught.value.message


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b'{"a": 1}', b"\xff\xfe", b"[" * 100_000, b"", b"null", None],
    ids=["torn", "list", "number", "no UTF-8", "deep", "empty", "null", "folder"],
)
def test_pins_that_cannot_be_read_are_set_aside(host, home, content, caplog):
    url = host.serve("/net.pth", DATA)
    home.mkdir()
    pins = home / "pins.json"
    if content is None:
        (pins / "inside").mkdir(parents=True)
    else:
        pins.write_bytes(content)
    assert fetch(url).read_bytes() == DATA
    assert json.loads(pins.read_text()) == {url: SHA256}
    (aside,) = home.glob("pins.json.*.broken")
    assert content is None or aside.read_bytes() == content
    (note,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert str(pins) in note and aside.name in note


def refuse_pages(path):
    if path.read_bytes()[:1] in b"<{":
        raise PoposError(f"{path}: a page")


@pytest.mark.parametrize("page", [b'{"error": "busy"}', b"<p>Sign in</p>"])
def test_a_page_with_status_200_is_not_pinned(host, home, page):
    """The host is mended, and the name works."""
    url = host.serve("/net.pth", page)
    error = refusal(url, f"{url}: a page", check=refuse_pages)
    assert ".part" not in error.message
    assert left(home) == [] and not (home / "pins.json").exists()
    host.serve("/net.pth", DATA)
    assert fetch(url, check=refuse_pages).read_bytes() == DATA
    assert json.loads((home / "pins.json").read_text()) == {url: SHA256}


@pytest.mark.parametrize("lengths", [True, False])
def test_the_catalogs_size_bounds_a_download(host, home, lengths):
    host.lengths = lengths
    url = host.serve("/net.pth", DATA)
    refusal(entry(url, size=len(DATA) // 2), url, "but the catalog says 500000")
    assert left(home) == []
    assert fetch(entry(url, size=len(DATA))).read_bytes() == DATA


def test_a_redirect(host, home):
    """Followed, but not to another kind of address, nor from https to http."""
    url = host.serve("/net.pth", DATA)
    assert fetch(entry(host.serve("/old.pth", b"", location=url))).read_bytes() == DATA
    for place, words in (("ftp://127.0.0.1/net.pth", "leads to"), ("file:///etc/passwd", "302")):
        there = host.serve(f"/{place[:3]}.pth", b"", location=place)
        refusal(entry(there), there, words)
    handler = urls._Redirects()
    request = urllib.request.Request("https://example.org/a.pth")
    with pytest.raises(PoposError, match="not safe"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://example.org/a.pth")
    assert handler.redirect_request(request, None, 302, "Found", {}, "https://b.org/a.pth").host == "b.org"


def test_a_file_of_ones_own(tmp_path):
    """A path in a user's catalog is compared, too, and never removed."""
    path = tmp_path / "net.safetensors"
    with pytest.raises(PoposError, match="is missing"):
        fetch(entry(str(path)))
    path.write_bytes(OTHER)
    refusal(entry(str(path)), str(path), "wrong file")
    assert fetch(entry(str(path), None)) == path
    path.write_bytes(DATA)
    assert fetch(entry(str(path))) == path


# --- the Hub, asked by the real client in a process of its own ----------------------------------------


@pytest.fixture
def client(hub, tmp_path):
    """Starts a fetch; .run(source) waits for it and gives (exit code, path or error line)."""
    return Client(hub, tmp_path)


class Client:
    def __init__(self, hub, folder):
        self.cache = folder / "hf"
        self.environment = {
            **os.environ, "PYTHONPATH": str(REPOSITORY), "HF_ENDPOINT": hub.url, "HF_HOME": str(self.cache),
        }  # fmt: skip

    def start(self, source, limit=0, **environment):
        return subprocess.Popen(
            [sys.executable, "-c", FETCH, source, str(limit)], env={**self.environment, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def fetch(self, source, **more):
        """The bytes of the file."""
        out, err = (call := self.start(source, **more)).communicate(timeout=60)
        assert call.returncode == 0, err
        return Path(out.strip()).read_bytes()

    def refusal(self, source, *words, code=1, **more):
        out, err = (call := self.start(source, **more)).communicate(timeout=60)
        assert (call.returncode, out) == (code, ""), err
        (line,) = err.splitlines()
        assert all(word in line for word in words), line
        return line

    def whole_files(self):
        """What a later call would find: the names in snapshots."""
        return [p for p in self.cache.glob("hub/models--*/snapshots/**/*") if p.is_file() or p.is_symlink()]


def asked(hub):
    """The requests for files: the client asks for other things too."""
    return [r.method for r in hub.log if "/net." in r.path]


def test_the_hub(hub, client, home):
    source = hub.put("me/nets", "net.safetensors", DATA)
    assert client.fetch(source) == DATA
    assert json.loads((home / "pins.json").read_text()) == {source: SHA256}
    assert asked(hub) == ["HEAD", "HEAD", "GET"]
    hub.log.clear()
    assert client.fetch(source) == DATA  # its own cache, by the pin
    assert client.fetch(source, HF_HUB_OFFLINE="1") == DATA
    assert hub.log == []


def test_a_small_file_and_a_revision(hub, client):
    source = hub.put("me/nets", "deep/net.json", b"{}")
    assert client.fetch(source) == b"{}"
    for address in (f"{source}@v1", "hf://me/nets@v1/deep/net.json"):
        assert client.fetch(address) == b"{}"
    assert "/me/nets/resolve/v1/deep/net.json" in {r.path for r in hub.log}


def test_the_hub_offline(hub, client):
    source = hub.put("me/nets", "net.safetensors", DATA)
    client.refusal(source, source, "switched off", HF_HUB_OFFLINE="1")
    assert hub.log == []


def test_a_token(hub, client):
    hub.token = "hf_secret"
    source = hub.put("me/nets", "net.safetensors", DATA)
    client.refusal(source, source, "access refused (401)")
    assert client.fetch(source, HF_TOKEN="hf_secret") == DATA
    assert all("authorization" not in r.headers for r in hub.log if r.path.startswith("/storage/"))


def test_not_on_the_hub(hub, client):
    hub.put("me/nets", "net.safetensors", DATA)
    for source in ("hf://me/nets/net.pth", "hf://me/none/net.safetensors"):
        client.refusal(source, source, "no such file (404)")
    assert client.whole_files() == []


def test_the_hub_breaks_off_at_37_percent(hub, client):
    data = DATA * 29  # its client writes pieces of 10 MiB
    source = hub.put("me/nets", "net.safetensors", data)
    hub.faults = [Fault(cut=0.37, method="GET", path="/net.")]
    assert client.fetch(source) == data
    gets = [r.headers.get("range") for r in hub.log if r.path.startswith("/storage/")]
    assert gets == [None, f"bytes={10 << 20}-"]


@pytest.mark.slow  # the client tries for 5 seconds
def test_the_hub_gone_at_37_percent(hub, client):
    source = hub.put("me/nets", "net.safetensors", DATA)
    hub.faults = [
        Fault(cut=0.37, method="GET", path="/net."),
        Fault(drop=True, times=None, method="GET", path="/net."),
    ]
    client.refusal(source, source, "cannot be reached")
    assert client.whole_files() == []
    hub.faults = []
    assert client.fetch(source) == DATA


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", [429, 503])
def test_the_hub_refuses_for_a_while(hub, client, method, status):
    source = hub.put("me/nets", "net.safetensors", DATA)
    hub.faults = [Fault(status=status, headers=AT_ONCE, method=method, path="/net.")]
    assert client.fetch(source) == DATA


def test_the_hub_fails_for_good(hub, client):
    source = hub.put("me/nets", "net.safetensors", DATA)
    hub.faults = [Fault(status=503, headers=AT_ONCE, times=None, path="/net.")]
    client.refusal(source, source, "the host fails (503)")


def test_no_hub(hub, client):
    hub.stop()
    client.refusal("hf://me/nets/net.safetensors", "cannot be reached", "refused")


def test_the_catalogs_size_bounds_a_file_of_the_hub(hub, client):
    source = hub.put("me/nets", "net.safetensors", DATA)
    code = FETCH.replace("fetch(sys.argv[1])", f"fetch(Entry('net', 'face', '', '', {source!r}, size=1000))")
    code = code.replace("import resource", "from popos_cli.weights.catalog import Entry\nimport resource")
    call = subprocess.run(
        [sys.executable, "-c", code, source, "0"], env=client.environment, capture_output=True, text=True
    )
    assert call.returncode == 1 and "has 1000000 bytes, but the catalog says 1000" in call.stderr
    assert client.whole_files() == [] and "GET" not in asked(hub)


def test_a_wrong_hash_from_the_hub(hub, client, home):
    """What the Hub says of the file is not what it sends."""
    source = hub.put("me/nets", "net.safetensors", DATA)
    hub.false_hash = "0" * 64
    client.refusal(source, source, "wrong file", SHA256[:16])
    assert client.whole_files() == []
    assert list(client.cache.rglob("0" * 64)) == []
    assert not (home / "pins.json").exists()
    hub.false_hash = None
    assert client.fetch(source) == DATA


def test_a_file_changed_on_the_hub(hub, client):
    source = hub.put("me/nets", "net.safetensors", DATA)
    client.fetch(source)
    hub.put("me/nets", "net.safetensors", OTHER)
    assert client.fetch(source) == DATA  # here, pinned, and not asked for
    elsewhere = str(client.cache) + "-2"
    client.refusal(source, source, "changed since its first download", HF_HOME=elsewhere)
    assert asked(hub).count("GET") == 1  # seen before anything is fetched


def test_a_newer_file_on_the_hub(hub, client, home):
    """Without its pin, what is here is asked for again; where the Hub is out of reach, it does."""
    source = hub.put("me/nets", "net.safetensors", DATA)
    client.fetch(source)
    hub.put("me/nets", "net.safetensors", OTHER)
    (home / "pins.json").unlink()
    assert client.fetch(source, HF_HUB_OFFLINE="1") == DATA
    (home / "pins.json").unlink()
    assert client.fetch(source) == OTHER
    (home / "pins.json").unlink()
    hub.stop()
    assert client.fetch(source) == OTHER
    assert list(json.loads((home / "pins.json").read_text())) == [source]


def test_a_file_damaged_in_the_hubs_cache(hub, client):
    source = hub.put("me/nets", "net.safetensors", DATA)
    client.fetch(source)
    (link,) = client.whole_files()
    link.resolve().write_bytes(DATA[:1000])
    client.refusal(source, source, "switched off", HF_HUB_OFFLINE="1")
    assert client.fetch(source) == DATA


def test_a_full_disk_and_the_hub(hub, client):
    source = hub.put("me/nets", "net.safetensors", DATA)
    client.refusal(source, "cannot write", "large", limit=400_000)
    assert client.whole_files() == []
    assert client.fetch(source) == DATA


def test_a_cache_that_cannot_be_written(hub, client, tmp_path):
    (tmp_path / "file").write_text("")
    source = hub.put("me/nets", "net.safetensors", DATA)
    client.refusal(source, "cannot write", str(tmp_path / "file"), HF_HOME=str(tmp_path / "file" / "hf"))


def test_two_processes_at_once(hub, client):
    source = hub.put("me/nets", "net.safetensors", DATA)
    hub.faults = [Fault(delay=0.2, method="GET", path="/net.", times=None)]
    calls = [client.start(source) for _ in range(2)]
    paths = [call.communicate(timeout=60)[0].strip() for call in calls]
    assert [Path(path).read_bytes() for path in paths] == [DATA, DATA]
    assert asked(hub).count("GET") == 1
