"""A model's tensors side by side in a few long ones, which a step of training walks through at once.

HRNet-W18 has 1800, most of them tiny: one by one, AdamW and the average cost a CPU 23 ms a step, and 13 so.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Row(NamedTuple):
    """Tensors, and the long one (n,) of which they are views, one after the other."""

    tensors: list[Tensor]
    whole: Tensor
    gradients: list[Tensor]  # views of the long one's gradient, where there is one

    def gather_gradients(self) -> None:
        """Give the long one the gradients of its parts, as an optimiser wants them."""
        if self.whole.grad is None:
            self.whole.grad = torch.empty_like(self.whole)  # once: fresh memory costs more than the copy
            self.gradients[:] = _views(self.whole.grad, self.tensors)
        found = [tensor.grad for tensor in self.tensors if tensor.grad is not None]
        assert len(found) == len(self.tensors)  # each has its part in every step
        if found:
            torch._foreach_copy_(self.gradients, found)  # a call for each, or `cat`, takes twice the time


class Flat(NamedTuple):
    """A model's tensors by what training does to them.

    decayed: trained convolutions' weights; undecayed: trained biases and batch norms; rest: what is not
    trained, and batch norms' statistics; counts: whole numbers.
    """

    decayed: Row
    undecayed: Row
    rest: Row
    counts: Row


def lay_out(model: nn.Module) -> Flat:
    """Move a model's tensors, whose values and memory formats stay, into four long ones.

    `model.to` would part them from these again.
    """
    parameters = list(model.parameters())
    trained = [p for p in parameters if p.requires_grad]
    others = [p for p in parameters if not p.requires_grad] + list(model.buffers())
    return Flat(
        _side_by_side([p for p in trained if p.ndim > 1]),
        _side_by_side([p for p in trained if p.ndim <= 1]),
        _side_by_side([t for t in others if t.is_floating_point()]),
        _side_by_side([t for t in others if not t.is_floating_point()]),
    )


def _side_by_side(tensors: list[Tensor]) -> Row:
    # A tensor without gaps is a line in the order of its memory.
    lines = [tensor.detach().as_strided((tensor.numel(),), (1,)) for tensor in tensors]
    whole = torch.cat(lines) if lines else torch.empty(0)
    for tensor, view in zip(tensors, _views(whole, tensors), strict=True):
        tensor.data = view
    return Row(tensors, whole, [])


def _views(whole: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    """Parts of (n,), one after the other, in the shapes and memory formats of some tensors."""
    lines = whole.split([tensor.numel() for tensor in tensors])
    return [line.as_strided(like.shape, like.stride()) for line, like in zip(lines, tensors, strict=True)]
