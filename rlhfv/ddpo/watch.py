"""What says, while a run is under way, that the model is being ruined: falling chosen answers, shorter or poorer
answers.

A hallucination rate alone cannot: a model that says nothing hallucinates nothing.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch

from rlhfv.ddpo.batches import EncodedPair
from rlhfv.ddpo.vision import ImageInputs

PROBES = 8
LONGEST_PROBE = 256
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")

FALL_LIMIT = 0.3
"""Share of their log-probability by which the chosen answers may become less likely than at the start, smoothed. On
the demo model good settings raise them, and those that ruined it cost more than the whole of it."""
SMOOTHING = 0.8
"""Share of the old value in the moving average, which starts at no fall; a warning needs several bad steps."""
WORDS_LIMIT = 0.8
RECALL_LIMIT = 0.8
"""Share of the words, and of the recall, at the start that probe answers have to keep. Recall is of words, so another
wording of the same answer costs some of it."""


@dataclass(frozen=True)
class Warned:
    """A warning: `sign` names what was seen, the three parts say it to a person."""

    sign: str
    what: str
    why: str
    fix: str


@dataclass
class Watch:
    """Collects the signs. Its state goes into each checkpoint, so that a resumed run judges as the uninterrupted
    one."""

    fall: float = 0.0
    level: float = 0.0
    start: dict = field(default_factory=dict)
    raised: list = field(default_factory=list)

    def see_chosen(self, now: float, start: float) -> Warned | None:
        """Mean log-probability of a token of the chosen answers: in this step, and under the start model (nats)."""
        self.level = SMOOTHING * self.level + (1 - SMOOTHING) * -start if self.level else -start
        self.fall = SMOOTHING * self.fall + (1 - SMOOTHING) * (start - now)
        if self.fall <= FALL_LIMIT * self.level:
            return None
        return self._raise(
            "chosen",
            f"The corrected answers themselves become less likely: their log-probability fell by"
            f" {self.fall / self.level:.0%}.",
            "The run pushes the wrong answers away so hard that the right ones go with them.",
        )

    def see_probes(self, words: float, recall: float) -> Warned | None:
        """Mean number of words of the probe answers, and the share of the corrected answers' words found in them."""
        if not self.start:
            self.start = {"words": words, "recall": recall}
        if words < WORDS_LIMIT * self.start["words"]:
            return self._raise(
                "words",
                f"The answers became shorter: {words:.0f} words instead of {self.start['words']:.0f}.",
                "A model that says less makes fewer errors, but also says less of what is there.",
            )
        if recall < RECALL_LIMIT * self.start["recall"]:
            return self._raise(
                "recall",
                f"The answers hold {recall:.0%} of the corrected answers' words instead of"
                f" {self.start['recall']:.0%}.",
                "The model forgets what it saw before.",
            )
        return None

    def _raise(self, sign: str, what: str, why: str) -> Warned | None:
        if sign in self.raised:
            return None
        self.raised.append(sign)
        return Warned(sign, what, why, "Stop the run and start it again with a smaller learning rate or fewer epochs.")

    def state(self) -> dict:
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict) -> "Watch":
        return cls(**state)


def choose_probes(pairs: Sequence[EncodedPair], seed: int) -> list[EncodedPair]:
    """A handful of pairs with different prompts."""
    different = list({pair.conversation: pair for pair in pairs}.values())
    return random.Random(seed).sample(different, min(PROBES, len(different)))


@torch.no_grad()
def answer_probes(
    model, tokenizer, probes: Sequence[EncodedPair], images: ImageInputs, ends: Sequence[int]
) -> list[str]:
    """Greedy answers to the probes' prompts, as many tokens long as the longest chosen answer and a quarter more."""
    base = images.base
    width = max(len(pair.prompt) for pair in probes)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    ids = torch.full((len(probes), width), pad)
    mask = torch.zeros_like(ids)
    types = {name: torch.zeros_like(ids) for name in probes[0].token_types}
    for row, pair in enumerate(probes):
        start = width - len(pair.prompt)
        ids[row, start:] = torch.tensor(pair.prompt)
        mask[row, start:] = 1
        for name, values in pair.token_types.items():
            types[name][row, start:] = torch.tensor(values)
    inputs = to_device({"input_ids": ids, "attention_mask": mask, **types, **images(probes)}, base.device)
    longest = max(len(pair.chosen) for pair in probes)
    training = model.training
    model.eval()
    try:
        with torch.autocast(base.device.type, torch.bfloat16, enabled=base.dtype == torch.bfloat16):
            output = model.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                max_new_tokens=min(LONGEST_PROBE, longest + longest // 4),
                eos_token_id=list(ends),
                pad_token_id=pad,
            )
    finally:
        model.train(training)
        if hasattr(base.base_model, "rope_deltas"):
            base.base_model.rope_deltas = None  # left over, it would shift the positions of the next training step
    return tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)


def measure_probes(answers: Sequence[str], wanted: Sequence[str]) -> tuple[float, float]:
    """Mean words of the answers, and the mean share of the different words of `wanted` that each answer holds."""
    counts, shares = [], []
    for answer, right in zip(answers, wanted, strict=True):
        said, known = _WORD.findall(answer.lower()), set(_WORD.findall(right.lower()))
        counts.append(len(said))
        shares.append(len(known & set(said)) / len(known) if known else 1.0)
    return sum(counts) / len(counts), sum(shares) / len(shares)


def to_device(value, device):
    """Tensors in dicts, lists and model outputs, moved to the device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if hasattr(value, "items"):
        return type(value)({name: to_device(part, device) for name, part in value.items()})
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(part, device) for part in value)
    return value
