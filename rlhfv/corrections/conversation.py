"""Who said what about which images, under which settings: plain data shared by all rooms."""

import hashlib
import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class ModelIdentity:
    """What answered. `name` and `revision` name the base: a Hub id and its commit, or a folder's name and the sha256
    of its weights and config. `adapter` is the adapter's own `name@sha256`, or None for the baseline.
    """

    name: str
    revision: str
    adapter: str | None = None

    @property
    def base(self) -> str:
        return f"{self.name}@{self.revision}"

    def __str__(self) -> str:
        return self.base if self.adapter is None else f"{self.base} + {self.adapter}"


@dataclass(frozen=True)
class Sampling:
    """How an answer is decoded. Temperature 0 is greedy; then `top_p` and `seed` play no role."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int = 0


@dataclass(frozen=True)
class Turn:
    """One question with its answer. `images` are content addresses that join the conversation with this question."""

    question: str
    answer: str
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """Everything a model is given: earlier turns of its own column, then the question with its new images."""

    question: str
    images: tuple[str, ...] = ()
    history: tuple[Turn, ...] = ()

    @property
    def all_images(self) -> tuple[str, ...]:
        """Content addresses in the order in which the chat template places them."""
        return tuple(name for turn in self.history for name in turn.images) + self.images

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict) -> "Prompt":
        history = tuple(
            Turn(turn["question"], turn["answer"], tuple(turn.get("images", ()))) for turn in data.get("history", ())
        )
        return cls(data["question"], tuple(data.get("images", ())), history)


@dataclass(frozen=True)
class Answer:
    """A generated answer as it was stored: raw text, never edited afterwards.

    `row_layout` names the voices of the generate call that made it, in row order ("baseline", adapter identities), and
    `row` is this answer's place: batched and single rows may part in low precision, so a repeat needs both.
    `visitor` is who asked; nobody else may read it while it is uncorrected.
    """

    id: str
    prompt: Prompt
    text: str
    model: ModelIdentity
    sampling: Sampling
    visitor: str
    created: str
    row_layout: tuple[str, ...] = ()
    row: int = 0
    finished: bool = True
    extra: dict = field(default_factory=dict)


def fingerprint(prompt: Prompt, text: str | None = None) -> str:
    """The sha256 of images, history and question, and of the answer where there is one."""
    turns = [[turn.question, turn.answer, list(turn.images)] for turn in prompt.history]
    return hashlib.sha256(json.dumps([list(prompt.images), turns, prompt.question, text]).encode()).hexdigest()
