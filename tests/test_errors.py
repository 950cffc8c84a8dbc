"""What an exception is called on the terminal."""

import pytest
from torch.utils.data import DataLoader, Dataset

from popos_cli.errors import PoposError, explained


class Changed(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, face):
        raise PoposError("a.png changed: b", "Prepare it again: popos prepare-data")


@pytest.mark.parametrize("workers", [0, 1])
def test_message_and_hint_of_a_loader_process(workers):
    with pytest.raises(PoposError) as caught:
        next(iter(DataLoader(Changed(), num_workers=workers)))
    error = explained(caught.value)
    assert (error.message, error.hint) == ("a.png changed: b", "Prepare it again: popos prepare-data")
