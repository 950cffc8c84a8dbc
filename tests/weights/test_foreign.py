"""Checkpoints of mmpose, POPoS and HRNet become our weights, with the codec that they were trained for."""

import hashlib
from collections import OrderedDict

import numpy as np
import pytest
import torch
from layouts import checkpoint, hrnet, mmpose_0, mmpose_1, network, popos_fork
from safetensors import safe_open
from torch.masked import masked_tensor

from popos_cli.core.codec import Codec
from popos_cli.errors import PoposError, UsageError
from popos_cli.weights.catalog import Entry
from popos_cli.weights.foreign import import_checkpoint, import_file, read_foreign, recognised
from popos_cli.weights.format import read_info, read_weights
from popos_cli.weights.layouts import FIRST_BRANCH

TINY = 'name = "tiny"\nlandmarks = 5\neye_corners = [0, 1]\n'


@pytest.fixture(scope="module")
def mmpose_64():
    return network(98, 64)


@pytest.fixture(scope="module")
def popos_4():
    return network(68, 4, popos=True)


@pytest.fixture(scope="module")
def popos_16():
    return network(5, 16, popos=True)


def save(path, state, **more):
    torch.save(checkpoint(state), path, **more)
    return path


def known(**facts):
    """What is known of a checkpoint beforehand."""
    return Entry(**{"name": "c", "source": "c", "format": "mmpose", **facts})


def refusal(source, **facts):
    """The PoposError of an import, which leaves no new file behind."""
    before = set(source.parent.iterdir())
    with pytest.raises(PoposError) as caught:
        import_checkpoint(source, source.with_suffix(".safetensors"), known(**facts))
    assert str(source) in caught.value.message and "\n" not in caught.value.message
    assert set(source.parent.iterdir()) == before
    return caught.value


def same_heatmaps(path, model):
    images = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(5))
    weights = read_weights(path)
    read, codec = weights.model, weights.codec
    with torch.no_grad():
        found, expected = read(images), model(images)
    assert torch.equal(found, expected)
    assert expected.std() > 1e-3
    assert codec.width == found.shape[-1]


WFLW_64 = (98, 64, False)


@pytest.mark.parametrize(
    "net, name, layout, zipped, scheme, decoder",
    [
        (WFLW_64, "c.pth", mmpose_0, False, "wflw", "two-hot"),
        (WFLW_64, "c.pth", mmpose_1, True, "wflw", "two-hot"),
        (WFLW_64, "hrnetv2_w18_wflw_256x256_dark-12345678_20210125.pth", mmpose_0, True, "wflw", "dark"),
        ((98, 32, True), "best_NME_epoch_60.pth", popos_fork, True, "wflw", "popos"),
        ((29, 8, True), "best_NME_epoch_60.pth", popos_fork, True, "cofw", "popos"),
        ((19, 4, True), "best_NME_epoch_60.pth", popos_fork, True, "aflw", "popos"),
    ],
)
def test_mmpose_and_popos(tmp_path, net, name, layout, zipped, scheme, decoder):
    landmarks, resolution, popos = net
    model = network(landmarks, resolution, popos)
    source = save(tmp_path / name, layout(model), _use_new_zipfile_serialization=zipped)
    info = import_checkpoint(source, tmp_path / "w.safetensors")
    same_heatmaps(tmp_path / "w.safetensors", model)
    assert (info.scheme, info.resolution) == (scheme, resolution)
    assert info.stem_norm == ("shared" if popos else "own")
    assert (info.codec.sigma, info.codec.decoder, info.codec.alignment) == (2.0, decoder, "mmpose")
    assert (info.crop.padding, info.label_offset) == (1.25, (0.0, 0.0))
    assert read_info(tmp_path / "w.safetensors") == info
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(model.state_dict())


def test_popos_at_64_pixels_is_known_by_its_unused_convolutions(tmp_path):
    model = network(29, 64, popos=True)
    foreign = read_foreign(save(tmp_path / "c.pth", popos_fork(model)))
    assert (foreign.layout, foreign.info.resolution, foreign.info.codec.decoder) == ("popos", 64, "popos")
    assert any("64-pixel" in remark for remark in foreign.remarks)


def prefixed(state, prefix):
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())


def other(state):
    return {name: tensor + 1 for name, tensor in state.items()}


