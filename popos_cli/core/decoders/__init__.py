"""Decoders: heatmaps -> points, one file a family.

A decoder `(maps, sigma)` takes finite maps (M, H, W), float32 or float64, and the Gaussian's standard
deviation in heatmap pixels, and gives points (M, 2), x then y, in heatmap pixels. None loops over maps, and
none makes a GPU wait for the host.
"""

from collections.abc import Callable

from torch import Tensor

from ..choices import DecoderName
from .gaussian_fit import maximum_likelihood
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
