"""From an answer to a preference pair, and everything that happens to pairs afterwards."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rlhfv.corrections.conversation import Answer, Turn
from rlhfv.corrections.edits import CorrectedAnswer, Edit
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import Judgement, PreferencePair
from rlhfv.corrections.store import Page, Revision, Store
from rlhfv.errors import InvalidCorrection, InvalidData, NotFound
from rlhfv.services.actor import Actor
from rlhfv.services.terms import Terms, annotator_name, make_provenance, now, read_terms, require_terms, write_terms
from rlhfv.settings import Settings

FLAGS = {"omission": "the answer leaves out something important", "not answered": "the question is not answered"}
SKIP_REASONS = ("too many errors", "not sure", "picture unclear", "not worth it")


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


class Correcting:
    def __init__(self, settings: Settings, store: Store, shelf: ImageShelf):
        self.settings, self.store, self.shelf = settings, store, shelf

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
        pair = self.store.pair_of_answer(answer.id)
        draft = self.store.draft(actor.visitor, answer.id)
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
        """Keeps unsaved corrections through a reload; raises `InvalidCorrection` for offsets that do not fit."""
        actor.require("correct")
        corrected = CorrectedAnswer(self._answer(actor, answer_id).text, tuple(edits))
        corrected.validate()
        pair = self.store.pair_of_answer(answer_id)
        if pair is not None and pair.edits == corrected.edits:
            # A draft that arrives behind its own save holds nothing new.
            self.store.drop_draft(actor.visitor, answer_id)
            return
        document = {"edits": [vars(edit) for edit in corrected.edits]}
        self.store.save_draft(actor.visitor, answer_id, document)

    def save(
        self,
        actor: Actor,
        answer_id: str,
        original: str,
        edits: Iterable[Edit],
        flags: tuple[str, ...] = (),
        active_seconds: float = 0.0,
    ) -> Saved:
        """Makes or revises the pair of an answer. What this returns is on disk.

        Raises `InvalidCorrection` when there is nothing to save or `original` is not the stored answer, `TermsMissing`
        before the first save, `NotFound` for an answer of somebody else.
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
        require_terms(self.store, actor)
        pair = PreferencePair(
            id="",
            prompt=answer.prompt,
            chosen=corrected.corrected,
            rejected=answer.text,
            edits=corrected.edits,
            outcome="corrected",
            provenance=make_provenance(self.store, actor, answer),
        )
        revision = self.store.save(self._judgement(actor, answer, "corrected", flags, active_seconds), pair)
        self.store.drop_draft(actor.visitor, answer.id)
        count = len(corrected.edits)
        return Saved(
            revision.pair.id,
            revision.number,
            f"Saved: {count} correction{'s' if count != 1 else ''}, revision {revision.number}.",
        )

    def skip(self, actor: Actor, answer_id: str, reason: str) -> None:
        actor.require("correct")
        answer = self._answer(actor, answer_id)
        self.store.save(self._judgement(actor, answer, "skipped", (), 0.0, reason[:200]), None)
        self.store.drop_draft(actor.visitor, answer.id)

    def faithful(self, actor: Actor, answer_id: str) -> None:
        """Records that nothing in the answer is wrong."""
        actor.require("correct")
        answer = self._answer(actor, answer_id)
        self.store.save(self._judgement(actor, answer, "faithful", (), 0.0), None)
        self.store.drop_draft(actor.visitor, answer.id)

    def terms(self, actor: Actor) -> Terms | None:
        return read_terms(self.store, actor)

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
    ) -> Page:
        """Pairs the actor may see, newest first; `total` counts all that match."""
        actor.require("correct")
        return self.store.find_pairs(
            text=text,
            kind=kind,
            annotator=annotator,
            model=model,
            outcome=outcome,
            visitor=self._scope(actor),
            offset=offset,
            limit=limit,
        )

    def pair(self, actor: Actor, pair_id: str) -> PreferencePair:
        self._own_pair(actor, pair_id)
        return self.store.pair(pair_id)

    def history(self, actor: Actor, pair_id: str) -> list[Revision]:
        self._own_pair(actor, pair_id)
        return self.store.history(pair_id)

    def restore(self, actor: Actor, pair_id: str, number: int) -> Revision:
        """Makes an earlier revision the newest one; a deleted pair comes back that way."""
        self._own_pair(actor, pair_id)
        return self.store.restore(pair_id, number, annotator_name(self.store, actor))

    def delete(self, actor: Actor, pair_id: str) -> Revision:
        self._own_pair(actor, pair_id)
        return self.store.delete(pair_id, annotator_name(self.store, actor))

    def undelete(self, actor: Actor, pair_id: str) -> Revision:
        """Undoes a deletion: restores the last revision that was not one."""
        history = self.history(actor, pair_id)
        kept = [revision.number for revision in history if revision.action != "deleted"]
        return self.restore(actor, pair_id, max(kept))

    def filter_choices(self, actor: Actor) -> dict[str, list[str]]:
        """The "annotators" and "models" among the pairs the actor may see."""
        actor.require("correct")
        if self.settings.single_user:
            return self.store.filter_choices()
        origins = [pair.provenance for pair in self.mine(actor)]
        return {
            "annotators": sorted({origin.annotator for origin in origins}),
            "models": sorted({str(origin.model) for origin in origins}),
        }

    def mine(self, actor: Actor) -> list[PreferencePair]:
        """Every pair the actor may see, oldest first."""
        actor.require("correct")
        return list(self.store.all_pairs(visitor=self._scope(actor)))

    # ---- in and out

    def export_jsonl(self, actor: Actor, folder: Path) -> int:
        """Writes pairs.jsonl and images/ into `folder`; returns how many pairs."""
        from rlhfv.corrections.exchange import export_pairs

        pairs = self.mine(actor)
        export_pairs(pairs, folder, self.shelf.path)
        return len(pairs)

    def export_datasets(self, actor: Actor, folder: Path) -> int:
        """Writes a folder that `datasets.load_from_disk` reads; returns how many pairs."""
        from rlhfv.corrections.exchange import export_datasets

        pairs = self.mine(actor)
        if not pairs:
            raise InvalidData("There are no pairs yet.", "A data set needs rows.", "Correct an answer first.")
        export_datasets(pairs, folder, self.shelf.path)
        return len(pairs)

    def import_jsonl(self, actor: Actor, path: Path):
        """Reads an export back: good rows are kept, the report names the bad ones with row number, cause and mend."""
        from rlhfv.corrections.exchange import import_pairs

        actor.require("correct")
        report = import_pairs(path, self.shelf)
        for pair in report.pairs:
            if self.store.has_pair(pair.id):
                # An import may revise the actor's own pairs, not those of others.
                self._own_pair(actor, pair.id)
        self.store.add_pairs(report.pairs, actor.visitor)
        return report

    # ---- inside

    def _scope(self, actor: Actor) -> str | None:
        """Whose pairs: everybody's on a machine of one person, else the visitor's own."""
        return None if self.settings.single_user else actor.visitor

    def _answer(self, actor: Actor, answer_id: str) -> Answer:
        answer = self.store.answer(answer_id)
        shared = self.settings.single_user and self.store.pair_of_answer(answer_id) is not None
        if answer.visitor != actor.visitor and not shared:
            raise NotFound(
                "That answer is not here.", "It was not given to you.", "Ask a question and correct its answer."
            )
        return answer

    def _own_pair(self, actor: Actor, pair_id: str) -> None:
        actor.require("correct")
        if not self.settings.single_user and self.store.pair_visitor(pair_id) != actor.visitor:
            raise NotFound("That pair is not here.", "It is not one of yours.", "Choose one from the list.")

    def _judgement(
        self, actor: Actor, answer: Answer, outcome: str, flags: tuple[str, ...], seconds: float, reason: str = ""
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
        )
