"""An answer to make and an answer made, whoever makes it: a model in memory or one on a server."""

from dataclasses import dataclass, field

from rlhfv.corrections.conversation import ModelIdentity, Prompt

BASELINE = "baseline"


@dataclass(frozen=True)
class Row:
    """One answer to make: `voice` is None for the baseline, else an adapter's identity or the id of a remote voice."""

    voice: str | None
    prompt: Prompt


@dataclass(frozen=True)
class Generated:
    """An answer as it was generated. `tokens` are its ids without the end, empty where a server made it; `finished` is
    False when it was cut by the length limit or stopped. `row_layout` and `row` say beside which voices and in which
    place it was generated, `apart` why it was alone although other rows were asked for with it. `note` is a sentence
    for whoever reads it: why it ends where it ends, what the server did otherwise. `model` is who answered where only
    the answer itself tells it; `extra` is what else is kept with it.
    """

    text: str
    finished: bool
    tokens: tuple[int, ...]
    row_layout: tuple[str, ...]
    row: int
    apart: str = ""
    note: str = ""
    model: ModelIdentity | None = None
    extra: dict = field(default_factory=dict)


NOTHING = Generated(text="", finished=False, tokens=(), row_layout=(), row=0)
"""The answer of a row that was stopped before its turn came."""
