"""A model laid out in long tensors is the same model, and trains as it would by itself."""

import copy

import pytest
import torch
from torch import nn

from popos_cli.core.model import Landmarker
from popos_cli.train.flat import lay_out
from popos_cli.train.training import freeze_batch_norms


def network():
    torch.manual_seed(0)
    return Landmarker(5, 8, 64).to(memory_format=torch.channels_last)


def step(model, optimise, images, frozen):
    model.train()
    if frozen:
        freeze_batch_norms(model)
    model.zero_grad(set_to_none=True)
    model(images).square().mean().backward()
    optimise()


@pytest.mark.parametrize("frozen", [False, True])
def test_a_laid_out_model_takes_the_steps_of_another(frozen):
    """The optimiser walks along long tensors and changes the model's own, weights and gradients in order."""
    plain = network()
    if frozen:
        freeze_batch_norms(plain)
    flat_model = copy.deepcopy(plain)
    flat = lay_out(flat_model)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    usual = torch.optim.AdamW([p for p in plain.parameters() if p.requires_grad], lr=1e-3, weight_decay=0)
    rows = [row for row in (flat.decayed, flat.undecayed) if row.tensors]
    along = torch.optim.AdamW([row.whole for row in rows], lr=1e-3, weight_decay=0)

    def walk():
        for row in rows:
            row.gather_gradients()
        along.step()

    images = torch.rand(2, 3, 64, 64).to(memory_format=torch.channels_last)
    for _ in range(2):
        step(plain, usual.step, images, frozen)
        step(flat_model, walk, images, frozen)
    found, expected = flat_model.state_dict(), plain.state_dict()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=2e-5)
        assert found[name].stride() == tensor.stride()
        assert torch.equal(found[name], before[name]) == torch.equal(tensor, before[name])


def test_a_layout_keeps_every_tensor_and_leaves_no_gap():
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flat = lay_out(model)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    tensors = [*model.parameters(), *model.buffers()]
    assert sum(len(row.whole) for row in flat) == sum(tensor.numel() for tensor in tensors)
    model.load_state_dict({name: torch.ones_like(tensor) for name, tensor in before.items()})
    assert (flat.decayed.whole == 1).all() and (flat.undecayed.whole == 1).all()


def test_a_model_without_some_kind_of_tensor():
    flat = lay_out(nn.Conv2d(1, 1, 1, bias=False))
    assert [len(row.whole) for row in flat] == [1, 0, 0, 0]
