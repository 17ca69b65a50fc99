"""What a judge is asked and what it said, as plain data, and the words for replies that do not count."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rlhfv.remote_voices import served_name

USABLE, CUT, OTHER_MODEL, ENDED, EMPTY, UNREADABLE = "usable", "cut", "other model", "ended", "empty", "unreadable"
TOLD = {
    CUT: "cut at the limit of tokens",
    OTHER_MODEL: "of another model than the one asked for",
    ENDED: "ended by the server for another reason",
    EMPTY: "empty",
    UNREADABLE: "in no form that can be read",
}
_REPLIES = ("reply is", "replies are")
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|\d{3})")


@dataclass(frozen=True)
class Case:
    """What the judge is asked about one item: messages of the protocol, text only."""

    id: str
    messages: tuple[dict, ...]


@dataclass(frozen=True)
class Wording:
    """How a benchmark asks. `label` names the prompt in full, as it stands beside the figures."""

    label: str
    temperature: float
    max_tokens: int


@dataclass(frozen=True)
class Asked:
    """All that a judge is asked about a set of answers; `read` gives None for a reply that it cannot read."""

    cases: tuple[Case, ...]
    wording: Wording
    read: Callable[[str], object | None]


@dataclass(frozen=True)
class Standing:
    """How much of what a judge is asked has a reply: `waiting` of `requests` have none, and `unjudged` of `answers`
    wait for these (equal requests are sent once)."""

    requests: int
    waiting: int
    answers: int
    unjudged: int


def standing_of(sets: Sequence[tuple[Sequence[str], set[str]]]) -> Standing:
    """Of sets that are judged together: the request of each of their answers, and those that have no reply."""
    requests = [request for of_set, _ in sets for request in of_set]
    waiting = set().union(*(without for _, without in sets))
    return Standing(len(set(requests)), len(waiting), len(requests), sum(request in waiting for request in requests))


@dataclass(frozen=True)
class Judged:
    """What the judge said. `texts` are the whole replies by item id, `read` what the benchmark read in those that it
    could read; `apart` counts the items of each other kind. `perhaps_paid` requests ended without a reply that got
    here. `by` are the models as they name themselves, with their server.
    """

    texts: Mapping[str, str]
    read: Mapping[str, object]
    apart: Mapping[str, int]
    missing: int
    last_words: str
    perhaps_paid: int
    by: tuple[str, ...]
    left_out: tuple[str, ...]
    wording: Wording

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Ids of whole replies in which nothing could be read."""
        return tuple(id for id in self.texts if id not in self.read)

    def variant(self, counting: str) -> str:
        """How the figures came about, in full."""
        return f"{counting}; {self.how}"

    @property
    def how(self) -> str:
        """Who judged, and how it was asked."""
        wording = self.wording
        warm = "the server's own temperature" if "temperature" in self.left_out else f"t = {wording.temperature:g}"
        judge = " and ".join(self.by) or "none"
        return f"{wording.label}; judge {judge}, {warm}, at most {wording.max_tokens:,} tokens"

    def notes(self, unreadable: str = "left out") -> tuple[str, ...]:
        """Sentences on what is not in the figures, and why; `unreadable` says what a reply that cannot be read is
        taken for.
        """
        told = [
            f"{_number(number, *_REPLIES)} {TOLD[kind]}; not counted." for kind, number in self.apart.items() if number
        ]
        if self.unreadable:
            told.append(f"{_number(len(self.unreadable), *_REPLIES)} {TOLD[UNREADABLE]}: {unreadable}.")
        if self.missing:
            why = f" The last one's reason: {self.last_words}" if self.last_words else ""
            told.append(f"{_number(self.missing, 'item has', 'items have')} no reply of the judge yet.{why}")
        if len(self.by) > 1:
            told.append(f"The replies are of {len(self.by)} models, which may judge differently.")
        if self.perhaps_paid:
            told.append(
                f"{_number(self.perhaps_paid, 'request', 'requests')} ended without a reply that got here; whether "
                "the server finished and charged it cannot be known."
            )
        return tuple(told)


def is_asked_for(asked: str, served: str) -> bool:
    """Whether the model that a server names is the one asked for.

    It is the same name, or that name with a date or a version of three digits behind it ("gpt-4" → "gpt-4-0613"). An
    owner or a revision ("@main") that only one of them names does not count, nor "latest", nor a provider behind the
    name asked for. Any other longer name is another model ("gpt-4" → "gpt-4o", "gpt-4-turbo").
    """
    asked, served = (served_name(name).casefold() for name in (asked, served))
    if not ("/" in asked and "/" in served):
        asked, served = asked.rpartition("/")[2], served.rpartition("/")[2]
    if not ("@" in asked and "@" in served):
        asked, served = asked.partition("@")[0], served.partition("@")[0]
    asked, served = (name.removesuffix(":latest").removesuffix("-latest") for name in (asked, served))
    if ":" not in served:
        asked = asked.partition(":")[0]
    return served == asked or (served.startswith(asked) and bool(_DATED.fullmatch(served[len(asked) :])))


def _number(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
