"""Trees of tokens, their masks, and batches in which what belongs together stays together."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhfv.ddpo.trees import TokenTree, fill_batches, gather, tree_mask

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=6)


def plant(sequences):
    tree = TokenTree()
    paths = [tree.add(sequence) for sequence in sequences]
    return tree, paths


@given(SEQUENCES)
def test_every_sequence_is_a_path_and_every_start_stands_once(sequences):
    tree, paths = plant(sequences)
    for sequence, path in zip(sequences, paths, strict=True):
        assert [tree.tokens[node] for node in path] == sequence
        assert [tree.depths[node] for node in path] == list(range(len(sequence)))
        assert [tree.parents[node] for node in path] == [-1, *path[:-1]]
    starts = {tuple(sequence[: end + 1]) for sequence in sequences for end in range(len(sequence))}
    assert len(tree) == len(starts)


@given(SEQUENCES, st.one_of(st.none(), st.integers(1, 4)))
def test_a_token_sees_its_own_start_and_nothing_else(sequences, window):
    tree, paths = plant(sequences)
    padding = 2
    parents = torch.tensor([tree.parents + [-1] * padding])
    depths = torch.tensor([tree.depths + [0] * padding])
    mask = tree_mask(parents, depths, None, window)[0, 0]
    for path in paths:
        for depth, node in enumerate(path):
            near = path[: depth + 1] if window is None else path[max(0, depth + 1 - window) : depth + 1]
            assert mask[node].nonzero()[:, 0].tolist() == sorted(near)
    for place in range(len(tree), len(tree) + padding):
        assert mask[place].nonzero()[:, 0].tolist() == [place]


def test_two_branches_of_a_row():
    parents = torch.tensor([[-1, 0, 1, 2, 3, 2, 5, -1]])
    depths = torch.tensor([[0, 1, 2, 3, 4, 3, 4, 0]])
    near = tree_mask(parents, depths, None, 3)[0, 0]
    assert near[6].tolist() == [False, False, True, False, False, True, True, False]
    assert near[4].tolist() == [False, False, True, True, True, False, False, False]


def test_a_block_is_open_both_ways():
    parents = torch.tensor([[-1, 0, 1, 2, 3, 2, 5, -1]])
    blocks = torch.tensor([[-1, 0, 0, -1, -1, -1, -1, -1]])
    opened = tree_mask(parents, torch.zeros_like(parents), blocks)[0, 0]
    assert opened[1].tolist() == [True, True, True, False, False, False, False, False]
    assert opened[0].tolist() == [True] + [False] * 7
    assert opened[5].tolist() == [True, True, True, False, False, True, False, False]
    assert opened[7, 7]
    assert not opened[:7, 7].any()


@given(st.lists(st.integers(0, 12), max_size=40), st.integers(1, 6))
def test_batches_hold_every_member_once_and_all_but_the_last_are_full(groups, size):
    batches = fill_batches(gather(groups), size)
    assert sorted(place for batch in batches for place in batch) == list(range(len(groups)))
    assert all(len(batch) == size for batch in batches[:-1])
    assert not batches or 0 < len(batches[-1]) <= size


@given(st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=30))
def test_units_of_halving_sizes_are_never_torn(sizes):
    groups = [number for number, size in enumerate(sizes) for _ in range(size)]
    order = [place for batch in fill_batches(gather(groups), 8) for place in batch]
    full = len(order) // 8 * 8
    for small in (4, 8):
        batches = [order[start : start + small] for start in range(0, full, small)]
        for number, size in enumerate(sizes):
            holding = sum(any(groups[place] == number for place in batch) for batch in batches)
            assert holding <= 1 or size > small


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.integers(1, 6))
def test_the_first_unit_is_in_the_first_full_batch(sizes, size):
    units = gather([number for number, size in enumerate(sizes) for _ in range(size)])
    first = fill_batches(units, size)[0]
    if len(first) == size and sum(sizes) >= size and len(units[0]) >= size:
        assert first == units[0][:size]


def test_single_members_keep_their_order():
    assert fill_batches([[3], [1], [2], [0], [4]], 2) == [[3, 1], [2, 0], [4]]
