"""Heatmaps -> points, one file a family.

Every rule has the same shape: `rule(maps, sigma)` takes finite maps (M, H, W), float32 or float64,
and gives points (M, 2), x then y, in heatmap pixels. `sigma` is the Gaussian's standard deviation
in heatmap pixels. No rule loops over maps, and none touches the host.
"""

from collections.abc import Callable

from torch import Tensor

from ..choices import DecoderName
from .likelihood import maximum_likelihood
from .multilateration import gauss_newton, keyposs, popos
from .peak import dark, one_hot, two_hot

Decoder = Callable[[Tensor, float], Tensor]

DECODERS: dict[DecoderName, Decoder] = {
    "one-hot": one_hot,
    "two-hot": two_hot,
    "dark": dark,
    "keyposs": keyposs,
    "gauss-newton": gauss_newton,
    "popos": popos,
    "ml": maximum_likelihood,
}
