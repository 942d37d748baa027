"""Gaussians are followed through copies, splits and removals, and back through a checkpoint."""

import torch

from maskedit.plugin.splat_lineage import Lineage


def test_one_keeps_the_number_and_the_other_gets_a_new_one() -> None:
    lineage = Lineage(4)
    # The first is removed, the second copied, the fourth split: its halves lie at the end.
    lineage.follow(torch.tensor([1, 2, 1, 3, 3]))
    assert lineage.numbers.tolist() == [1, 2, 4, 3, 5]
    assert lineage.rows_in(torch.arange(4)).tolist() == [1, 2, 1, 3, 3]


def test_what_was_noted_at_any_time_reaches_the_descendants() -> None:
    torch.manual_seed(0)
    lineage = Lineage(6)
    truth, noted = torch.arange(6), []
    for _ in range(5):
        noted.append((lineage.numbers, torch.arange(len(truth))))
        rows = torch.randint(0, len(truth), (8,)).sort().values
        lineage.follow(rows)
        # By hand: each note is carried along by the same selection.
        noted = [(numbers, notes[rows]) for numbers, notes in noted]
        truth = truth[rows]
    assert lineage.rows_in(torch.arange(6)).tolist() == truth.tolist()
    for numbers, notes in noted:
        assert lineage.rows_in(numbers).tolist() == notes.tolist()


def test_strangers_have_no_ancestors() -> None:
    lineage = Lineage(3)
    assert lineage.rows_in(torch.tensor([2, 7])).tolist() == [-1, -1, 0]
    assert lineage.rows_in(torch.zeros(0, dtype=torch.long)).tolist() == [-1, -1, -1]


def test_it_moves_to_another_device_as_a_whole() -> None:
    lineage = Lineage(3)
    lineage.follow(torch.tensor([0, 0, 2]))
    lineage.to("meta")
    state = lineage.state()
    assert all(isinstance(each, int) or each.is_meta for each in state.values())


def test_a_checkpoint_brings_it_back() -> None:
    lineage = Lineage(3)
    lineage.follow(torch.tensor([0, 0, 2]))
    other = Lineage(99)
    other.restore(lineage.state())
    for each in (lineage, other):
        each.follow(torch.tensor([0, 1, 1]))
    assert other.numbers.tolist() == lineage.numbers.tolist() == [0, 3, 4]
    assert other.rows_in(torch.arange(3)).tolist() == [0, 0, 0]
