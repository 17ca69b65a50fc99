"""From an answer to a preference pair, and everything that happens to pairs afterwards."""

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace

from rlhfv.corrections.agreements import Agreement
from rlhfv.corrections.conversation import Answer, Turn
from rlhfv.corrections.edits import CorrectedAnswer, Edit
from rlhfv.corrections.hints import ShownHint
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import Judgement, PreferencePair
from rlhfv.corrections.store import Page, Revision, Store
from rlhfv.corrections.tasks import EVERYBODY
from rlhfv.errors import Forbidden, InvalidCorrection, NotFound
from rlhfv.services.actor import Actor, asked_states, shown_state, worker_id
from rlhfv.services.consent import Consent
from rlhfv.services.durable import Durable
from rlhfv.services.hints import recall_shown
from rlhfv.services.limits import Limits
from rlhfv.services.queue_settings import read_queue_settings
from rlhfv.services.terms import (
    Terms,
    agreed_terms,
    annotator_name,
    make_provenance,
    now,
    read_terms,
    require_terms,
    write_terms,
)
from rlhfv.services.transfer import Transfer
from rlhfv.settings import Settings

FLAGS = {"omission": "the answer leaves out something important", "not answered": "the question is not answered"}
SKIP_REASONS = ("too many errors", "not sure", "picture unclear", "not worth it")
Spans = Iterable[tuple[int, int]]


@dataclass(frozen=True)
class EditorState:
    """One answer on the workbench. `number` of `total` counts the visitor's answers that wait for a judgement."""

    answer_id: str
    question: str
    images: tuple[str, ...]
    history: tuple[Turn, ...]
    original: str
    edits: tuple[Edit, ...]
    model: str
    waiting: int
    saved_pair: PreferencePair | None


@dataclass(frozen=True)
class Saved:
    pair_id: str
    revision: int
    message: str
    durable: bool = True
    """Whether it outlives this machine's disk where that disk does not last by itself."""


