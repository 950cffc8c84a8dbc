"""First weights of a training: ImageNet's backbone, an imported network, or none."""

import pytest
import torch
from huggingface_hub import constants
from layouts import network, popos_fork
from safetensors.torch import save_file

from popos_cli.core.model import Landmarker
from popos_cli.errors import PoposError
from popos_cli.train.initial import initial_state
from popos_cli.weights.foreign import import_checkpoint


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_training_starts_from_the_backbone(home, tmp_path, monkeypatch):
    """timm's tensors have no prefix; without the file training starts from scratch and says so."""
    model = Landmarker(29, 64)
    path = tmp_path / "imagenet.safetensors"
    save_file({n: t.clone() for n, t in model.backbone.state_dict().items()}, path)
    (home / "catalog.toml").write_text(
        f'[hrnet-w18-imagenet]\nkind = "backbone"\nformat = "timm"\nsource = "{path}"\n'
    )
    for init in ("auto", "hrnet-w18-imagenet"):
        state, sentence = initial_state(init, model)
        assert set(state) == {name for name in model.state_dict() if name.startswith("backbone.")}
        assert str(path) in sentence
    (home / "catalog.toml").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    state, sentence = initial_state("auto", model)
    assert state is None and "from scratch" in sentence
    with pytest.raises(PoposError, match="switched off"):
        initial_state("hrnet-w18-imagenet", model)


def test_training_starts_with_the_outputs_of_an_imported_network(tmp_path):
    """Also where its stem's convolutions shared one batch norm; another network is no start."""
    original = network(68, 4, popos=True)
    torch.save({"state_dict": popos_fork(original)}, tmp_path / "popos.pth")
    import_checkpoint(tmp_path / "popos.pth", tmp_path / "popos.safetensors")
    model = Landmarker(68, 4, fusion="bilinear")
    state, _ = initial_state(str(tmp_path / "popos.safetensors"), model)
    assert model.state_dict().keys() == state.keys()
    model.load_state_dict(state)
    images = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(images), original(images))
    with pytest.raises(PoposError, match="bilinear") as refused:
        initial_state(str(tmp_path / "popos.safetensors"), Landmarker(68, 4))
    assert "--set model.fusion=bilinear" in refused.value.hint
