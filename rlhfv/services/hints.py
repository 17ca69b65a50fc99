"""Suspect words of an answer for whoever may correct it: computed once, kept in the store, never waited for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from rlhfv.corrections.conversation import Answer
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.hints import Hint, ShownHint, shown_hints
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.store import Store
from rlhfv.errors import GenerationFailed, InvalidImage, ModelUnavailable, NotFound
from rlhfv.services.actor import Actor, worker_id
from rlhfv.services.model_host import ModelHost

if TYPE_CHECKING:
    from rlhfv.services.correcting import Correcting


class Hints:
    def __init__(self, store: Store, shelf: ImageShelf, host: ModelHost, corrections: Correcting):
        self.store, self.shelf, self.host, self.corrections = store, shelf, host, corrections

    def hints(self, actor: Actor, answer_id: str) -> list[Hint]:
        """The suspect words of an answer that the actor may correct, in the order of the text.

        Waits behind the visitors who chat, so no page should wait for it. Empty while the model is not in memory, and
        for an answer that it cannot read or that the actor corrects blind. Raises `NotFound` for another's answer.
        """
        self.corrections.open(actor, answer_id)
        if self.store.is_blind(answer_id, worker_id(self.corrections.settings, actor)):
            return []
        kept = self.store.recall(memory_key(answer_id))
        if kept is not None:
            return _hints_from_rows(kept)
        if self.host.base_of_identity(self.store.answer(answer_id).model).model is None:
            return []
        with suppress(ModelUnavailable, GenerationFailed, InvalidImage, NotFound):
            found = self._read(actor, self.store.answer(answer_id))
            self.store.remember(memory_key(answer_id), [vars(hint) for hint in found])
            return found
        return []

    def why_none(self, actor: Actor, answer_id: str) -> str:
        """Why no words of an answer can be marked, in a sentence; "" where they may be, or are withheld on purpose.
        Raises `NotFound` for another's answer."""
        self.corrections.open(actor, answer_id)
        if self.host.borrows_gpu:
            return "No suspect words are marked here: reading an answer would take of your GPU time."
        if self.store.is_blind(answer_id, worker_id(self.corrections.settings, actor)):
            return ""
        if self.store.recall(memory_key(answer_id)) is not None:
            return ""
        answer = self.store.answer(answer_id)
        server = answer.extra.get("server")
        if not server and self.host.bases.take_turns and self.host.base_of_identity(answer.model).model is None:
            return (
                "No suspect words are marked: they come from the model that answered, and that one is out of memory, "
                "because the models here take turns. Ask it something and open the answer again."
            )
        if not server or self.host.loaded:
            return ""
        return (
            f"No suspect words are marked: they come from the probability of each token. {server} does not tell it, "
            + ("and no model on this machine is in memory." if self.host.entry.source else "and no model is here.")
        )

    def _read(self, actor: Actor, answer: Answer) -> list[Hint]:
        from rlhfv.models.hints import find_hints, read_answer

        base = self.host.base_of_identity(answer.model)
        speaker, aligned = self._voices(actor, answer, base.key)
        with self.host.using(actor, *({speaker, aligned} - {None} or {base.key})) as model:
            reading, rows = read_answer(model, answer.prompt, answer.text, speaker, aligned, self.shelf.path)
        return find_hints(answer.text, reading, rows)

    def _voices(self, actor: Actor, answer: Answer, base: str) -> tuple[str | None, str | None]:
        """Who spoke (the baseline for what another model said) and the aligned voice of that base that it is compared
        with: itself, else the one that answered beside it, else the first that is offered.
        """
        offered = [voice.id for voice in self.host.local_voices(actor) if voice.base == base and voice.adapter]
        speaker = answer.model.adapter if answer.model.adapter in offered else None
        wanted = [speaker, *answer.row_layout, *offered]
        return speaker, next((voice for voice in wanted if voice in offered), None)


def memory_key(answer_id: str) -> str:
    """Under which the store remembers the hints of an answer: offsets and scores, no text."""
    return f"hints:{answer_id}"


def recall_shown(
    store: Store, answer_id: str, spans: Iterable[tuple[int, int]], edits: Sequence[Edit] = ()
) -> tuple[ShownHint, ...]:
    """What a judgement keeps of the hints whose spans a page says it showed; spans that are no hints are dropped."""
    return shown_hints(_hints_from_rows(store.recall(memory_key(answer_id)) or []), spans, edits)


def _hints_from_rows(rows: list[dict]) -> list[Hint]:
    return [Hint(**row) for row in rows]
