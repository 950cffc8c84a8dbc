"""Which faces share a step: the same whatever the number of processes."""

import pytest

from popos_cli.data.batches import EvaluationBatches, TrainingBatches


def epoch(rank=0, size=1, start=0, number=4, seed=3, faces=50, batch=12):
    batches = TrainingBatches(faces, batch, seed, rank, size)
    batches.epoch, batches.start = number, start
    found = list(batches)
    assert len(batches) == len(found)
    assert {e for b in found for e, _ in b} <= {number}
    return [[face for _, face in b] for b in found]


def test_an_epoch_sees_each_face_at_most_once_in_an_order_of_its_own():
    faces = [face for batch in epoch() for face in batch]
    assert [len(batch) for batch in epoch()] == [12] * 4  # 2 of 50 faces are left out of this epoch
    assert len(set(faces)) == 48 and set(faces) < set(range(50))
    assert epoch() == epoch()
    assert epoch(number=5) != epoch() != epoch(seed=1)


@pytest.mark.parametrize("batch", [1, 2, 5, 7, 12, 24, 50])
def test_an_epoch_resumes_in_batches_of_any_size(batch):
    """24 faces are done in steps of 12; of the others none is left out but what fills no batch."""
    first = [face for step in epoch()[:2] for face in step]
    rest = [face for step in epoch(start=24, batch=batch) for face in step]
    assert not set(first) & set(rest) and len(set(rest)) == len(rest)
    assert len(rest) == 26 // batch * batch
    if batch == 12:
        assert epoch(start=24) == epoch()[2:]


@pytest.mark.parametrize("start", [48, 50, 60])
def test_an_epoch_without_a_whole_batch_left_is_over(start):
    assert epoch(start=start) == []


@pytest.mark.parametrize("size", [2, 3, 4])
def test_processes_share_the_same_batches(size):
    parts = [epoch(rank, size, start=12) for rank in range(size)]
    together = [[face for part in step for face in part] for step in zip(*parts, strict=True)]
    assert together == epoch(start=12)


@pytest.mark.parametrize("faces", [1, 63, 64, 65, 300])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_evaluation_gives_each_face_once_in_batches_that_do_not_change(faces, size):
    alone = list(EvaluationBatches(faces, 64))
    assert [face for batch in alone for face in batch] == list(range(faces))
    shares = [EvaluationBatches(faces, 64, rank, size) for rank in range(size)]
    assert [len(share) for share in shares] == [len(list(share)) for share in shares]
    assert sorted(batch for share in shares for batch in share) == sorted(alone)
