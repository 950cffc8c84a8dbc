"""A weight file read back, and every way in which a file may be refused."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from popos_cli.core.calibration import FEATURES
from popos_cli.core.crop_rule import FROM_300W, FROM_LANDMARKS, RULES, SAME, CropRule
from popos_cli.core.model import Landmarker
from popos_cli.core.schemes import SCHEMES, Scheme
from popos_cli.errors import PoposError
from popos_cli.weights.format import (
    CodecInfo,
    CropInfo,
    WeightsInfo,
    read_info,
    read_state,
    read_weights,
    save_weights,
)

OWN = Scheme(
    name="triangle",
    landmarks=3,
    groups={"left": (0,), "right": (1,), "chin": (2,)},
    closed=frozenset(),
    flip_pairs=((0, 1),),
    eye_corners=(0, 1),
    threshold=0.08,
)


@pytest.fixture(scope="module")
def model():
    """The smallest network, with activations that differ by landmark and used batch norms."""
    torch.manual_seed(0)
    model = Landmarker(29, 4)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(4, 3, 256, 256))
    return model.eval()


@pytest.fixture
def info():
    return WeightsInfo(resolution=4, scheme="cofw", codec=CodecInfo(decoder="popos", alignment="mmpose"))


@pytest.fixture
def saved(tmp_path, model, info):
    path = tmp_path / "some weights.safetensors"
    save_weights(path, model.state_dict(), info, half=True)
    return path


def refusal(path, read=read_weights):
    """The message of the PoposError that reading `path` raises: one line that names it."""
    with pytest.raises(PoposError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.strip() and "\n" not in message
    return message


@pytest.mark.parametrize("half", [True, False])
def test_round_trip(tmp_path, model, info, half):
    path = tmp_path / "deep" / "er" / "w.safetensors"
    info = info.model_copy(update={"label_offset": (1.0, 1.0), "training": {"epochs": 3}})
    save_weights(path, model.state_dict(), info, half)
    weights = read_weights(path)
    read, codec, again, scheme = weights.model, weights.codec, weights.info, weights.scheme
    assert again == info
    assert scheme == SCHEMES["cofw"]
    assert (codec.width, codec.image_width, codec.decoder, codec.alignment) == (4, 256, "popos", "mmpose")
    assert not read.training
    state = read.state_dict()
    for name, tensor in model.state_dict().items():
        if half and tensor.ndim == 4:  # float16: 11 bits, or 2^-24 steps near zero
            error = (state[name] - tensor).abs()
            assert (error <= tensor.abs() * 2**-11 + 2**-25).all()
        else:
            assert torch.equal(state[name], tensor)
    images = torch.rand(2, 3, 256, 256)
    with torch.no_grad():
        found, expected = read(images), model(images)
    assert (found - expected).abs().max() <= (2e-2 if half else 0) * expected.std()


def test_only_convolutions_are_halved(saved, model):
    with safe_open(saved, framework="pt") as file:
        dtypes = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert set(dtypes) == set(model.state_dict())
    for name, tensor in model.state_dict().items():
        expected = torch.float16 if tensor.ndim == 4 else tensor.dtype
        assert dtypes[name] == expected, name
    assert dtypes["backbone.bn2.running_var"] == torch.float32
    assert all(v.dtype in (torch.float32, torch.int64) for v in read_state(saved).values())


def test_an_own_scheme_travels_with_the_weights(tmp_path):
    model = Landmarker(3, 4)
    path = tmp_path / "own.safetensors"
    info = WeightsInfo(resolution=4, scheme="triangle", scheme_definition=OWN.to_dict())
    save_weights(path, model.state_dict(), info, half=True)
    weights = read_weights(path)
    read, scheme = weights.model, weights.scheme
    assert scheme == OWN
    assert read.landmarks == 3


def test_metadata_that_a_later_version_adds_is_ignored(saved, info):
    rewrite(saved, {**info.model_dump(), "colour_of_the_sky": "blue"})
    assert read_info(saved) == info


def rewrite(path, metadata):
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    save_file(read_state(path), path, metadata={"popos": text})


def test_a_newer_format_is_refused(saved, info):
    rewrite(saved, {**info.model_dump(), "format": 2, "resolution": "something else by then"})
    assert "newer" in refusal(saved)


@pytest.mark.parametrize("value", ["two", None, {}])
def test_a_format_that_is_no_number_is_named(saved, info, value):
    rewrite(saved, {**info.model_dump(), "format": value})
    assert "format: Input should be a valid integer" in refusal(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"resolution": None},
        {"resolution": "big"},
        {"architecture": "resnet"},
        {"codec": {"alignment": "udp"}},
        {"codec": {"decoder": "oracle"}},
        {"codec": {"sigma": -1}},
        {"image_size": 250},
        {"scheme": "nobody's"},
        {"scheme_definition": {"name": "x"}},
        {"format": "two"},
        {"stem_norm": "shared", "resolution": 8},
    ],
    ids=str,
)
def test_metadata_that_does_not_fit_is_refused(saved, info, change):
    rewrite(saved, {**info.model_dump(), **change})
    refusal(saved)


ROW = [0.0] * len(FEATURES)
CALIBRATION = {
    "landmarks": [1.0] * 29, "own": ROW, "face": ROW, "lowest": [ROW, ROW], "highest": [ROW, ROW],
    "dataset": "mine", "faces": 9,
}  # fmt: skip
NAN, INF, HUGE = float("nan"), float("inf"), 1e300


@pytest.mark.parametrize(
    "change",
    [
        *({"crop": {"padding": value}} for value in (0, -1.25, NAN, INF, HUGE, True, "1.25", None)),
        *({"codec": {"sigma": value}} for value in (0, 1e-300, NAN, INF, 1e30, 65, True, "2")),
        *({"label_offset": value} for value in ([NAN, 0], [0, INF], [HUGE, 0], [1], [1, 2, 3], [True, 0])),
        *({"image_size": value} for value in (0, -256, 8192, 1 << 20, 1024, 16, 256.5, True)),
        *({"resolution": value} for value in (0, -4, 3, 6, 128, 256, 2, 4.5, True, 10**30)),
        *({"normalisation": {"std": value}} for value in ([0, 1, 1], [1, 1], [NAN] * 3, [1e-30] * 3)),
        *({"normalisation": {"mean": value}} for value in ([NAN, 0, 0], [INF] * 3, [HUGE] * 3, [0] * 4)),
        *({"stages": value} for value in (0, 1, 5, "4", 2.5)),
        *({"format": value} for value in (0, -1, True, 1.5, NAN)),
        *({"uncertainty": {**CALIBRATION, "landmarks": value}} for value in ([1.0] * 5, [], [NAN] * 29)),
        *({"uncertainty": {**CALIBRATION, key: ROW[1:]}} for key in ("own", "face", "lowest", "highest")),
        *({"uncertainty": {**CALIBRATION, "own": [value, *ROW[1:]]}} for value in (NAN, INF, HUGE, None)),
        {"uncertainty": {**CALIBRATION, "lowest": [[1.0] * 5, ROW]}},
        {"uncertainty": {**CALIBRATION, "faces": 0}},
        {"uncertainty": []},
        {"training": [1]},
        {"fusion": "cubic"},
        {"stem_norm": None},
    ],
    ids=lambda change: str(change)[:60],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused_before_anything_is_built(saved, info, change, monkeypatch):
    monkeypatch.setattr(WeightsInfo, "build_model", lambda *_: pytest.fail("was built"))
    rewrite(saved, {**info.model_dump(), **change})
    refusal(saved)
    refusal(saved, read_info)


def embedded(**change):
    definition = {**OWN.to_dict(), "name": "cofw", "landmarks": 29, **change}
    return {"scheme_definition": definition}


@pytest.mark.parametrize(
    "change",
    [
        embedded(landmarks=10**9), embedded(landmarks=0), embedded(landmarks=28), embedded(threshold=NAN),
        embedded(threshold=0), embedded(groups={"a": [29]}), embedded(groups={"a": [-1]}),
        embedded(flip_pairs=[[0, 99]]), embedded(flip_pairs=[[0, 1], [1, 2]]), embedded(eye_corners=[0]),
        embedded(eye_corners=[0, 1e9]), embedded(groups=3), embedded(name="another"), {"scheme": ""},
    ],
    ids=lambda change: str(change)[:80],
)  # fmt: skip
def test_a_scheme_that_cannot_be_is_refused_before_anything_is_built(saved, info, change, monkeypatch):
    monkeypatch.setattr(WeightsInfo, "build_model", lambda *_: pytest.fail("was built"))
    rewrite(saved, {**info.model_dump(), **change})
    refusal(saved)


def test_what_was_always_written_is_still_read(saved, info):
    """Whole numbers where floats may be, keys left out, and a calibration."""
    rewrite(saved, {"resolution": 4, "scheme": "cofw", "label_offset": [1, 0], "crop": {"padding": 2}})
    read = read_weights(saved).info
    assert (read.label_offset, read.crop.padding, read.codec.sigma) == ((1.0, 0.0), 2.0, 2.0)
    rewrite(saved, {**info.model_dump(), "uncertainty": CALIBRATION})
    assert len(read_weights(saved).codec.calibration.landmarks) == 29


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("head.3.bias", lambda t: t * torch.nan, "NaN"),
        ("backbone.conv1.weight", lambda t: t.index_fill(0, torch.tensor(3), torch.inf), "NaN or infinite"),
        ("backbone.bn1.running_mean", lambda t: t.double() + 1e300, "infinite"),
        ("backbone.bn1.running_var", lambda t: -t, "negative"),
        ("backbone.conv1.weight", lambda t: t.to(torch.int8), "int8"),
        ("backbone.conv1.weight", lambda t: t.to(torch.complex64), "complex64"),
        ("head.3.bias", lambda t: t > 0, "bool"),
        ("head.3.weight", lambda t: t[:5].clone(), "(5, 54, 1, 1)"),
        ("head.3.weight", lambda t: t[:, :0].clone(), "(29, 0, 1, 1)"),
        ("backbone.bn1.weight", lambda t: t[:1].clone(), "backbone.bn1.weight"),
    ],
)
def test_tensors_that_no_network_has_are_named(saved, info, name, change, words):
    state = read_state(saved)
    save_file({**state, name: change(state[name])}, saved, {"popos": info.model_dump_json()})
    message = refusal(saved)
    assert name in message and words in message


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    refusal(tmp_path / "pipe.safetensors", read_info)


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", "null", "7", "[" * 100_000, '{"training": ' * 50_000, "{\"format\": 1e999}"],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_metadata_that_is_no_description_is_refused(saved, text):
    rewrite(saved, text)
    refusal(saved)


def test_plain_safetensors_are_refused(tmp_path):
    path = tmp_path / "plain.safetensors"
    save_file({"x": torch.zeros(3)}, path)
    assert "not popos weights" in refusal(path)
    assert "not popos weights" in refusal(path, read_info)


@pytest.mark.parametrize("keep", [0, 4, 100, -1000])
def test_a_torn_file_is_refused(saved, keep):
    data = saved.read_bytes()
    saved.write_bytes(data[:keep])
    refusal(saved)
    refusal(saved, read_info)


def test_other_files_are_refused(tmp_path):
    text = tmp_path / "text.safetensors"
    text.write_text("These are not the weights you are looking for.")
    refusal(text)
    torch.save({"x": torch.zeros(3)}, tmp_path / "pickle.safetensors")
    refusal(tmp_path / "pickle.safetensors")
    refusal(tmp_path / "missing.safetensors")
    refusal(tmp_path)


def test_tensors_of_another_network_are_refused(tmp_path, model, info):
    path = tmp_path / "other.safetensors"
    save_weights(path, Landmarker(29, 8).state_dict(), info, half=True)
    refusal(path)
    save_weights(path, Landmarker(28, 4).state_dict(), info, half=True)
    refusal(path)
    state = model.state_dict()
    del state["head.3.bias"]
    save_weights(path, state, info, half=True)
    assert "head.3.bias" in refusal(path)


def test_a_failed_save_leaves_the_old_file(saved, model, info):
    before = saved.read_bytes()
    state = dict(model.state_dict(), broken=torch.zeros(2, device="meta"))
    with pytest.raises(Exception, match="meta"):
        save_weights(saved, state, info, half=True)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_place_that_cannot_be_written_is_named(tmp_path, model, info):
    (tmp_path / "file").write_text("")
    with pytest.raises(PoposError, match="cannot write"):
        save_weights(tmp_path / "file" / "w.safetensors", model.state_dict(), info, half=True)


def test_the_crop_rule_is_kept_under_the_documented_names(tmp_path, model, info):
    crop = CropInfo(detectors={"haar": CropRule((0.01, 0.1), 0.44)}, landmarks=CropRule((0, -0.1), 1.2))
    path = tmp_path / "w.safetensors"
    save_weights(path, model.state_dict(), info.model_copy(update={"crop": crop}), half=False)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["popos"])["crop"] == {
            "padding": 1.25,
            "landmarks": {"shift": [0, -0.1], "side": 1.2},
            "detectors": {"haar": {"shift": [0.01, 0.1], "side": 0.44}},
        }
    assert read_info(path).crop == crop


def test_files_without_a_rule_go_by_their_scheme(info):
    """As written before there were rules; keys that this version does not know are passed by."""
    for scheme in SCHEMES:
        old = WeightsInfo.model_validate(
            {"resolution": 4, "scheme": scheme, "crop": {"padding": 1.25, "later": 1}}
        )
        assert old.rule_from_300w("haar") == old.rule_from_300w("yunet") == FROM_300W[scheme]
        assert old.around_landmarks() == FROM_LANDMARKS[scheme]
    own = WeightsInfo(resolution=4, scheme="triangle", scheme_definition=OWN.to_dict())
    assert own.rule_from_300w("haar") is None
    assert own.around_landmarks() == SAME
    # Another one's points under a known name: the name proves nothing.
    assert own.model_copy(update={"scheme": "aflw"}).rule_from_300w("haar") is None


def test_what_one_detector_measured_serves_another(info):
    rule = CropRule((0.02, 0.1), 0.44)
    info = info.model_copy(update={"crop": CropInfo(detectors={"haar": rule})})
    box = np.array([10.0, 20.0]), 40.0
    for name in ("haar", "auto"):
        center, side = info.rule_from_300w(name).square(*RULES["haar"].square(*box))
        np.testing.assert_allclose(center, rule.square(*box)[0])
        assert side == pytest.approx(rule.square(*box)[1])
    assert info.rule_from_300w("yunet") == info.rule_from_300w("haar")


@pytest.mark.parametrize(
    "rule",
    [{"shift": [0, 0], "side": 0}, {"shift": [0, float("nan")], "side": 1}, {"shift": [0], "side": 1}, 3],
)
def test_a_rule_that_is_none_is_refused(tmp_path, model, info, rule):
    path = tmp_path / "w.safetensors"
    data = json.loads(info.model_dump_json())
    data["crop"]["detectors"] = {"haar": rule}
    save_file({"a": torch.zeros(1)}, path, {"popos": json.dumps(data)})
    assert "crop.detectors.haar" in refusal(path, read_info)
