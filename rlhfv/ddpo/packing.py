"""Both answers of a pair in one row: images, prompt and the start that both answers share once, then a branch each.

    image and prompt | shared start | rest of the chosen answer | rest of the rejected answer

A token sees what lies before it in its own answer, and never the other branch. Both branches continue at the position
where the shared start ends. The last shared token predicts the first token of either branch, so it has two targets.
"""

import inspect
from collections.abc import Callable, Sequence
from itertools import takewhile

import torch

from rlhfv.ddpo.batches import EncodedPair
from rlhfv.ddpo.scoring import Sites

SHARED, CHOSEN, REJECTED, PADDING = 0, 1, 2, -1
PACKED = {"packing": "one row a pair"}
"""Joins the setting of a reference (see reference.py) that packed rows made: in bfloat16 they round otherwise."""
_OPEN_TOKENS = {"gemma3": 1, "paligemma": 0}
"""Families in which tokens of this `token_type_ids` see each other in both directions within one stretch."""


def shared_start(pair: EncodedPair) -> int:
    """How many tokens the two answers have in common from their start."""
    both = zip(pair.chosen, pair.rejected, strict=False)
    return sum(1 for _ in takewhile(lambda tokens: tokens[0] == tokens[1], both))


def packed_length(pair: EncodedPair) -> int:
    """Tokens of the pair's row."""
    return len(pair.prompt) + len(pair.chosen) + len(pair.rejected) - shared_start(pair)


def tokens_saved(pairs: Sequence[EncodedPair]) -> float:
    """How many times fewer tokens go through the model than in two rows a pair."""
    plain = sum(2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs)
    return plain / sum(packed_length(pair) for pair in pairs)


def why_not_packed(base) -> str:
    """What in the model's build forbids packed rows, "" when nothing does (see crosscheck.py for the proof)."""
    config = base.config.get_text_config()
    if base.config.is_encoder_decoder or base.base_model is base:
        return "it is no decoder that can be asked for its hidden states alone"
    if "position_ids" not in inspect.signature(base.base_model.forward).parameters:
        return "it takes no positions from outside"
    attention = config._attn_implementation
    if attention not in ("sdpa", "eager"):
        return f"its attention ({attention}) takes no mask from outside"
    other = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if other:
        return f"it has layers of the kind {', '.join(sorted(other))}, which cannot be told to skip a branch"
    return ""


def branch_mask(
    branches: torch.Tensor, depths: torch.Tensor, blocks: torch.Tensor | None = None, window: int | None = None
) -> torch.Tensor:
    """Which tokens (axis 2) see which (axis 3): bool `[rows, 1, width, width]`.

    Args:
        branches: `[rows, width]`, one of SHARED, CHOSEN, REJECTED and PADDING.
        depths: `[rows, width]`, places of the tokens in their own answer's plain sequence.
        blocks: `[rows, width]`, stretches whose tokens all see each other; -1 for tokens in none.
        window: how many tokens back the layer sees, itself included.
    """
    width = branches.shape[1]
    query, key = branches[:, :, None], branches[:, None, :]
    seen = torch.ones(width, width, dtype=torch.bool).tril() & ((key == SHARED) | (key == query))
    if window is not None:
        seen &= depths[:, :, None] - depths[:, None, :] < window
    if blocks is not None:
        seen |= (blocks[:, :, None] == blocks[:, None, :]) & (blocks[:, :, None] >= 0)
    return seen[:, None]


