"""HRNet-W18 against timm's, and by resolution, stem norm and fusion."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from popos_cli.core.choices import IMAGENET_MEAN, IMAGENET_STD
from popos_cli.core.hrnet import ExchangeModule, HRNet, fold_batch_norms
from popos_cli.core.model import Landmarker


def randomise(module, seed=0):
    """Weights of a size that keeps activations alive, and batch norms that are not identities."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
        elif isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.weight, 0.5, 1.0),
                (layer.bias, -0.2, 0.2),
                (layer.running_mean, -0.2, 0.2),
                (layer.running_var, 0.5, 2.0),
            ):
                nn.init.uniform_(tensor, low, high, generator=generator)
    return module.eval()


@pytest.fixture(scope="module")
def theirs():
    timm = pytest.importorskip("timm")
    return randomise(timm.create_model("hrnet_w18", pretrained=False))


def test_equals_timm_at_stride_4(theirs):
    ours = HRNet(4).eval()
    state = theirs.state_dict()
    ours.load_state_dict({name: state[name] for name in ours.state_dict()})
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        x = theirs.act1(theirs.bn1(theirs.conv1(images)))
        expected = theirs.stages(theirs.act2(theirs.bn2(theirs.conv2(x))))
        found = ours(images)
    assert len(found) == len(expected) == 4
    for a, b in zip(found, expected, strict=True):
        assert b.abs().max() > 0.1
        torch.testing.assert_close(a, b, atol=1e-5 * float(b.abs().max()), rtol=0)


def test_tensor_names_and_shapes_are_timms(theirs):
    """All but timm's classification head, so that foreign weights load without a renaming table."""
    head = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
    expected = {k: v.shape for k, v in theirs.state_dict().items() if not k.startswith(head)}
    assert {k: v.shape for k, v in HRNet(4).state_dict().items()} == expected
    assert len(expected) == 1830


@pytest.mark.parametrize(
    "resolution, millions, branches",
    [(64, 9.65, 4), (32, 9.65, 4), (16, 9.65, 4), (8, 2.82, 3), (4, 0.65, 2)],
)
def test_sizes_by_resolution(resolution, millions, branches):
    model = Landmarker(68, resolution).eval()
    images = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        assert model(images).shape == (1, 68, resolution, resolution)
        features = model.backbone(images)
    sizes = [(18 * 2**i, resolution // 2**i, resolution // 2**i) for i in range(branches)]
    assert [f.shape[1:] for f in features] == sizes
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


def test_other_crops_work_where_the_stride_does():
    assert Landmarker(5, 8, image_size=64)(torch.rand(2, 3, 64, 64)).shape == (2, 5, 8, 8)


def as_own(shared):
    """The same network with a batch norm of its own, equal to bn2, behind every extra conv."""
    own = HRNet(64, "own")
    state = shared.state_dict()
    for index in (3, 4):
        state |= {k.replace("bn2", f"bn{index}"): v for k, v in state.items() if k.startswith("bn2.")}
    own.load_state_dict(state)
    return own.eval()


def test_shared_stem_norm_is_bn2_behind_every_conv():
    shared = randomise(HRNet(64, "shared"))
    assert not [name for name in shared.state_dict() if name.startswith(("bn3.", "bn4."))]
    own, images = as_own(shared), torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        for a, b in zip(shared(images), own(images), strict=True):
            torch.testing.assert_close(a, b)
        # Where the norms of "own" part from bn2, so do the outputs.
        for norm in (own.bn3, own.bn4):
            before = norm.bias.clone()
            norm.bias += 1
            assert not torch.allclose(shared(images)[0], own(images)[0], rtol=0.01)
            norm.bias.copy_(before)


def test_shared_stem_norm_is_updated_by_every_conv_in_training():
    shared = HRNet(64, "shared").train()
    shared(torch.rand(2, 3, 128, 128))
    assert int(shared.bn2.num_batches_tracked) == 3
    assert int(shared.bn1.num_batches_tracked) == 1


def test_bilinear_fusion_interpolates_coarser_branches():
    path = ExchangeModule((18, 36), "bilinear").fuse_layers[0][1].eval()
    x = torch.randn(1, 36, 5, 7)
    with torch.no_grad():
        expected = F.interpolate(path[:2](x), size=(10, 14), mode="bilinear", align_corners=False)
        torch.testing.assert_close(path(x), expected)
    plain, smooth = randomise(HRNet(64)), HRNet(64, fusion="bilinear").eval()
    smooth.load_state_dict(plain.state_dict())
    images = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        assert not torch.allclose(smooth(images)[0], plain(images)[0], rtol=0.01)


def test_mean_and_std_are_inside_the_model():
    model = randomise(Landmarker(3, 4, image_size=128))
    plain = randomise(Landmarker(3, 4, image_size=128, mean=(0, 0, 0), std=(1, 1, 1)))
    images = torch.rand(1, 3, 128, 128)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        torch.testing.assert_close(model(images), plain((images - mean) / std))


@pytest.mark.parametrize("resolution", [60, 128, 2])
def test_a_resolution_that_no_network_has_is_refused(resolution):
    with pytest.raises(ValueError, match=r"divide|stride"):
        Landmarker(68, resolution)


def test_more_stages_than_the_resolution_has():
    """At 8 pixels all four: branches of 8, 4, 2 and 1 pixels, and the three-stage net's tensors are in it."""
    usual, deep = Landmarker(68, 8), Landmarker(68, 8, stages=4).eval()
    branches = deep.backbone(torch.zeros(1, 3, 256, 256))
    assert [b.shape[-1] for b in branches] == [8, 4, 2, 1]
    assert deep(torch.zeros(2, 3, 256, 256)).shape == (2, 68, 8, 8)
    shapes = {name: tensor.shape for name, tensor in deep.state_dict().items()}
    backbone = {name: t.shape for name, t in usual.state_dict().items() if name.startswith("backbone.")}
    assert backbone.items() < shapes.items()


@pytest.mark.parametrize(("stride", "stem_norm"), [(64, "shared"), (64, "own"), (16, "own")])
def test_folded_batch_norms_change_nothing(stride, stem_norm):
    net, images = randomise(HRNet(stride, stem_norm)).eval(), torch.rand(2, 3, 128, 128)
    with torch.inference_mode():
        before = net(images)
        fold_batch_norms(net)
        for a, b in zip(net(images), before, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))
    left = [name for name, module in net.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert left == (["bn2"] if stem_norm == "shared" else [])
