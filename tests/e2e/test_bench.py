"""popos bench: errors beside the bound, and times."""


def test_decoders(popos):
    flags = ("--resolution", "8", "--decoder", "ml", "--decoder", "dark", "--landmarks", "200")
    result = popos("bench", "decoders", *flags, "--json").ok()
    bound, ml, dark = result.json["decoders"]
    assert [r["decoder"] for r in (bound, ml, dark)] == ["bound", "ml", "dark"]
    assert set(ml["error"]) == {"clean", "noise .02", "noise .05", "peak .6", "blur", "second mode"}
    for defect in ("noise .02", "noise .05", "peak .6"):
        assert ml["error"][defect] < 1.2 * bound["error"][defect] < dark["error"][defect]
    assert bound["error"]["blur"] is None
    assert ml["ms"] > 0 and ml["amax"] > 1
    table = popos("bench", "decoders", *flags).ok().out
    assert "ml" in table and "second mode" in table
