"""A weight file read back, and every way in which a file may be refused."""

import json

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
from popos_cli.weights.format import read_info, read_state, read_weights, replace_info, save_weights
from popos_cli.weights.info import CodecInfo, CropInfo, WeightsInfo

OWN = Scheme(
    name="triangle", landmarks=3, groups={"left": (0,), "right": (1,), "chin": (2,)}, closed=frozenset(),
    flip_pairs=((0, 1),), eye_corners=(0, 1), threshold=0.08,
)  # fmt: skip


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
    codec = weights.codec
    assert (weights.info, weights.scheme) == (info, SCHEMES["cofw"])
    assert (codec.width, codec.image_width, codec.decoder, codec.alignment) == (4, 256, "popos", "mmpose")
    assert not weights.model.training
    with safe_open(path, framework="pt") as file:
        stored = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    state = weights.model.state_dict()
    for name, tensor in model.state_dict().items():
        halved = half and tensor.ndim == 4  # convolutions alone: float16 has 11 bits, or 2^-24 steps near 0
        assert stored[name] == (torch.float16 if halved else tensor.dtype), name
        assert state[name].dtype == tensor.dtype
        error = (state[name] - tensor).abs()
        assert (error <= (tensor.abs() * 2**-11 + 2**-25 if halved else 0)).all()
    images = torch.rand(2, 3, 256, 256)
    with torch.no_grad():
        found, expected = weights.model(images), model(images)
    assert (found - expected).abs().max() <= (2e-2 if half else 0) * expected.std()


def test_an_own_scheme_travels_with_the_weights(tmp_path):
    info = WeightsInfo(resolution=4, scheme="triangle", scheme_definition=OWN.to_dict())
    save_weights(tmp_path / "own.safetensors", Landmarker(3, 4).state_dict(), info, half=True)
    weights = read_weights(tmp_path / "own.safetensors")
    assert (weights.scheme, weights.model.landmarks) == (OWN, 3)


def test_metadata_that_a_later_version_adds_is_ignored(saved, info):
    rewrite(saved, {**info.model_dump(), "colour_of_the_sky": "blue"})
    assert read_info(saved) == info


def rewrite(path, metadata):
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    save_file(read_state(path), path, metadata={"popos": text})


def test_a_newer_format_is_refused(saved, info):
    rewrite(saved, {**info.model_dump(), "format": 2, "resolution": "something else by then"})
    assert "newer" in refusal(saved)


ROW = [0.0] * len(FEATURES)
CALIBRATION = {
    "landmarks": [1.0] * 29, "own": ROW, "face": ROW, "lowest": [ROW, ROW], "highest": [ROW, ROW],
    "dataset": "mine", "faces": 9,
}  # fmt: skip
NAN, HUGE = float("nan"), 1e300


def embedded(**change):
    return {"scheme_definition": {**OWN.to_dict(), "name": "cofw", "landmarks": 29, **change}}


