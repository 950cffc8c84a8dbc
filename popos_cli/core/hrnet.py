"""HRNet-W18, cut and re-strided by the heatmap's resolution.

Tensor names are the official ones (Sun et al. 2019, "Deep High-Resolution Representation Learning"), which
mmpose, the POPoS code and timm share, so their weights load as they are. The resolution sets the stem and how
many stages run: see `VARIANTS`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .choices import Fusion, StemNorm

CHANNELS = (18, 36, 72, 144)
MODULES = (1, 4, 3)  # exchange modules in stages 2, 3 and 4


class Variant(NamedTuple):
    """stem: strides of conv1 and conv2. extra: number of stride-2 convolutions after them. stages: 2 to 4."""

    stem: tuple[int, int]
    extra: int
    stages: int


# Keyed by the stride of the heatmap: crop pixels per heatmap pixel.
VARIANTS = {
    4: Variant((2, 2), 0, 4),
    8: Variant((4, 2), 0, 4),
    16: Variant((4, 4), 0, 4),
    32: Variant((4, 4), 1, 3),
    64: Variant((4, 4), 2, 2),
}


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class BasicBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(channels, channels), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv3x3(channels, channels), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + x)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int = 64) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv3x3(width, width), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(*conv_norm(inputs, outputs, 1)) if inputs != outputs else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ExchangeModule(nn.Module):
    """Four basic blocks a branch; then every branch receives the sum of all, resampled to its size. fusion:
    how coarser ones are enlarged."""

    def __init__(self, channels: Sequence[int], fusion: Fusion = "nearest") -> None:
        super().__init__()
        count = len(channels)
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c) for _ in range(4))) for c in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._path(channels, source, target, fusion) for source in range(count))
            for target in range(count)
        )

    @staticmethod
    def _path(channels: Sequence[int], source: int, target: int, fusion: Fusion) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:  # coarser: 1x1 conv, then upsampling
            up = nn.Upsample(
                scale_factor=2.0 ** (source - target),
                mode=fusion,
                align_corners=False if fusion == "bilinear" else None,
            )
            return nn.Sequential(*conv_norm(channels[source], channels[target], 1), up)
        steps = []
        for step in range(source, target):  # finer: one strided conv per halving
            last = step == target - 1
            outputs = channels[target] if last else channels[source]
            layers = conv_norm(channels[source], outputs, 3, stride=2)
            steps.append(nn.Sequential(*layers, *([] if last else [nn.ReLU()])))
        return nn.Sequential(*steps)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        features = [branch(x) for branch, x in zip(self.branches, branches, strict=True)]
        fused = []
        for paths in self.fuse_layers:
            assert isinstance(paths, nn.ModuleList)
            total = paths[0](features[0])
            for path, x in zip(paths[1:], features[1:], strict=True):
                total = total + path(x)
            fused.append(torch.relu(total))
        return fused


def transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """Convs from `before`'s branches to `after`'s: one new branch at half the coarsest size."""
    layers: list[nn.Module] = []
    for index, outputs in enumerate(after):
        if index >= len(before):
            new = nn.Sequential(*conv_norm(before[-1], outputs, 3, stride=2), nn.ReLU())
            layers.append(nn.Sequential(new))
        elif before[index] != outputs:
            layers.append(nn.Sequential(*conv_norm(before[index], outputs, 3), nn.ReLU()))
        else:
            layers.append(nn.Identity())
    return nn.ModuleList(layers)


class HRNet(nn.Module):
    """Images (N, 3, S, S), normalised, to a list of branches (N, C_i, R / 2^i, R / 2^i).

    stride: S / R, a key of `VARIANTS`; else ValueError. stem_norm: "shared" gives conv2, conv3 and conv4 one
    batch norm, as the POPoS checkpoints were trained; "own" gives each its own. fusion: how coarser branches
    are enlarged: "bilinear" in mmpose's and POPoS's face models, "nearest" in the ImageNet network and ours.
    stages: how many run, if not the variant's number.
    """

    def __init__(
        self,
        stride: int,
        stem_norm: StemNorm = "own",
        fusion: Fusion = "nearest",
        stages: int | None = None,
    ) -> None:
        super().__init__()
        if stride not in VARIANTS:
            raise ValueError(f"stride {stride} is not one of {sorted(VARIANTS)}")
        variant = VARIANTS[stride]
        self.conv1, self.bn1 = conv3x3(3, 64, variant.stem[0]), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = conv3x3(64, 64, variant.stem[1]), nn.BatchNorm2d(64)
        self.extra = variant.extra
        self.stem_norm, self.fusion = stem_norm, fusion
        for index in range(3, 3 + variant.extra):
            self.add_module(f"conv{index}", conv3x3(64, 64, 2))
            if stem_norm == "own":
                self.add_module(f"bn{index}", nn.BatchNorm2d(64))
        self.layer1 = nn.Sequential(Bottleneck(64), *(Bottleneck(256) for _ in range(3)))
        self.stages = stages or variant.stages
        before: Sequence[int] = (256,)
        for stage in range(2, self.stages + 1):
            channels = CHANNELS[:stage]
            self.add_module(f"transition{stage - 1}", transition(before, channels))
            modules = [ExchangeModule(channels, fusion) for _ in range(MODULES[stage - 2])]
            self.add_module(f"stage{stage}", nn.ModuleList(modules))
            before = channels
        self.channels = tuple(before)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        for index in range(3, 3 + self.extra):
            norm = self.bn2 if self.stem_norm == "shared" else getattr(self, f"bn{index}")
            x = torch.relu(norm(getattr(self, f"conv{index}")(x)))
        branches = [self.layer1(x)]
        for stage in range(2, self.stages + 1):
            layers = getattr(self, f"transition{stage - 1}")
            # A new branch starts from the coarsest one before it.
            sources = branches + [branches[-1]] * (len(layers) - len(branches))
            branches = [layer(source) for layer, source in zip(layers, sources, strict=True)]
            for module in getattr(self, f"stage{stage}"):
                branches = module(branches)
        return branches


def fold_batch_norms(model: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, in place: the same heatmaps in two thirds of the
    time on a CPU, for a model in eval mode that is not trained any more."""
    for module in list(model.modules()):
        children = list(module.named_children())
        for (first, conv), (second, norm) in itertools.pairwise(children):
            if isinstance(module, HRNet) and module.stem_norm == "shared" and second == "bn2":
                continue  # other convolutions share it
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(conv, norm))
                setattr(module, second, nn.Identity())


def _initialise(module: nn.Module) -> None:
    """mmpose's initialisation: convolutions N(0, 0.001), batch norms at identity."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.001)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
