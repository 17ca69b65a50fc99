"""Both answers of a pair in one row, and all pairs of an image in one: what they share goes through the model once.

    image and prompt | shared start | rest of the chosen answer | rest of the rejected answer | next question | …

A row is a tree of tokens: a token sees what leads to it in its own sequence and never another branch. Every branch
continues at the position where it leaves the tree, and the token there predicts the first token of each branch.
"""

import inspect
from collections.abc import Callable, Hashable, Sequence
from itertools import takewhile

import torch

from rlhfv.ddpo.batches import EncodedPair, image_groups
from rlhfv.ddpo.scoring import Sites
from rlhfv.ddpo.trees import TokenTree, fill_batches, gather, tree_mask

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


def tokens_saved(collator: "PackedCollator", pairs: Sequence[EncodedPair], batch_size: int) -> float:
    """How many times fewer tokens go through the model, in batches of so many pairs, than in two rows a pair."""
    plain = sum(2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs)
    batches = fill_batches(gather(image_groups(pairs)), batch_size)
    return plain / sum(collator.count_tokens([pairs[place] for place in batch]) for batch in batches)


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


class PackedCollator:
    """Pairs to one batch of packed rows, padded on the right; it returns what `Collator` returns.

    Sites are in the order of the pairs, each with the shared tokens (which count for both answers), the rest of the
    chosen answer and the rest of the rejected one. Pairs of one image share a row while `shares` is true.
    """

    def __init__(self, pad_token: int, image_inputs: Callable[[Sequence[EncodedPair]], dict], base):
        self.pad_token, self.image_inputs, self.base = pad_token, image_inputs, base
        self.shares = True
        self._known: dict[str, torch.Tensor] = {}

    def __call__(self, pairs: Sequence[EncodedPair]) -> dict:
        planted = self._plant(pairs)
        trees, rows, paths = planted.trees, planted.rows, planted.paths
        size = (len(trees), max(map(len, trees)))
        ids, parents = torch.full(size, self.pad_token), torch.full(size, -1)
        depths = torch.zeros(size, dtype=torch.long)
        positions = torch.zeros(len(self._positions(pairs[0])), *size, dtype=torch.long)
        types = {name: torch.full(size, pairs[0].answer_type) for name in pairs[0].token_types}
        for row, tree in enumerate(trees):
            parents[row, : len(tree)], depths[row, : len(tree)] = torch.tensor(tree.parents), torch.tensor(tree.depths)
            for values, tokens in zip([ids, *types.values()], zip(*tree.tokens, strict=True), strict=True):
                values[row, : len(tree)] = torch.tensor(tokens)
        columns = {name: [] for name in Sites.__dataclass_fields__}
        references = []
        for number, (pair, row, (chosen, rejected)) in enumerate(zip(pairs, rows, paths, strict=True)):
            for path in (chosen, rejected):
                positions[:, row, path] = self._positions(pair)[:, : len(path)]
            start, shared = len(pair.prompt) - 1, shared_start(pair)
            answers = torch.cat([chosen[start + 1 :], rejected[start + 1 + shared :]])
            count = len(answers)
            columns["rows"].append(torch.full((count,), row))
            columns["positions"].append(torch.cat([chosen[start:-1], rejected[start + shared : -1]]))
            columns["targets"].append(ids[row, answers])
            columns["pair"].append(torch.full((count,), number))
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
                known = pair.reference.split([len(pair.chosen), len(pair.rejected)])
                references.append(torch.cat([known[0], known[1][shared:]]))
        model = {
            "input_ids": ids,
            "attention_mask": self._masks(parents, depths, types),
            "position_ids": positions if len(positions) > 1 else positions[0],
            **types,
            **self.image_inputs([pairs[rows.index(row)] for row in range(len(trees))]),
        }
        sites = Sites(**{name: torch.cat(values) for name, values in columns.items()})
        batch = {"model": model, "sites": vars(sites), "pairs": len(pairs)}
        if len(references) == len(pairs):
            batch["reference"] = torch.cat(references)
        return batch

    def count_tokens(self, pairs: Sequence[EncodedPair]) -> int:
        """Tokens of the rows of a batch of these pairs, without padding."""
        return sum(map(len, self._plant(pairs).trees))

    def spread(self, pairs: Sequence[EncodedPair], log_probs: torch.Tensor) -> torch.Tensor:
        """Values at the sites of a batch in the order of `Collator`: all chosen answers, then all rejected ones."""
        rows = log_probs.split([packed_length(pair) - len(pair.prompt) for pair in pairs])
        chosen = [row[: len(pair.chosen)] for pair, row in zip(pairs, rows, strict=True)]
        rejected = [
            torch.cat([row[: shared_start(pair)], row[len(pair.chosen) :]])
            for pair, row in zip(pairs, rows, strict=True)
        ]
        return torch.cat(chosen + rejected)

    def _plant(self, pairs: Sequence[EncodedPair]) -> "_Rows":
        """The rows that take the least room with their padding: those of pairs that share an image, or one a pair."""
        shared, alone = (_Rows(pairs, keys) for keys in (self.keys(pairs), range(len(pairs))))
        return min(shared, alone, key=_Rows.room)

    def keys(self, pairs: Sequence[EncodedPair]) -> list[Hashable]:
        """Equal for pairs whose images, and all tokens that see others in both directions, lie in a start of the
        prompt that they share."""
        image, open_type = getattr(self.base.config, "image_token_id", None), self._open_type
        if not self.shares or image is None:
            return list(range(len(pairs)))
        keys = []
        for pair, group in zip(pairs, image_groups(pairs), strict=True):
            types = pair.token_types.get("token_type_ids", pair.prompt) if open_type is not None else pair.prompt
            bound = [
                place
                for place, (token, kind) in enumerate(zip(pair.prompt, types, strict=True), 1)
                if token == image or (open_type is not None and kind == open_type)
            ]
            keys.append((group, tuple(pair.prompt[: bound[-1] if bound else 0])))
        return keys

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

    def _masks(self, parents: torch.Tensor, depths: torch.Tensor, types: dict[str, torch.Tensor]):
        """The mask of the text model, or one for each kind of its layers."""
        config = self.base.config.get_text_config()
        window = getattr(config, "sliding_window", None)
        kinds = set(getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"])
        blocks = self._blocks(types)
        masks = {
            kind: tree_mask(parents, depths, blocks, window if kind == "sliding_attention" else None) for kind in kinds
        }
        if config._attn_implementation == "eager":  # adds the mask to its scores
            lowest = torch.finfo(self.base.dtype).min
            masks = {kind: torch.where(mask, 0.0, lowest).to(self.base.dtype) for kind, mask in masks.items()}
        return masks if len(masks) > 1 else masks.popitem()[1]

    @property
    def _open_type(self) -> int | None:
        return _OPEN_TOKENS.get(self.base.config.model_type)

    def _blocks(self, types: dict[str, torch.Tensor]) -> torch.Tensor | None:
        if self._open_type is None or "token_type_ids" not in types:
            return None
        inside = types["token_type_ids"] == self._open_type
        begins = inside & ~torch.nn.functional.pad(inside, (1, 0))[:, :-1]
        return torch.where(inside, begins.cumsum(1), -1)


class _Rows:
    """Pairs with equal keys on one row: the rows' `trees`; for each pair its row in `rows`, and in `paths` the nodes
    of its two sequences."""

    def __init__(self, pairs: Sequence[EncodedPair], keys: Sequence[Hashable]):
        numbers: dict[Hashable, int] = {}
        self.rows = [numbers.setdefault(key, len(numbers)) for key in keys]
        self.trees = [TokenTree() for _ in numbers]
        self.paths = [
            [torch.tensor(self.trees[row].add(tokens)) for tokens in _sequences(pair)]
            for pair, row in zip(pairs, self.rows, strict=True)
        ]

    def room(self) -> int:
        return len(self.trees) * max(map(len, self.trees))


def _sequences(pair: EncodedPair) -> list[list[tuple[int, ...]]]:
    """Both plain sequences of the pair, each token with its types."""
    sequences = []
    for answer in (pair.chosen, pair.rejected):
        types = [values + [pair.answer_type] * len(answer) for values in pair.token_types.values()]
        sequences.append(list(zip(pair.prompt + answer, *types, strict=True)))
    return sequences