@pytest.mark.parametrize(
    "data",
    [
        lambda state: prefixed(state, "module."),
        lambda state: {"state_dict": prefixed(state, "_orig_mod.module.")},
        lambda state: {n.replace("backbone.", "backbone._orig_mod."): t for n, t in state.items()},
        lambda state: {"state_dict": prefixed(state, "net.model.") | {"loss.weight": torch.zeros(3)}},
        lambda state: {"model": state, "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}}},
        lambda state: {"ema": {"module": state, "updates": 3}},
        lambda state: {"n_averaged": torch.tensor(5), **prefixed(state, "module.")},
        lambda state: {"state_dict": state | {f"ema_{n.replace('.', '_')}": t + 1 for n, t in state.items()}},
        lambda state: {"state_dict": state, "ema_state_dict": prefixed(other(state), "module.")},
        lambda state: {"state_dict_ema": other(state), "state_dict": state},
    ],
    ids=["DDP", "compiled DDP", "compiled part", "Lightning", "model", "ema.module", "torch's average",
         "mmcv's average", "mmengine's average", "timm's average"],
)  # fmt: skip
def test_wherever_the_network_lies_and_whatever_its_names_begin_with(tmp_path, popos_4, data):
    torch.save(data(popos_fork(popos_4)), tmp_path / "c.pth")
    found, expected = read_foreign(tmp_path / "c.pth").state, popos_4.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_second_network_that_is_left_out_is_named(tmp_path, popos_4):
    state = popos_fork(popos_4)
    torch.save({"state_dict": state, "ema_state_dict": other(state)}, tmp_path / "c.pth")
    assert "ema_state_dict" in read_foreign(tmp_path / "c.pth").remarks[0]


@pytest.mark.parametrize(
    "data, words",
    [
        (lambda state: {"model": state, "ema": other(state)}, "several networks: model, ema"),
        (lambda state: prefixed(state, "student.") | prefixed(state, "teacher."), "student, teacher"),
        (lambda state: {"state_dict": state | prefixed(state, "ema.")}, "state_dict, state_dict.ema"),
        (lambda state: state | prefixed(other(state), "module."), "two tensors backbone"),
    ],
)
def test_of_several_networks_none_is_picked(tmp_path, popos_4, data, words):
    torch.save(data(popos_fork(popos_4)), tmp_path / "c.pth")
    assert words in refusal(tmp_path / "c.pth").message


def test_hrnets_own_names(tmp_path, mmpose_64):
    """Bilinear fusion, two-hot, sigma and alignment are those of HRNet-Facial-Landmark-Detection."""
    source = tmp_path / "HR18-WFLW.pth"
    torch.save(hrnet(mmpose_64), source)
    info = import_checkpoint(source, tmp_path / "w.safetensors")
    same_heatmaps(tmp_path / "w.safetensors", mmpose_64)
    assert (info.fusion, info.stem_norm, info.resolution, info.scheme) == ("bilinear", "own", 64, "wflw")
    assert (info.codec.sigma, info.codec.decoder, info.codec.alignment) == (1.5, "two-hot", "hrnet")
    assert read_foreign(source, known(sigma=2.0, label_offset=(1.0, 1.0))).remarks == ()
    assert "64-pixel heatmaps alone" in refusal(source, resolution=32).message


def test_hrnets_own_names_of_300w(tmp_path, mmpose_64):
    """Its file has the prefix of DataParallel; its sigma is another."""
    state = {n: t[:68] if n.startswith("head.3.") else t for n, t in hrnet(mmpose_64).items()}
    torch.save({"state_dict": prefixed(state, "module."), "epoch": 60}, tmp_path / "HR18-300W.pth")
    foreign = read_foreign(tmp_path / "HR18-300W.pth")
    assert (foreign.layout, foreign.info.scheme, foreign.info.codec.sigma) == ("hrnet", "300w", 1.0)
    assert torch.equal(foreign.state["backbone.conv1.weight"], mmpose_64.backbone.conv1.weight)
    assert any("--label-offset 0.5,1" in remark for remark in foreign.remarks)


def test_a_point_of_hrnets_crop_lies_where_its_heatmap_has_it(tmp_path):
    """HRNet's code cuts the picture from `upper` to `lower`, whole pixels, and puts pixel j of the crop on
    (j + .5) / 256 of that. Its target's peak is pixel i for a landmark from i to i + 1, in 64ths of the
    face's square."""
    rng = np.random.default_rng(0)
    side = rng.uniform(100, 500, 20_000)
    center = rng.uniform(300, 700, 20_000)
    point = center + side * rng.uniform(-0.4, 0.4, 20_000)
    upper, lower = (np.floor(center + side * (end / 256 - 0.5)) + 1 for end in (-1, 255))
    in_crop = (point + 0.5 - upper) / (lower - upper) * 256 - 0.5
    peak = np.floor((point - center) / side * 64 + 32)
    codec = Codec(64, alignment="hrnet")
    ours = codec.to_crop(torch.from_numpy(peak)[:, None].expand(-1, 2))[:, 0].numpy()
    assert abs((in_crop - ours).mean()) < 0.05  # center: 1, mmpose: 2.5


def test_our_own_names_without_our_metadata_are_refused(tmp_path):
    """Nothing says whether its fusion and alignment are ours ("nearest", "center") or another's."""
    torch.save({"model": network(29, 4).state_dict()}, tmp_path / "last.pth")
    assert "popos' own tensors" in refusal(tmp_path / "last.pth").message


@pytest.mark.parametrize(
    "kind, change",
    [
        ("sparse_coo", lambda t: t.to_sparse()),
        ("meta", lambda t: t.to("meta")),
        ("qint8", lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)),
        ("complex64", lambda t: t.to(torch.complex64)),
        ("bool", lambda t: t > 0),
        ("MaskedTensor", lambda t: masked_tensor(t, t > 0)),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_of_other_kinds_are_named(tmp_path, popos_4, kind, change):
    state, name = popos_fork(popos_4), f"backbone.{FIRST_BRANCH}"
    torch.save({"state_dict": {**state, name: change(state[name])}}, tmp_path / "c.pth")
    message = refusal(tmp_path / "c.pth").message
    assert kind in message and (name in message or kind == "MaskedTensor")


def test_half_precision_and_missing_counters(tmp_path, popos_4):
    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in popos_fork(popos_4).items()
        if not name.endswith("num_batches_tracked")
    }
    state_found = read_foreign(save(tmp_path / "c.pth", state)).state
    wanted = popos_4.state_dict()
    assert {name: t.dtype for name, t in state_found.items()} == {name: t.dtype for name, t in wanted.items()}
    assert torch.equal(state_found["head.3.weight"], wanted["head.3.weight"].half().float())


def test_a_scheme_of_ones_own_travels_along(tmp_path, popos_16):
    source = save(tmp_path / "c.pth", popos_fork(popos_16))
    error = refusal(source)
    assert "5 landmarks" in error.message and "--scheme" in error.hint
    (tmp_path / "tiny.toml").write_text(TINY)
    import_checkpoint(source, tmp_path / "w.safetensors", known(scheme=str(tmp_path / "tiny.toml")))
    scheme = read_weights(tmp_path / "w.safetensors").scheme
    assert (scheme.name, scheme.landmarks) == ("tiny", 5)
    assert "98" in refusal(source, scheme="wflw").message


def test_what_is_known_is_taken_and_a_missing_label_offset_has_a_remark(tmp_path, popos_4):
    source = save(tmp_path / "c.pth", popos_fork(popos_4))
    facts = {"sigma": 1.5, "decoder": "dark", "label_offset": (1.0, 1.0)}
    foreign = read_foreign(source, known(**facts))
    info = foreign.info
    assert (info.codec.sigma, info.codec.decoder, info.label_offset) == (1.5, "dark", (1.0, 1.0))
    assert foreign.remarks == ()
    (remark,) = read_foreign(source).remarks
    assert "label offset 0" in remark and "--label-offset 1,1" in remark


def test_known_files_are_recognised_by_their_hash(tmp_path, popos_4):
    source = save(tmp_path / "renamed.pth", popos_fork(popos_4))
    digits = hashlib.sha256(source.read_bytes()).hexdigest()
    (tmp_path / "home/catalog.toml").write_text(
        f'["mine"]\nsource = "https://example.org/mine-{digits[:8]}.pth"\nformat = "mmpose"\n'
        f'scheme = "300w"\nsha256 = "{digits[:8]}"\nsigma = 1.5\ndecoder = "dark"\nlabel_offset = [1, 1]\n'
    )
    foreign = read_foreign(source)
    assert (foreign.info.codec.sigma, foreign.info.codec.decoder) == (1.5, "dark")
    assert (foreign.info.label_offset, foreign.remarks) == ((1, 1), ())
    assert foreign.info.training["imported"]["name"] == "mine"
    source.write_bytes(source.read_bytes() + b" ")
    assert not recognised(source).named


def without(state, *parts):
    return {name: tensor for name, tensor in state.items() if not any(part in name for part in parts)}


@pytest.mark.parametrize(
    "parts, seen",
    [
        (("downscale_layer",), "0 downscaling"),
        (("downscale_layer", "conv4", "stage3", "stage4", "transition2", "transition3"), "1 of conv3"),
        (("downscale_layer.9", "downscale_layer.10"), "3 downscaling"),
        (("backbone.conv3", "backbone.conv4"), "0 of conv3"),
    ],
    ids=["no downscaling", "stripped", "one downscaling less", "downscaling without conv3"],
)
def test_tensors_that_contradict_each_other_are_refused(tmp_path, popos_4, parts, seen):
    error = refusal(save(tmp_path / "c.pth", without(popos_fork(popos_4), *parts)))
    assert "contradict" in error.message and seen in error.message and "54" in error.message
    assert "--resolution" in error.hint


def test_a_stripped_file_is_imported_at_the_resolution_that_is_asked_for(tmp_path):
    model = network(29, 8, popos=True)
    stripped = without(popos_fork(model), "downscale_layer", "conv4", "stage4", "transition3")
    source = save(tmp_path / "c.pth", stripped)
    assert "--resolution 8" in refusal(source).hint
    import_checkpoint(source, tmp_path / "w.safetensors", known(resolution=8))
    same_heatmaps(tmp_path / "w.safetensors", model)
    for wrong in (64, 32, 16, 4):
        assert f"heatmaps of {wrong} pixels" in refusal(source, resolution=wrong).message


def test_of_the_sizes_with_one_network_the_asked_one_is_built(tmp_path, popos_16):
    (tmp_path / "tiny.toml").write_text(TINY)
    scheme = str(tmp_path / "tiny.toml")
    whole = save(tmp_path / "whole.pth", popos_fork(popos_16))
    assert read_foreign(whole, known(scheme=scheme)).info.resolution == 16
    assert read_foreign(whole, known(scheme=scheme, resolution=16)).info.resolution == 16
    for wrong in (64, 32, 8):
        assert "2 downscaling" in refusal(whole, scheme=scheme, resolution=wrong).message
    parts = ("downscale_layer", "backbone.conv3", "backbone.conv4")
    found = read_foreign(
        save(tmp_path / "s.pth", without(popos_fork(popos_16), *parts)), known(scheme=scheme, resolution=16)
    )
    assert (found.info.resolution, found.layout, found.info.codec.decoder) == (16, "popos", "popos")


def named(*names, shape=(64, 64, 3, 3)):
    return {name: torch.zeros(shape) for name in names}


W32 = (f"backbone.{FIRST_BRANCH}", "keypoint_head.final_layer.3.weight")


@pytest.mark.parametrize(
    "data, what",
    [
        ([torch.zeros(3)], "no tensors, but a list"),
        ({"state_dict": 3}, "no tensors"),
        (checkpoint(named("backbone.conv1.weight", "backbone.layer4.0.conv1.weight")), "a ResNet"),
        (named("conv1.weight", FIRST_BRANCH, shape=(18, 18, 3, 3)), "W18 without a heatmap head"),
        (checkpoint(named(*W32, shape=(32, 32, 3, 3))), "an HRNet-W32 with a heatmap head"),
        (named("encoder.weight", "decoder.weight"), "encoder.weight"),
    ],
)
def test_what_a_checkpoint_of_something_else_holds(tmp_path, data, what):
    torch.save(data, tmp_path / "c.pth")
    message = refusal(tmp_path / "c.pth").message
    assert what in message and "needed: an HRNet-W18" in message


SOME = "backbone.layer1.0.conv2.weight"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda state: without(state, SOME), f"{SOME} is missing"),
        (lambda state: {**state, SOME: torch.nested.nested_tensor([torch.zeros(2)])}, f"{SOME} is missing"),
        (lambda state: {**state, SOME: torch.zeros(32, 64, 3, 3)}, f"{SOME} is (32, 64, 3, 3), not"),
        (lambda state: {**state, "keypoint_head.deconv_layers.0.weight": torch.zeros(3)}, "deconv_layers"),
        (lambda state: {**state, SOME: state[SOME] * torch.nan}, f"{SOME} has NaN"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_missing_wrong_or_too_many_are_named(tmp_path, popos_4, change, words):
    assert words in refusal(save(tmp_path / "c.pth", change(popos_fork(popos_4)))).message


@pytest.mark.parametrize(
    "flags, words",
    [
        ({"scheme": "wflv"}, "'wflv'"),
        ({"label_offset": (1e9, 0.0)}, "--label-offset"),
        *(({"sigma": sigma}, "--sigma") for sigma in (0.0, float("nan"), 1e-300, float("inf"))),
    ],
)
def test_impossible_values_are_found_before_the_file_is_read(tmp_path, flags, words):
    with pytest.raises(UsageError, match=words):
        import_file(tmp_path / "gone.pth", flags, None, None, False)
