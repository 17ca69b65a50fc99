"""A comparison to show to others: as a picture that leaves with its maker, or under a public link that they can
withdraw."""

import re
import secrets
import threading
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

from rlhfv.corrections.edits import CorrectedAnswer
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.store import Store
from rlhfv.errors import InvalidData, NotFound
from rlhfv.services.actor import Actor
from rlhfv.services.chat import Chat
from rlhfv.services.chat_state import SIDES
from rlhfv.services.terms import now
from rlhfv.settings import Settings

MAX_LINKS = 50
"""Public links of one visitor at a time."""
LINK = re.compile(r"[\w-]{22}")


@dataclass(frozen=True)
class Said:
    """What a voice said: the `answer` is its id here."""

    voice: str
    text: str
    answer: str


@dataclass(frozen=True)
class Correction:
    """What a person made of the answer of the voice at `side` (0 or 1): stretches of text that were kept (""), taken
    out ("del") and put in ("ins"), in their order."""

    side: int
    pair: str
    parts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Comparison:
    """One question, the picture that it is about (its name, or empty), both answers, and a correction of one."""

    question: str
    image: str
    said: tuple[Said, Said]
    correction: Correction | None = None
    made: str = ""

    @property
    def mark(self) -> str:
        """What tells it from any other."""
        return sha256(repr((self.question, self.image, self.said, self.correction)).encode()).hexdigest()


@dataclass(frozen=True)
class SharedLink:
    id: str
    question: str
    made: str


class Sharing:
    def __init__(self, settings: Settings, store: Store, shelf: ImageShelf, chat: Chat):
        self.team, self.store, self.shelf, self.chat = settings.team, store, shelf, chat
        self._mutex = threading.Lock()

    def comparison(self, actor: Actor) -> Comparison:
        """Of the last turn of the visitor's conversation. Raises `InvalidData` where two answers are not there."""
        actor.require("chat")
        state = self.chat.open(actor)
        turn = state.turns[-1] if state.turns else None
        if turn is None or not (turn.left.answer_id and turn.right.answer_id):
            raise InvalidData(
                "There is no comparison to share yet.",
                "It takes a question and two answers to it.",
                "Ask both models first.",
            )
        shown = [image for each in state.turns for image in each.images]
        replies = [getattr(turn, side) for side in SIDES]
        said = tuple(Said(reply.voice_title, reply.text, reply.answer_id) for reply in replies)
        return Comparison(turn.question, shown[-1] if shown else "", said, self._correction(said))

    def may_publish(self, actor: Actor) -> bool:
        """In a team the pictures are the team's: only who may push to the Hub makes one public."""
        actor.require("chat")
        return not self.team or "publish" in actor.rights

    def publish(self, actor: Actor, agreed: str) -> str:
        """A link under which everybody finds the comparison, until it is withdrawn.

        Args:
            agreed: the `mark` of the comparison that the visitor saw when they agreed.

        Raises:
            Forbidden: see `may_publish`.
            InvalidData: they agreed to no comparison or to another one, there is none, or they have too many links.
        """
        actor.require("chat" if self.may_publish(actor) else "publish")
        comparison = self.comparison(actor)
        if agreed != comparison.mark:
            raise InvalidData(
                "Nothing was made public.",
                "You agreed to show another comparison than the present one, or none."
                if agreed
                else "Everybody who has the link sees the picture, the question and both answers.",
                "Look at what is shown, and agree to that.",
            )
        with self._mutex:
            mine = self._mine(actor)
            if len(mine) >= MAX_LINKS:
                raise InvalidData(
                    f"You have {len(mine)} public links.",
                    "A visitor can have that many at a time.",
                    "Withdraw one that is not needed any more.",
                )
            link = secrets.token_urlsafe(16)
            self.store.remember(_key(link), asdict(replace(comparison, made=now())))
            self.store.remember(_own_key(actor), [*mine, link])
        return link

    def withdraw(self, actor: Actor, link: str) -> None:
        """The link shows nothing any more. Raises `NotFound` for what is not the visitor's, unless they manage the
        studio."""
        actor.require("chat")
        with self._mutex:
            mine = self._mine(actor)
            if link not in mine and "manage" not in actor.rights:
                raise _no_link()
            self.open_link(link)
            self.store.forget(_key(link))
            self.store.remember(_own_key(actor), [other for other in mine if other != link])

    def links(self, actor: Actor) -> list[SharedLink]:
        """The visitor's public links, the newest first."""
        actor.require("chat")
        found = [(link, self.open_link(link)) for link in reversed(self._mine(actor))]
        return [SharedLink(link, shown.question, shown.made) for link, shown in found]

    def open_link(self, link: str) -> Comparison:
        """What a public link shows to anybody. Raises `NotFound`: it was withdrawn, erased, or never was."""
        row = self.store.recall(_key(link)) if LINK.fullmatch(link) else None
        if row is None:
            raise _no_link()
        correction = row["correction"]
        # Whoever takes a correction back takes it from here too, and a restored one is seen again.
        if correction and not self.store.is_live(correction["pair"]):
            correction = None
        if correction:
            parts = tuple((text, kind) for text, kind in correction["parts"])
            correction = Correction(correction["side"], correction["pair"], parts)
        said = tuple(Said(**each) for each in row["said"])
        return Comparison(row["question"], row["image"], said, correction, row["made"])

    def open_picture(self, link: str) -> Path:
        """The picture of a public link. Raises `NotFound`, also where it shows none."""
        image = self.open_link(link).image
        if not image:
            raise _no_link()
        return self.shelf.path(image)

    def _mine(self, actor: Actor) -> list[str]:
        """Those that still show something; an erasure takes links without asking whose they are."""
        return [link for link in self.store.recall(_own_key(actor)) or [] if self.store.recall(_key(link))]

    def _correction(self, said: tuple[Said, Said]) -> Correction | None:
        """The newest correction of one of the answers; the answers of a conversation are its visitor's own."""
        for side, each in enumerate(said):
            pair = self.store.pair_of_answer(each.answer)
            if pair is not None and pair.rejected == each.text:
                return Correction(side, pair.id, _parts(CorrectedAnswer(pair.rejected, tuple(pair.edits))))
        return None


def _parts(corrected: CorrectedAnswer) -> tuple[tuple[str, str], ...]:
    parts, place, text = [], 0, corrected.original
    for edit in corrected.edits:
        parts += [(text[place : edit.start], ""), (text[edit.start : edit.end], "del"), (edit.replacement, "ins")]
        place = edit.end
    return tuple(part for part in (*parts, (text[place:], "")) if part[0])


def _key(link: str) -> str:
    return f"shared/{link}"


def _own_key(actor: Actor) -> str:
    return f"links of {actor.visitor}"


def _no_link() -> NotFound:
    return NotFound(
        "There is nothing under this link.",
        "It was withdrawn by the person who shared it, or never was.",
        "Ask them for another one.",
    )
