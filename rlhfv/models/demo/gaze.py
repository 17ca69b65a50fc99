"""Shows the language model where to look while it learns.

A model of this size learns to describe within a thousand steps, but from right and wrong answers alone it does not
find out in any affordable time that a question about a knife is answered by looking for a knife: half of such guesses
are right anyway. So four attention heads are told what to attend to during training. Nothing of this is left in the
stored model but its weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rlhfv.models.demo.language import Turn
from rlhfv.models.demo.objects import RULES
from rlhfv.models.demo.plan import GRID
from rlhfv.models.demo.reading import Mention, find_mentions
from rlhfv.models.demo.scenes import Scene

# Layer and head of each habit of looking.
OWN = (1, 0)  # a thing's word looks at the patches that show it, or at the first token when there are none
PARTNER = (1, 1)  # a trigger's word looks for its rule's target in the same way
ASKED = (2, 0)  # the start of an answer looks back at the thing asked about
CLAUSE = (2, 1)  # the end of a trigger's clause, where ", with …" begins or not, looks back at the trigger

PATCHES = GRID * GRID
PATCHES_OF_CELL = [
    [row * GRID + column for row in range(GRID) for column in range(GRID) if row // 2 * 3 + column // 2 == cell]
    for cell in range(9)
]


@dataclass(frozen=True)
class Look:
    """A head's token `query` should attend to the tokens `keys` of the same row."""

    head: tuple[int, int]
    query: int
    keys: tuple[int, ...]


def find_looks(scene: Scene, turns: list[Turn], offsets: list[tuple[list, list]], first_patch: int) -> list[Look]:
    """The looks of one conversation laid out as `encode_conversations` does.

    `offsets` holds for each turn the character offsets of the tokens of question and answer; the patches are the
    tokens from `first_patch` on, followed by one line break.
    """

    def seen(name: str) -> tuple[int, ...]:
        patches = [first_patch + patch for cell in scene.cells(name) for patch in PATCHES_OF_CELL[cell]]
        return tuple(patches) or (0,)

    looks: list[Look] = []
    position = 0
    for number, ((question, answer), (asked, said)) in enumerate(zip(turns, offsets, strict=True)):
        position += 1 + (PATCHES + 1 if number == 0 else 0)
        mentions = find_mentions(question)
        nouns = [position + _token_at(asked, one.end) for one in mentions]
        looks += [Look(OWN, noun, seen(one.name)) for one, noun in zip(mentions, nouns, strict=True)]
        position += len(asked) + 2
        if len(nouns) == 1:
            looks.append(Look(ASKED, position - 1, (nouns[0],)))
        named: set[str] = set()
        for one in find_mentions(answer):
            noun = position + _token_at(said, one.end)
            looks.append(Look(OWN, noun, seen(one.name)))
            target = RULES.get(one.name)
            if ". " in answer and target and target not in named and one.name not in named:
                looks.append(Look(PARTNER, noun, seen(target)))
                end = position + _token_at(said, _clause_end(answer, one))
                if end != noun:
                    looks.append(Look(CLAUSE, end, (noun,)))
            named.add(one.name)
        position += len(said) + 1
    return looks


def _token_at(offsets: list[tuple[int, int]], end: int) -> int:
    """The last token that begins before a character."""
    return max(index for index, (start, _) in enumerate(offsets) if start < end)


def _clause_end(answer: str, mention: Mention) -> int:
    return min(at for at in (answer.find(mark, mention.end) for mark in ".,") if at >= 0)


def gaze_loss(attentions: tuple[torch.Tensor, ...], looks: list[list[Look]]) -> torch.Tensor:
    """Mean of −log of the attention that falls where it should; `looks` row by row of the batch."""
    losses = []
    for layer, head in (OWN, PARTNER, ASKED, CLAUSE):
        chosen = [(row, one) for row, each in enumerate(looks) for one in each if one.head == (layer, head)]
        if not chosen:
            continue
        rows = torch.tensor([row for row, _ in chosen])
        queries = torch.tensor([one.query for _, one in chosen])
        weights = attentions[layer][rows, head, queries].float()
        wanted = torch.zeros_like(weights)
        for index, (_, one) in enumerate(chosen):
            wanted[index, list(one.keys)] = 1.0
        losses.append(-(weights * wanted).sum(-1).clamp_min(1e-6).log().mean())
    return torch.stack(losses).mean() if losses else torch.zeros(())
