"""The models of this studio, for whoever reads about them and for who chooses them."""

from dataclasses import dataclass

from rlhfv.errors import InvalidData
from rlhfv.models.known import KNOWN, Known
from rlhfv.services.actor import Actor
from rlhfv.services.bases import Base
from rlhfv.services.chat import Chat
from rlhfv.services.chat_state import ChatState
from rlhfv.services.model_host import ModelHost


@dataclass(frozen=True)
class ModelFacts:
    """A base that is here. `held` are the bytes that its weights take in memory, None while it is not there; `makers`
    says how its makers decode, "" where that is not known."""

    title: str
    source: str
    commit: str
    licence: str
    held: int | None
    four_bit: bool
    makers: str
    note: str


class Models:
    def __init__(self, host: ModelHost, chat: Chat):
        self.host, self.chat = host, chat

    def here(self, actor: Actor) -> list[ModelFacts]:
        """The bases that answer here, the first one first."""
        actor.require("chat")
        return [_facts(base) for base in self.host.bases.all if base.entry.source]

    def known(self, actor: Actor) -> tuple[Known, ...]:
        """The models with a short name that may be put beside the chat's."""
        actor.require("manage")
        here = {base.entry.id for base in self.host.bases.all}
        return tuple(one for one in KNOWN if one.source not in here)

    def take_turns(self, actor: Actor) -> bool:
        """Whether the bases did not fit into memory together."""
        actor.require("chat")
        return self.host.bases.take_turns

    def put_beside(self, actor: Actor, name: str) -> ChatState:
        """Puts a model beside the chat's for everybody, and its two voices into the actor's columns: its baseline, and
        the aligned one where there is one. The model is loaded with the next question.

        Raises:
            ModelUnavailable: there is none, or it does not fit even alone; those that are there stay.
        """
        actor.require("manage")
        name = name.strip()
        if not name:
            raise InvalidData("No model was named.", "There is nothing to put there.", "Choose one from the list.")
        base = self.host.put_beside(name, self.host.bases.require_fits)
        state = self.chat.open(actor)
        voices = [voice for voice in self.host.voices(actor) if voice.base == base.key]
        counterpart = next((other.key for other in self.host.others if other is not base), None)
        aligned = voices[1].id if len(voices) > 1 else counterpart
        left, right = (base.key, aligned) if aligned else (state.left, base.key)
        sampling = base.entry.known.decoding if base.entry.known else state.sampling
        return self.chat.choose(actor, left, right, sampling)

    def take_away(self, actor: Actor) -> ChatState:
        """Leaves the chat's own model alone here."""
        actor.require("manage")
        self.host.take_away()
        return self.chat.open(actor)


def _facts(base: Base) -> ModelFacts:
    entry, known = base.entry, base.entry.known
    identity = None if entry.is_local else base.identity
    return ModelFacts(
        title=entry.title,
        source="" if entry.is_local else entry.source,
        commit=identity.revision if identity else entry.revision or "",
        licence=entry.licence,
        held=base.held if base.model is not None else None,
        four_bit=bool(getattr(base.model, "four_bit", False)),
        makers=known.makers if known else "",
        note=known.note if known else entry.notice,
    )
