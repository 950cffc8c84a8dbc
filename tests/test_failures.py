"""What an exception is called on the terminal."""

import pytest
from torch.utils.data import DataLoader, Dataset

from popos_cli.errors import PoposError
from popos_cli.failures import explained


class Changed(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, face):
        raise PoposError("a.png changed: b", "Prepare it again: popos prepare-data")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_hint_is_kept_through_a_loader_process(workers):
    with pytest.raises(PoposError) as caught:
        next(iter(DataLoader(Changed(), num_workers=workers)))
    told = explained(caught.value)
    assert (told.message, told.hint) == ("a.png changed: b", "Prepare it again: popos prepare-data")
