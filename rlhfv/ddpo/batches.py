"""How a pair becomes tokens and weights, and pairs a batch.

A sequence is: prompt tokens as the model saw them when it answered (history, images, question through the chat
template), then the answer's tokens, then its end token. The longest pair decides whether it fits; nothing is ever cut.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.edits import CorrectedAnswer
from rlhfv.corrections.pairs import PreferencePair
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.ddpo.scoring import Sites
from rlhfv.ddpo.trees import fill_batches, gather
from rlhfv.ddpo.weights import weigh_diff, weigh_edits
from rlhfv.errors import GenerationFailed, InvalidData, InvalidImage, StudioError
from rlhfv.models.prompts import (
    answer_type,
    control_tokens,
    encode_answer,
    encode_prompt,
    measure_image,
    plain_text,
    render_prompt,
    tokenize,
)


class Unusable(Exception):
    """A pair that cannot be trained on; the text is the reason, told to the person who asked for the run."""


@dataclass
class EncodedPair:
    """A pair as tokens. `prompt` has every image expanded to its placeholder tokens; `token_types` are further
    per-token inputs of the prompt, `answer_type` their value for all that follows it; `chosen` and `rejected` end with
    the end token. `reference` holds the start model's log-probabilities of `chosen + rejected`, float32, once they are
    known."""

    id: str
    conversation: Prompt
    prompt: list[int]
    token_types: dict[str, list[int]]
    chosen: list[int]
    rejected: list[int]
    chosen_weights: list[float]
    rejected_weights: list[float]
    answer_type: int = 0
    reference: torch.Tensor | None = None

    @property
    def images(self) -> tuple[str, ...]:
        return self.conversation.all_images

    @property
    def length(self) -> int:
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


class PairEncoder:
    """Pairs to tokens and weights. `measure_only` gives lengths without looking at pixels (for the check before a
    run)."""

    def __init__(
        self,
        processor,
        image_path: Callable[[str], Path],
        config: TrainingConfig,
        end_tokens: Sequence[int],
        keep_images: Callable[[Prompt, dict[str, torch.Tensor]], object] | None = None,
        measure_only: bool = False,
    ):
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.image_path, self.config, self.measure_only = image_path, config, measure_only
        self.end_tokens, self.keep_images = tuple(end_tokens), keep_images
        self._prompts: dict[Prompt, tuple[list[int], dict[str, list[int]]]] = {}
        self._image_tokens: dict[tuple, int] = {}
        if config.weights == "edits" and not self.tokenizer.is_fast:
            raise InvalidData(
                "Weights from edits need a tokenizer that knows offsets.",
                f"{type(self.tokenizer).__name__} does not.",
                "Choose a recipe with weights 'token-diff', such as rlhfv-2024.",
            )

    def encode(self, pair: PreferencePair) -> EncodedPair:
        """Raises Unusable with the reason."""
        if pair.outcome == "preferred" and not self.config.include_preferred:
            raise Unusable("only preferred, not corrected; preferred pairs were not asked for")
        if pair.outcome == "preferred" and self.config.shared_weight == 0:
            raise Unusable("only preferred, while tokens that were not corrected weigh 0")
        if pair.chosen == pair.rejected:
            raise Unusable("chosen and rejected answer are identical")
        prompt, token_types = self._encode_prompt(pair.prompt)
        chosen, chosen_offsets = self._encode_answer(pair.prompt, pair.chosen)
        rejected, rejected_offsets = self._encode_answer(pair.prompt, pair.rejected)
        if chosen == rejected:
            raise Unusable("chosen and rejected answer are identical once they are tokens")
        weights = self._weigh(pair, prompt, chosen, rejected, chosen_offsets, rejected_offsets)
        if not any(weights[0]) and not any(weights[1]):
            raise Unusable("none of its tokens has a weight under these settings, so it would teach nothing")
        encoded = EncodedPair(
            pair.id, pair.prompt, prompt, token_types, chosen, rejected, *weights, answer_type(self.processor)
        )
        if encoded.length > self.config.max_length:
            raise Unusable(f"{encoded.length} tokens, over the length limit of {self.config.max_length}")
        return encoded

    def _encode_prompt(self, prompt: Prompt) -> tuple[list[int], dict[str, list[int]]]:
        if prompt not in self._prompts:
            for name in prompt.all_images:
                if not self._has_image(name):
                    raise Unusable(f"the image {name} is missing")
            try:
                self._prompts[prompt] = (self._measure if self.measure_only else self._expand)(prompt)
            except (InvalidImage, GenerationFailed) as error:
                raise Unusable(f"{error.what} {error.why}") from error
        return self._prompts[prompt]

    def _has_image(self, name: str) -> bool:
        try:
            return self.image_path(name).is_file()
        except StudioError:  # a shelf of images has no path for what it does not hold
            return False

    def _expand(self, prompt: Prompt) -> tuple[list[int], dict[str, list[int]]]:
        tensors = encode_prompt(self.processor, prompt, self.image_path)
        ids = tensors["input_ids"]
        if self.keep_images and prompt.all_images:
            self.keep_images(prompt, tensors)
        types = {name: tensors[name][0].tolist() for name in tensors if name.endswith("token_type_ids")}
        return ids[0].tolist(), types

    def _measure(self, prompt: Prompt) -> tuple[list[int], dict]:
        sizes = tuple(measure_image(self.image_path(name)) for name in prompt.all_images)
        plain = len(tokenize(self.processor, render_prompt(self.processor, prompt))["input_ids"])
        if sizes not in self._image_tokens:
            self._image_tokens[sizes] = len(self._expand(prompt)[0]) - plain
        # As many ids, none of which an answer holds: a diff of ids sees a prompt that both sides share, and prompts
        # with the same images begin alike.
        return [-place for place in range(1, plain + self._image_tokens[sizes] + 1)], {}

    def _encode_answer(self, prompt: Prompt, answer: str) -> tuple[list[int], list[tuple[int, int]]]:
        if plain_text(answer, control_tokens(self.processor)) != answer:
            raise Unusable("an answer contains the text of one of the model's control tokens")
        return encode_answer(self.processor, prompt, answer, self.end_tokens)

    def _weigh(self, pair, prompt, chosen, rejected, chosen_offsets, rejected_offsets):
        config = self.config
        if pair.outcome == "preferred":
            return [1.0] * len(chosen), [1.0] * len(rejected)
        if config.weights == "token-diff":
            return weigh_diff(prompt, chosen, rejected, gamma=config.gamma, shared=config.shared_weight)
        corrected = CorrectedAnswer(pair.rejected, tuple(pair.edits))
        rules = {"gamma": config.gamma, "shared": config.shared_weight, "seam": config.seam}
        new_spans = [(segment.start, segment.end) for segment in corrected.corrected_segments]
        old_spans = [(segment.start, segment.end) for segment in corrected.original_segments]
        return weigh_edits(chosen_offsets, new_spans, **rules), weigh_edits(rejected_offsets, old_spans, **rules)


def split_held_out(
    pairs: Sequence[EncodedPair], fraction: float, seed: int
) -> tuple[list[EncodedPair], list[EncodedPair]]:
    """Training and held-out pairs. Pairs that share an image, directly or by a chain, stay on one side; at least one
    image stays for training, and the held-out share is the nearest that whole groups allow."""
    group: dict[str, str] = {}

    def find(name: str) -> str:
        while group.setdefault(name, name) != name:
            name = group[name]
        return name

    for pair in pairs:
        names = _group_names(pair)
        for name in names[1:]:
            group[find(name)] = find(names[0])
    groups: dict[str, list[EncodedPair]] = {}
    for pair in pairs:
        groups.setdefault(find(_group_names(pair)[0]), []).append(pair)
    names = sorted(groups)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    held, wanted = set(), fraction * len(pairs)
    count = 0
    for name in (names[index] for index in order[1:]):
        if wanted and count + len(groups[name]) / 2 <= wanted:
            held.add(name)
            count += len(groups[name])
    train = [pair for name in names if name not in held for pair in groups[name]]
    return train, [pair for name in names if name in held for pair in groups[name]]


def _group_names(pair: EncodedPair) -> tuple[str, ...]:
    return pair.images or (f"no image: {pair.conversation.question}",)


class LengthGroups(torch.utils.data.Sampler):
    """A new order each epoch in which neighbours have about the same length and pairs of one group stay in one batch.
    It depends on seed and epoch alone, so that a resumed run sees what the uninterrupted one would have seen.

    Args:
        lengths, groups: of each pair; `groups` says which pairs share their images (see `image_groups`).
        batch_size: pairs of an optimizer step over all devices.
    """

    def __init__(self, lengths: Sequence[int], groups: Sequence[Hashable], batch_size: int, seed: int):
        self.lengths, self.units = lengths, gather(groups)
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        # The sum and not the most: pairs that share a row make it wide, and rows of a batch are padded to the widest.
        widths = [sum(self.lengths[place] for place in unit) for unit in self.units]
        chunks = max(1, min(50, len(widths) // self.batch_size))
        order = get_length_grouped_indices(widths, self.batch_size, chunks, generator)
        first, *rest = fill_batches((self.units[number] for number in order), self.batch_size)
        last = [rest.pop()] if rest and len(rest[-1]) < self.batch_size else []
        # The first one holds the widest rows and shows at once whether memory suffices; the rest must not come sorted.
        shuffled = [rest[number] for number in torch.randperm(len(rest), generator=generator).tolist()]
        for batch in [first, *shuffled, *last]:
            yield from batch


def image_groups(pairs: Sequence[EncodedPair]) -> list[Hashable]:
    """Pairs with the same value may share a row (see packing.py); one without images shares with none."""
    return [pair.images or number for number, pair in enumerate(pairs)]


class Collator:
    """Pairs to one batch of two rows a pair, first all chosen answers, then all rejected ones, padded on the right.

    No attention mask: under causal attention no token sees the padding behind it, and without a mask the fast kernels
    run.

    Returns {"model": inputs of the model, "sites": the fields of `Sites`, "pairs": how many, "reference": float32
    [sites] or absent}.
    """

    def __init__(self, pad_token: int, image_inputs: Callable[[Sequence[EncodedPair]], dict]):
        self.pad_token, self.image_inputs = pad_token, image_inputs

    def __call__(self, pairs: Sequence[EncodedPair]) -> dict:
        answers = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
        owners = [*pairs, *pairs]
        width = max(pair.length for pair in pairs)
        ids = torch.full((len(owners), width), self.pad_token)
        types = {name: torch.full_like(ids, pairs[0].answer_type) for name in pairs[0].token_types}
        columns = {name: [] for name in ("rows", "positions", "targets", "pair", "chosen_weights", "rejected_weights")}
        for row, (pair, answer) in enumerate(zip(owners, answers, strict=True)):
            start, count = len(pair.prompt), len(answer)
            ids[row, :start] = torch.tensor(pair.prompt)
            ids[row, start : start + count] = torch.tensor(answer)
            for name, values in pair.token_types.items():
                types[name][row, :start] = torch.tensor(values)
            chosen = row < len(pairs)
            columns["rows"].append(torch.full((count,), row))
            columns["positions"].append(torch.arange(start - 1, start - 1 + count))
            columns["targets"].append(torch.tensor(answer))
            columns["pair"].append(torch.full((count,), row % len(pairs)))
            weights = torch.tensor(pair.chosen_weights if chosen else pair.rejected_weights)
            columns["chosen_weights"].append(weights if chosen else torch.zeros(count))
            columns["rejected_weights"].append(torch.zeros(count) if chosen else weights)
        sites = {name: torch.cat(values) for name, values in columns.items()}
        sites["is_chosen"] = sites["rows"] < len(pairs)
        sites["is_rejected"] = ~sites["is_chosen"]
        model = {"input_ids": ids, **types, **self.image_inputs(owners)}
        batch = {"model": model, "sites": vars(Sites(**sites)), "pairs": len(pairs)}
        if all(pair.reference is not None for pair in pairs):
            batch["reference"] = torch.cat(
                [pair.reference[: len(pair.chosen)] for pair in pairs]
                + [pair.reference[len(pair.chosen) :] for pair in pairs]
            )
        return batch

    def spread(self, pairs: Sequence[EncodedPair], log_probs: torch.Tensor) -> torch.Tensor:
        """Values at the sites of a batch, first of all chosen answers, then of all rejected ones: as they are."""
        return log_probs