class PackedCollator:
    """Pairs to one batch of one row a pair, padded on the right; it returns what `Collator` returns.

    Sites are in the order of the pairs, each with the shared tokens (which count for both answers), the rest of the
    chosen answer and the rest of the rejected one.
    """

    def __init__(self, pad_token: int, image_inputs: Callable[[Sequence[EncodedPair]], dict], base):
        self.pad_token, self.image_inputs, self.base = pad_token, image_inputs, base
        self._known: dict[str, torch.Tensor] = {}

    def __call__(self, pairs: Sequence[EncodedPair]) -> dict:
        size = (len(pairs), max(packed_length(pair) for pair in pairs))
        ids, branches = torch.full(size, self.pad_token), torch.full(size, PADDING)
        depths, types = torch.zeros(size, dtype=torch.long), {}
        positions = torch.zeros(len(self._positions(pairs[0])), *size, dtype=torch.long)
        columns = {name: [] for name in Sites.__dataclass_fields__}
        references = []
        for row, pair in enumerate(pairs):
            prompt, shared = len(pair.prompt), shared_start(pair)
            start, fork, turn = prompt - 1, prompt + shared, prompt + len(pair.chosen)
            end = turn + len(pair.rejected) - shared
            ids[row, :end] = torch.tensor(pair.prompt + pair.chosen + pair.rejected[shared:])
            branches[row, :end] = SHARED
            branches[row, fork:turn], branches[row, turn:end] = CHOSEN, REJECTED
            depths[row, :end] = torch.cat([torch.arange(turn), torch.arange(fork, fork + end - turn)])
            positions[:, row, :end] = self._positions(pair)[:, depths[row, :end]]
            for name, values in pair.token_types.items():
                types.setdefault(name, torch.full_like(ids, pair.answer_type))[row, :prompt] = torch.tensor(values)
            after_fork = torch.arange(turn - 1, end - 1)
            after_fork[:1] = fork - 1
            count = end - prompt
            columns["rows"].append(torch.full((count,), row))
            columns["positions"].append(torch.cat([torch.arange(start, turn - 1), after_fork]))
            columns["targets"].append(ids[row, prompt:end])
            columns["pair"].append(torch.full((count,), row))
            sites = torch.arange(count)
            is_chosen = sites < len(pair.chosen)
            is_rejected = ~is_chosen | (sites < shared)
            for name, on, weights in (
                ("chosen", is_chosen, pair.chosen_weights),
                ("rejected", is_rejected, pair.rejected_weights),
            ):
                columns[f"{name}_weights"].append(torch.zeros(count).masked_scatter(on, torch.tensor(weights)))
                columns[f"is_{name}"].append(on)
            if pair.reference is not None:
                chosen, rejected = pair.reference.split([len(pair.chosen), len(pair.rejected)])
                references.append(torch.cat([chosen, rejected[shared:]]))
        model = {
            "input_ids": ids,
            "attention_mask": self._masks(branches, depths, types),
            "position_ids": positions if len(positions) > 1 else positions[0],
            **types,
            **self.image_inputs(pairs),
        }
        sites = Sites(**{name: torch.cat(values) for name, values in columns.items()})
        batch = {"model": model, "sites": vars(sites), "pairs": len(pairs)}
        if len(references) == len(pairs):
            batch["reference"] = torch.cat(references)
        return batch

    def spread(self, pairs: Sequence[EncodedPair], log_probs: torch.Tensor) -> torch.Tensor:
        """Values at the sites of a batch in the order of `Collator`: all chosen answers, then all rejected ones."""
        rows = log_probs.split([packed_length(pair) - len(pair.prompt) for pair in pairs])
        chosen = [row[: len(pair.chosen)] for pair, row in zip(pairs, rows, strict=True)]
        rejected = [
            torch.cat([row[: shared_start(pair)], row[len(pair.chosen) :]])
            for pair, row in zip(pairs, rows, strict=True)
        ]
        return torch.cat(chosen + rejected)

    def _positions(self, pair: EncodedPair) -> torch.Tensor:
        """Position ids `[1 or 3, length]` of the pair's longer plain sequence. An answer holds text only, so at the
        same depth both answers have the same position."""
        if not hasattr(self.base.base_model, "get_rope_index"):
            first = 1 if self.base.config.model_type == "paligemma" else 0
            return torch.arange(first, first + pair.length)[None]
        if not pair.images:
            return torch.arange(pair.length).expand(3, -1)
        if pair.id not in self._known:
            ids = torch.tensor([pair.prompt + max(pair.chosen, pair.rejected, key=len)])
            types = {
                name: torch.tensor([values + [pair.answer_type] * (pair.length - len(values))])
                for name, values in pair.token_types.items()
            }
            inputs = {**types, **self.image_inputs([pair])}
            taken = inspect.signature(self.base.base_model.get_rope_index).parameters
            inputs = {name: value for name, value in inputs.items() if name in taken}
            self._known[pair.id] = self.base.base_model.get_rope_index(ids, **inputs)[0][:, 0]
        return self._known[pair.id]

    def _masks(self, branches: torch.Tensor, depths: torch.Tensor, types: dict[str, torch.Tensor]):
        """The mask of the text model, or one for each kind of its layers."""
        config = self.base.config.get_text_config()
        window = getattr(config, "sliding_window", None)
        kinds = set(getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"])
        blocks = self._blocks(types)
        masks = {
            kind: branch_mask(branches, depths, blocks, window if kind == "sliding_attention" else None)
            for kind in kinds
        }
        if config._attn_implementation == "eager":  # adds the mask to its scores
            lowest = torch.finfo(self.base.dtype).min
            masks = {kind: torch.where(mask, 0.0, lowest).to(self.base.dtype) for kind, mask in masks.items()}
        return masks if len(masks) > 1 else masks.popitem()[1]

    def _blocks(self, types: dict[str, torch.Tensor]) -> torch.Tensor | None:
        open_type = _OPEN_TOKENS.get(self.base.config.model_type)
        if open_type is None or "token_type_ids" not in types:
            return None
        inside = types["token_type_ids"] == open_type
        begins = inside & ~torch.nn.functional.pad(inside, (1, 0))[:, :-1]
        return torch.where(inside, begins.cumsum(1), -1)
