"""What people agree to before a correction of theirs is kept: the terms of this studio, once for each version.

On a machine of one person there are none. On a Space there are short ones, and the owner's own where a file is named.
"""

import hashlib
from dataclasses import dataclass

from rlhfv.corrections.agreements import Agreement
from rlhfv.corrections.store import Store
from rlhfv.errors import InvalidData
from rlhfv.services.actor import Actor
from rlhfv.services.terms import TermsMissing, now
from rlhfv.settings import Settings

MAX_TEXT = 20_000
SPACE_TERMS = """\
What is kept: the picture, your question, the model's answer, your correction of it, the time, and the name that you \
type here, if you type one.
Who sees it: you, and the owner of this Space. Everybody only if you agree below that it may be published; then it \
stands in a public data set under the licence that you choose.
How to withdraw: delete a correction in Pairs at any time, and it is not published any more. To have it erased for \
good, also from the history, ask the owner of this Space.
Send no picture of a person who has not agreed to it, and nothing that is not yours to give."""


@dataclass(frozen=True)
class HouseTerms:
    """`version` is made of the text, so that no change of it goes unnoticed."""

    version: str
    text: str


class ConsentMissing(TermsMissing):
    """Somebody has not agreed yet to the terms as they are now, which are `terms`."""

    terms: HouseTerms


class Consent:
    def __init__(self, settings: Settings, store: Store):
        self.store, self.house = store, read_house_terms(settings)

    def missing(self, actor: Actor) -> HouseTerms | None:
        """What the actor has to agree to before a correction of theirs is kept; None when nothing is left."""
        actor.require("correct")
        if self.house is None or self.store.agreement(actor.visitor, self.house.version):
            return None
        return self.house

    def agree(self, actor: Actor, version: str) -> Agreement | None:
        """Notes that the actor agrees. Raises `InvalidData` for another version than the present one."""
        actor.require("correct")
        if self.house is None:
            return None
        if version != self.house.version:
            raise InvalidData(
                "You agreed to terms that are not the present ones.",
                "They were changed meanwhile." if version else "None were named.",
                "Read them as they are now, and agree to those.",
            )
        return self.store.agree(actor.visitor, version, self.house.text, now())

    def check(self, actor: Actor) -> None:
        """Raises `ConsentMissing` unless the actor agreed to the terms as they are now."""
        terms = self.missing(actor)
        if terms is not None:
            error = ConsentMissing(
                "You have not agreed yet to the terms of this studio.",
                "It keeps no correction without that; they are asked once, and again only when they change.",
                "Read them and agree, in Correct under 'Name, licence and consent …'; your correction is kept until "
                f"then. (Version {terms.version})",
            )
            error.terms = terms
            raise error


def read_house_terms(settings: Settings) -> HouseTerms | None:
    """Raises `InvalidData` where the owner's file cannot be read."""
    if settings.terms is not None:
        try:
            text = settings.terms.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(settings, type(error).__name__) from error
        if not text or len(text) > MAX_TEXT:
            raise _unreadable(settings, f"{len(text):,} characters")
    elif settings.space is not None:
        text = SPACE_TERMS
    else:
        return None
    return HouseTerms(hashlib.sha256(text.encode()).hexdigest()[:12], text)


def _unreadable(settings: Settings, why: str) -> InvalidData:
    return InvalidData(
        f"The terms in {settings.terms.name} cannot be used: {why}.",
        f"It is a text of at most {MAX_TEXT:,} characters.",
        "Put the text there, or leave --terms out.",
    )