class Correcting(Transfer):
    def __init__(
        self,
        settings: Settings,
        store: Store,
        shelf: ImageShelf,
        durable: Durable,
        consent: Consent,
        limits: Limits,
    ):
        self.settings, self.store, self.shelf, self.durable = settings, store, shelf, durable
        self.consent, self.limits = consent, limits

    # ---- one answer

    def open(self, actor: Actor, answer_id: str | None = None, after: str | None = None) -> EditorState | None:
        """The named answer with its draft, or the next one without a judgement; None when all are done."""
        actor.require("correct")
        if answer_id is None:
            answer = self.store.next_uncorrected(actor.visitor, after)
            if answer is None:
                return None
        else:
            answer = self._answer(actor, answer_id)
        pair = self._saved_pair(actor, answer)
        draft = self.store.draft(self._owner(actor, answer), answer.id)
        if draft is not None:
            edits = tuple(Edit(**edit) for edit in draft["edits"])
        else:
            edits = pair.edits if pair is not None else ()
        return EditorState(
            answer_id=answer.id,
            question=answer.prompt.question,
            images=answer.prompt.all_images,
            history=answer.prompt.history,
            original=answer.text,
            edits=edits,
            model=str(answer.model),
            waiting=len(self.store.uncorrected(actor.visitor)),
            saved_pair=pair,
        )

    def save_draft(self, actor: Actor, answer_id: str, edits: Iterable[Edit]) -> None:
        """Keeps unsaved corrections through a reload, and an answer of the queue reserved; raises `InvalidCorrection`
        for offsets that do not fit.
        """
        actor.require("correct")
        answer = self._answer(actor, answer_id)
        corrected = CorrectedAnswer(answer.text, tuple(edits))
        corrected.validate()
        owner, pair = self._owner(actor, answer), self._saved_pair(actor, answer)
        if pair is not None and pair.edits == corrected.edits:
            # A draft that arrives behind its own save holds nothing new.
            self.store.drop_draft(owner, answer_id)
            return
        document = {"edits": [vars(edit) for edit in corrected.edits]}
        self.store.save_draft(owner, answer_id, document)
        now = time.time()
        self.store.renew(answer_id, owner, now, now + 60 * read_queue_settings(self.store).reserve_minutes)

    def save(
        self,
        actor: Actor,
        answer_id: str,
        original: str,
        edits: Iterable[Edit],
        flags: tuple[str, ...] = (),
        active_seconds: float = 0.0,
        shown: Spans = (),
    ) -> Saved:
        """Makes or revises the pair of an answer. What this returns is on disk, and the message says whether it will
        outlive that disk where it does not last by itself. `shown` are the hints that were seen.

        Raises `InvalidCorrection` when there is nothing to save or `original` is not the stored answer, `TermsMissing`
        before the first save and when the terms have changed, `NotFound` for an answer of somebody else, `TooMany`.
        """
        actor.require("correct")
        answer = self._answer(actor, answer_id)
        if original != answer.text:
            raise InvalidCorrection(
                "The answer on the page is not the one that was stored.",
                "Corrections are offsets into the stored text, so they would hit other words.",
                "Reload the page and open the answer again; your draft is kept.",
            )
        unknown = set(flags) - set(FLAGS)
        if unknown:
            raise InvalidCorrection(
                f"The flag '{sorted(unknown)[0]}' is unknown.",
                "A judgement carries known flags only.",
                "Leave it out.",
            )
        corrected = CorrectedAnswer(answer.text, tuple(edits))
        corrected.validate()
        if not corrected.edits:
            raise InvalidCorrection(
                "There is no correction yet.",
                "A pair needs at least one place where the corrected answer differs.",
                "Correct some words, or say that nothing is wrong.",
            )
        self.consent.check(actor)
        require_terms(self.store, actor)
        self.limits.take(actor, "correction")
        pair = PreferencePair(
            id="",
            prompt=answer.prompt,
            chosen=corrected.corrected,
            rejected=answer.text,
            edits=corrected.edits,
            outcome="corrected",
            provenance=make_provenance(self.store, actor, answer),
        )
        hints = recall_shown(self.store, answer.id, shown, corrected.edits)
        judgement = self._judgement(actor, answer, "corrected", flags, active_seconds, hints=hints)
        revision = self._keep(actor, answer, judgement, pair)
        count, missing = len(corrected.edits), self.durable.confirm()
        review = " A reviewer sees it next." if self.settings.team else ""
        return Saved(
            revision.pair.id,
            revision.number,
            f"{'On this machine only' if missing else 'Saved'}: {count} correction{'s' if count != 1 else ''}, "
            f"revision {revision.number}.{review}{f' {missing}' if missing else ''}",
            not missing,
        )

    def skip(self, actor: Actor, answer_id: str, reason: str, shown: Spans = ()) -> None:
        actor.require("correct")
        answer = self._answer(actor, answer_id)
        self.consent.check(actor)
        self.limits.take(actor, "judgement")
        hints = recall_shown(self.store, answer.id, shown)
        self._keep(actor, answer, self._judgement(actor, answer, "skipped", (), 0.0, reason[:200], hints))

    def faithful(self, actor: Actor, answer_id: str, shown: Spans = ()) -> None:
        """Records that nothing in the answer is wrong; takes back the actor's own correction, if there is one."""
        actor.require("correct")
        answer = self._answer(actor, answer_id)
        if (pair := self._saved_pair(actor, answer)) is not None:
            self._require_change(actor, pair.id)
        self.consent.check(actor)
        self.limits.take(actor, "judgement")
        hints = recall_shown(self.store, answer.id, shown)
        self._keep(actor, answer, self._judgement(actor, answer, "faithful", (), 0.0, hints=hints))

    def terms(self, actor: Actor) -> Terms | None:
        actor.require("correct")
        return read_terms(self.store, actor)

    def agreement(self, actor: Actor, pair_id: str) -> Agreement | None:
        """Which terms of this studio the maker of a pair had agreed to when its newest revision was kept, and when."""
        self._own_pair(actor, pair_id)
        return self.store.agreement_of_pair(pair_id)

    def set_terms(self, actor: Actor, terms: Terms) -> Terms:
        actor.require("correct")
        return write_terms(self.store, actor, terms)

    # ---- the list of pairs

    def find(
        self,
        actor: Actor,
        text: str = "",
        kind: str | None = None,
        annotator: str | None = None,
        model: str | None = None,
        outcome: str | None = None,
        offset: int = 0,
        limit: int = 50,
        state: str | None = None,
    ) -> Page:
        """Pairs the actor may see, newest first; `total` counts all that match, `states` says how each stands."""
        actor.require("correct")
        page = self.store.find_pairs(
            text=text,
            kind=kind,
            annotator=annotator,
            model=model,
            outcome=outcome,
            visitor=self._scope(actor),
            state=asked_states(actor, state),
            offset=offset,
            limit=limit,
        )
        return replace(page, states=tuple(shown_state(actor, each) for each in page.states))

    def pair(self, actor: Actor, pair_id: str) -> PreferencePair:
        self._own_pair(actor, pair_id)
        return self.store.pair(pair_id)

    def history(self, actor: Actor, pair_id: str) -> list[Revision]:
        self._own_pair(actor, pair_id)
        return self.store.history(pair_id)

    def restore(self, actor: Actor, pair_id: str, number: int) -> Revision:
        """Makes an earlier revision the newest one; a deleted pair comes back that way."""
        self._require_change(actor, pair_id)
        self.limits.take(actor, "change")
        who = annotator_name(self.store, actor)
        return self.store.restore(pair_id, number, who, worker_id(self.settings, actor))

    def delete(self, actor: Actor, pair_id: str) -> Revision:
        self._require_change(actor, pair_id)
        self.limits.take(actor, "change")
        return self.store.delete(pair_id, annotator_name(self.store, actor), worker_id(self.settings, actor))

    def undo(self, actor: Actor, pair_id: str) -> Revision:
        """Takes the newest revision back, as a new one; what was saved first is then deleted."""
        self._require_change(actor, pair_id)
        self.limits.take(actor, "change")
        return self.store.undo(pair_id, annotator_name(self.store, actor))

    def undelete(self, actor: Actor, pair_id: str) -> Revision:
        """Undoes a deletion: restores the last revision that was not one."""
        history = self.history(actor, pair_id)
        kept = [revision.number for revision in history if revision.action != "deleted"]
        return self.restore(actor, pair_id, max(kept))

    def filter_choices(self, actor: Actor) -> dict[str, list[str]]:
        """The "annotators" and "models" among the pairs the actor may see."""
        actor.require("correct")
        if self._scope(actor) is None:
            return self.store.filter_choices()
        origins = [pair.provenance for pair in self.mine(actor)]
        return {
            "annotators": sorted({origin.annotator for origin in origins}),
            "models": sorted({str(origin.model) for origin in origins}),
        }

    def mine(self, actor: Actor, state: str | None = None) -> list[PreferencePair]:
        """Every pair the actor may see (in one state), oldest first."""
        actor.require("correct")
        return list(self.store.all_pairs(visitor=self._scope(actor), state=state))

    # ---- inside

    def _scope(self, actor: Actor) -> str | None:
        """Whose pairs: everybody's on a machine of one person and for a team's reviewers, else the visitor's own."""
        everybodys = "review" in actor.rights if self.settings.team else self.settings.single_user
        return None if everybodys else actor.visitor

    def _answer(self, actor: Actor, answer_id: str) -> Answer:
        answer = self.store.answer(answer_id)
        if answer.visitor == EVERYBODY:
            actor.require("annotate")
            return answer
        one_person = self.settings.single_user and not self.settings.team
        shared = one_person and self.store.pair_of_answer(answer_id) is not None
        if answer.visitor != actor.visitor and not shared:
            raise NotFound(
                "That answer is not here.", "It was not given to you.", "Ask a question and correct its answer."
            )
        return answer

    def _owner(self, actor: Actor, answer: Answer) -> str:
        """Whose draft and whose pair of the answer it is."""
        return worker_id(self.settings, actor) if answer.visitor == EVERYBODY else actor.visitor

    def _saved_pair(self, actor: Actor, answer: Answer) -> PreferencePair | None:
        if answer.visitor == EVERYBODY:
            return self.store.pair_made_of(answer.id, self._owner(actor, answer))
        return self.store.pair_of_answer(answer.id)

    def _keep(
        self, actor: Actor, answer: Answer, judgement: Judgement, pair: PreferencePair | None = None
    ) -> Revision:
        revision = self.store.save(judgement, pair, worker_id(self.settings, actor))
        self.store.drop_draft(self._owner(actor, answer), answer.id)
        return revision

    def _own_pair(self, actor: Actor, pair_id: str) -> None:
        actor.require("correct")
        if self._scope(actor) is not None and self.store.pair_visitor(pair_id) != actor.visitor:
            raise NotFound("That pair is not here.", "It is not one of yours.", "Choose one from the list.")

    def _require_change(self, actor: Actor, pair_id: str) -> None:
        """In a team the text of a pair is its author's until it is accepted; who manages the studio may always."""
        self._own_pair(actor, pair_id)
        if not self.settings.team or "manage" in actor.rights:
            return
        if self.store.pair_visitor(pair_id) != actor.visitor or self.store.pair_states([pair_id]) == ["accepted"]:
            raise Forbidden(
                "This pair is not yours to change now.",
                "Others' pairs are reviewed, not rewritten, and an accepted pair is part of the data.",
                "Send it back to its author, or take back the acceptance first.",
            )

    def _judgement(
        self,
        actor: Actor,
        answer: Answer,
        outcome: str,
        flags: tuple[str, ...],
        seconds: float,
        reason: str = "",
        hints: tuple[ShownHint, ...] = (),
    ) -> Judgement:
        return Judgement(
            id=uuid.uuid4().hex,
            answers=(answer.id,),
            outcome=outcome,
            flags=flags,
            reason=reason,
            annotator=annotator_name(self.store, actor),
            created=now(),
            active_seconds=seconds,
            hints=hints,
            **agreed_terms(self.store, actor),
        )
