"""Broken lists and weight files in POPOS_HOME stop no command: they are named, and the rest is used."""

from __future__ import annotations

import pytest


@pytest.fixture
def poisoned(home):
    """A weight file, a catalog and a list of hashes that cannot be read."""
    (home / "weights").mkdir(parents=True)
    for name in ("bad", "mmpose-wflw"):
        (home / f"weights/{name}.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0" + b"[" * 16)
    (home / "catalog.toml").write_text('[mine]\nsource = "a.safetensors"\nsigma = "wide"\n')
    (home / "pins.json").write_text("[" * 100_000)
    return home


def test_listings_name_what_is_broken(popos, poisoned):
    report = popos("doctor", "--json").ok().json
    by_name = {entry["name"]: entry for entry in report["weights"]}
    assert "bad.safetensors" in by_name["bad"]["error"] and by_name["default"]["resolution"] == 16
    listing = popos("download-weights", "--json").ok()
    here = {entry["name"]: entry["here"] for entry in listing.json["weights"]}
    assert (here["default"], here["mmpose-wflw"]) == (True, False) and "mine" not in here
    assert "mmpose-wflw.safetensors" in listing.err
    assert list(poisoned.glob("pins.json.*.broken")) and (poisoned / "catalog.toml").exists()


def test_evaluate_still_works(popos, synthetic, poisoned):
    result = popos("evaluate", "--workers", "0", "--no-flip-test", "--json").ok()
    assert result.json["results"][0]["weights"] == "default"
    assert "bad.safetensors" in result.err


def test_a_poisoned_file_by_its_name(popos, poisoned, astronaut):
    for weights in ("bad", "mmpose-wflw"):
        failed = popos("predict", astronaut, "--weights", weights, "--json")
        assert failed.code == 1 and ".safetensors" in failed.json["error"]["message"]