# What the metadata may not be, and the key that the message names.
BAD_VALUES = {
    "crop.padding": [{"crop": {"padding": value}} for value in (0, NAN, True)],
    "sigma": [{"codec": {"sigma": value}} for value in (0, NAN, 1e30, 65, "2")],
    "oracle": [{"codec": {"decoder": "oracle"}}],
    "label_offset": [{"label_offset": value} for value in ([NAN, 0], [HUGE, 0], [1], [True, 0])],
    "image": [{"image_size": value} for value in (0, 1 << 20, 1024, 250)],
    "resolution": [{"resolution": value} for value in (0, 3, 128, 256, 2, 4.5, 10**30, None)],
    "normalisation.std": [{"normalisation": {"std": value}} for value in ([0, 1, 1], [NAN] * 3)],
    "normalisation.mean": [{"normalisation": {"mean": [HUGE] * 3}}],
    "stages": [{"stages": 5}],
    "format": [{"format": value} for value in (0, "two", None)],
    "calibrat": [
        {"uncertainty": {**CALIBRATION, **change}}
        for change in ({"landmarks": [1.0] * 5}, {"own": ROW[1:]}, {"own": [HUGE, *ROW[1:]]})
    ],
    "uncertainty": [
        {"uncertainty": {**CALIBRATION, **change}}
        for change in ({"faces": 0}, {"lowest": ROW[1:]}, {"own": [NAN, *ROW[1:]]})
    ],
    "crop.detectors.haar": [
        {"crop": {"detectors": {"haar": rule}}}
        for rule in (3, {"shift": [0, 0], "side": 0}, {"shift": [0, NAN], "side": 1})
    ],
    "scheme": [{"scheme": "nobody's"}, {"scheme_definition": {"name": "x"}}, embedded(groups=3)],
    "another": [embedded(name="another")],
    "": [
        embedded(landmarks=10**9), embedded(threshold=NAN),
        embedded(groups={"a": [29]}), embedded(flip_pairs=[[0, 1], [1, 2]]),
        "", "[1, 2]", "null", "[" * 100_000, '{"training": ' * 50_000, '{"format": 1e999}',
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "key, change", [(key, change) for key, changes in BAD_VALUES.items() for change in changes],
    ids=lambda value: str(value)[:70],
)  # fmt: skip
def test_bad_metadata_is_refused_before_anything_is_built(saved, info, key, change, monkeypatch):
    monkeypatch.setattr(WeightsInfo, "build_model", lambda *_: pytest.fail("was built"))
    rewrite(saved, {**info.model_dump(), **change} if isinstance(change, dict) else change)
    assert key in refusal(saved)


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
        ("backbone.bn1.running_mean", lambda t: t.double() + 1e300, "infinite"),
        ("backbone.bn1.running_var", lambda t: -t, "negative"),
        ("backbone.conv1.weight", lambda t: t.to(torch.int8), "int8"),
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


@pytest.mark.parametrize("keep", [4, 100, -1000])
def test_a_torn_file_is_refused(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    refusal(saved)
    refusal(saved, read_info)


def test_tensors_of_another_network_are_refused(saved, model, info):
    fewer = {name: tensor for name, tensor in model.state_dict().items() if name != "head.3.bias"}
    for state in (Landmarker(29, 8).state_dict(), Landmarker(28, 4).state_dict(), fewer):
        save_weights(saved, state, info, half=True)
        assert "head.3." in refusal(saved)


def test_a_failed_save_leaves_the_old_file(saved, model, info):
    before = saved.read_bytes()
    state = dict(model.state_dict(), broken=torch.zeros(2, device="meta"))
    with pytest.raises(Exception, match="meta"):
        save_weights(saved, state, info, half=True)
    assert saved.read_bytes() == before
    assert {p.name for p in saved.parent.iterdir()} == {saved.name, "home"}


def test_the_crop_rule_is_kept_under_the_documented_names(saved, info):
    crop = CropInfo(detectors={"haar": CropRule((0.01, 0.1), 0.44)}, landmarks=CropRule((0, -0.1), 1.2))
    replace_info(saved, saved, info.model_copy(update={"crop": crop}))
    with safe_open(saved, "pt") as file:
        assert json.loads(file.metadata()["popos"])["crop"] == {
            "padding": 1.25,
            "landmarks": {"shift": [0, -0.1], "side": 1.2},
            "detectors": {"haar": {"shift": [0.01, 0.1], "side": 0.44}},
        }
    assert read_info(saved).crop == crop


def test_files_without_a_rule_go_by_their_scheme(info):
    """As in files from before there were rules; unknown keys are ignored."""
    for scheme in SCHEMES:
        old = WeightsInfo.model_validate(
            {"resolution": 4, "scheme": scheme, "crop": {"padding": 1.25, "later": 1}}
        )
        assert old.rule_from_300w("haar") == old.rule_from_300w("yunet") == FROM_300W[scheme]
        assert old.around_landmarks() == FROM_LANDMARKS[scheme]
    own = WeightsInfo(resolution=4, scheme="triangle", scheme_definition=OWN.to_dict())
    assert own.rule_from_300w("haar") is None
    assert own.around_landmarks() == SAME
    # An own scheme with the name of a built-in one: its points are others.
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
