"""Judgements of the chat that need no correction: which answer is better, and that nothing in one is wrong."""

import uuid
from collections.abc import Callable
from dataclasses import replace

from rlhfv.corrections.pairs import Judgement, PreferencePair, pair_id
from rlhfv.corrections.store import Store
from rlhfv.errors import InvalidData, NotFound
from rlhfv.services.actor import Actor
from rlhfv.services.chat_state import SIDES, ChatState
from rlhfv.services.consent import Consent
from rlhfv.services.limits import Limits
from rlhfv.services.terms import agreed_terms, annotator_name, make_provenance, now


class Judging:
    """The part of `Chat` that judges."""

    store: Store
    limits: Limits
    consent: Consent
    open: Callable[[Actor], ChatState]

    def vote(self, actor: Actor, outcome: str) -> str:
        """Judges the last turn as a whole: "left", "right", "tie" or "both_bad"; returns a sentence for the page.

        Raises:
            InvalidData: no such vote, or there are no two answers.
            ConsentMissing: the actor has not agreed to the terms of this studio. TooMany.
        """
        actor.require("correct")
        if outcome not in (*SIDES, "tie", "both_bad"):
            raise InvalidData(
                f"The vote '{outcome}' is unknown.", "A vote is one of four.", "Choose one of the buttons."
            )
        state = self.open(actor)
        if not state.turns or not all(getattr(state.turns[-1], side).answer_id for side in SIDES):
            raise InvalidData("There are no two answers yet.", "A vote compares two.", "Ask a question first.")
        answers = {side: self.store.answer(getattr(state.turns[-1], side).answer_id) for side in SIDES}
        if outcome not in SIDES:
            self._judge(actor, (answers["left"].id, answers["right"].id), outcome)
            return "Noted: a tie." if outcome == "tie" else "Noted: both are bad. Correct one of them to make a pair."
        chosen, rejected = answers[outcome], answers["right" if outcome == "left" else "left"]
        # With histories of their own the two answers reply to different prompts: no preference pair comes of that.
        comparable = chosen.prompt == rejected.prompt and chosen.text != rejected.text
        pair = None
        if comparable:
            pair = PreferencePair(
                id="",
                prompt=chosen.prompt,
                chosen=chosen.text,
                rejected=rejected.text,
                edits=(),
                outcome="preferred",
                provenance=replace(make_provenance(self.store, actor, rejected), chosen_model=chosen.model),
            )
        self._judge(actor, (chosen.id, rejected.id), "preferred", pair)
        return (
            "Noted."
            if comparable
            else "Noted, without a pair: the two answers are the same or reply to different turns."
        )

    def faithful(self, actor: Actor, answer_id: str) -> str:
        """Records that nothing in an answer is wrong. Raises `NotFound`, `ConsentMissing`, `TooMany`."""
        actor.require("correct")
        answer = self.store.answer(answer_id)
        if answer.visitor != actor.visitor:
            raise NotFound(
                "That answer is not here.", "It is not one of yours.", "Ask a question and judge its answer."
            )
        self._judge(actor, (answer_id,), "faithful")
        return "Noted: nothing wrong in this answer."

    def _judge(self, actor: Actor, answers: tuple[str, ...], outcome: str, pair: PreferencePair | None = None) -> None:
        """Keeps a judgement and its pair, unless the newest of the same answers says the same."""
        self.consent.check(actor)
        self.limits.take(actor, "judgement")
        judgement = Judgement(
            id=uuid.uuid4().hex,
            answers=answers,
            outcome=outcome,
            flags=(),
            reason="",
            annotator=annotator_name(self.store, actor),
            created=now(),
            active_seconds=0.0,
            **agreed_terms(self.store, actor),
        )
        if not self._is_noted(judgement, pair):
            self.store.save(judgement, pair)

    def _is_noted(self, judgement: Judgement, pair: PreferencePair | None) -> bool:
        known = self.store.judgements(answer=judgement.answers[0])
        last = next((each for each in known if set(each.answers) == set(judgement.answers)), None)
        if last is None or replace(last, id=judgement.id, created=judgement.created) != judgement:
            return False
        # What was deleted or brought back since then is not as it was noted.
        return self.store.is_live(pair_id(judgement.answers, judgement.annotator)) == (pair is not None)
