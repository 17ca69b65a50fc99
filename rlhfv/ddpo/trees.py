"""Token sequences that begin alike as one tree, so that what they share is computed once; and an order of pairs in
which those of one image are neighbours."""

from collections.abc import Hashable, Iterable, Sequence

import torch


class TokenTree:
    """Every token once for all sequences that begin alike. Nodes are numbered as they came; `parents` is -1 where a
    sequence starts, `depths` the place of a node in its own sequence."""

    def __init__(self):
        self.tokens: list[Hashable] = []
        self.parents: list[int] = []
        self.depths: list[int] = []
        self._next: dict[tuple[int, Hashable], int] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, sequence: Iterable[Hashable]) -> list[int]:
        """The nodes of the sequence, in its order."""
        path, node = [], -1
        for depth, token in enumerate(sequence):
            new = len(self.tokens)
            parent, node = node, self._next.setdefault((node, token), new)
            if node == new:
                self.tokens.append(token)
                self.parents.append(parent)
                self.depths.append(depth)
            path.append(node)
        return path


def tree_mask(
    parents: torch.Tensor, depths: torch.Tensor, blocks: torch.Tensor | None = None, window: int | None = None
) -> torch.Tensor:
    """Which tokens (axis 2) see which (axis 3): themselves and what leads to them; bool `[rows, 1, width, width]`.

    Args:
        parents: `[rows, width]`, the place of the token before; -1 where there is none, as for padding.
        depths: `[rows, width]`, places of the tokens in their own plain sequence.
        blocks: `[rows, width]`, stretches whose tokens all see each other; -1 for tokens in none.
        window: how many tokens back the layer sees, itself included.
    """
    rows, width = parents.shape
    seen = torch.zeros(rows, width, width, dtype=torch.bool)
    follows = parents == torch.arange(width) - 1
    for row in range(rows):
        starts = [0, *(place for place in (~follows[row]).nonzero()[:, 0].tolist() if place)]
        for start, end in zip(starts, [*starts[1:], width], strict=True):
            branch, parent = seen[row, start:end], int(parents[row, start])
            if parent >= 0:
                branch[:] = seen[row, parent]
            branch[:, start:end] = torch.ones(end - start, end - start, dtype=torch.bool).tril()
    if window is not None:
        seen &= depths[:, :, None] - depths[:, None, :] < window
    if blocks is not None:
        seen |= (blocks[:, :, None] == blocks[:, None, :]) & (blocks[:, :, None] >= 0)
    return seen[:, None]


def gather(groups: Sequence[Hashable]) -> list[list[int]]:
    """Places of the members of each group, in the order in which the groups first appear."""
    found: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        found.setdefault(group, []).append(place)
    return list(found.values())


def fill_batches(units: Iterable[Sequence[int]], size: int) -> list[list[int]]:
    """Batches of `size` members, the last one of fewer, in which a unit stays together where that is possible.

    A unit goes into the fullest batch that has room for it, the larger units of a batch first; larger units than
    `size` are cut.
    """
    full: list[list[Sequence[int]]] = []
    waiting: dict[int, list[list[Sequence[int]]]] = {}  # by the room that is left
    parts = [part for unit in units for part in _cut(unit, size)]
    for part in parts:
        room = min((room for room, batches in waiting.items() if batches and room >= len(part)), default=size)
        batch = waiting[room].pop(0) if room < size else []
        batch.append(part)
        (waiting.setdefault(room - len(part), []) if room > len(part) else full).append(batch)
    # The first unit is the largest where they are sorted; lack of memory then shows in the first batch.
    full.sort(key=lambda batch: parts[0] not in batch)
    rest = [part for room in sorted(waiting) for batch in waiting[room] for part in batch]
    return [_join(batch) for batch in full] + _cut(_join(rest), size)


def _join(parts: Iterable[Sequence[int]]) -> list[int]:
    # Large ones first: where sizes halve each other no part lies across the middle of a batch, which may be two.
    return [place for part in sorted(parts, key=len, reverse=True) for place in part]


def _cut(members: Sequence[int], size: int) -> list[Sequence[int]]:
    return [members[start : start + size] for start in range(0, len(members), size)]
