"""What happens to a correction until it counts: reviews, adjudication of two, undoing, and the story of it all."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from rlhfv.corrections.adjudication import EditComparison, compare_edits, merge_edits
from rlhfv.corrections.agreement import Agreement, measure_agreement
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.pairs import PreferencePair
from rlhfv.corrections.reviews import Person, Review
from rlhfv.corrections.statistics import Statistics
from rlhfv.corrections.store import Store
from rlhfv.corrections.story import StoryLine, tell_story
from rlhfv.corrections.verdicts import Verdict
from rlhfv.errors import Forbidden, InvalidData, NotFound
from rlhfv.evaluation import comparison, human_rates
from rlhfv.evaluation.score import Score
from rlhfv.services.actor import Actor, shown_state, worker_id
from rlhfv.services.people import ROLES, People
from rlhfv.services.queue_settings import read_queue_settings
from rlhfv.services.terms import annotator_name
from rlhfv.settings import Settings


@dataclass(frozen=True)
class Waiting:
    """A pair that waits for a reviewer. `rivals` are ids of other corrections of the same answer, to be compared with
    it first, `faithful_to` names who found nothing wrong in that answer; `own` pairs wait for another reviewer than
    the actor.
    """

    pair: PreferencePair
    rivals: tuple[str, ...]
    faithful_to: tuple[str, ...]
    own: bool


@dataclass(frozen=True)
class WaitingPage:
    items: tuple[Waiting, ...]
    total: int


@dataclass(frozen=True)
class Comparison:
    """Two corrections of the same answer. `edits` says what they share and where they contradict; `agreement` is that
    of these two.
    """

    first: PreferencePair
    second: PreferencePair
    states: tuple[str, str]
    edits: EditComparison
    agreement: Agreement


class Reviewing:
    def __init__(self, settings: Settings, store: Store, clock: Callable[[], float] = time.time):
        self.settings, self.store, self.clock = settings, store, clock

    # ---- what waits

    def waiting(self, actor: Actor, offset: int = 0, limit: int = 50) -> WaitingPage:
        """Submitted pairs, the oldest first."""
        actor.require("review")
        total = self.store.count_states().get("submitted", 0)
        offset, limit = max(offset, 0), max(limit, 0)
        first = max(total - offset - limit, 0)
        page = self.store.find_pairs(state="submitted", offset=first, limit=max(total - offset - first, 0))
        me = worker_id(self.settings, actor)
        items = [
            Waiting(
                pair,
                tuple(self.store.rivals(pair.id)),
                tuple(self.store.found_faithful(pair.id)),
                self.store.pair_visitor(pair.id) == me,
            )
            for pair in reversed(page.pairs)
        ]
        return WaitingPage(tuple(items), total)

    def state(self, actor: Actor, pair_id: str) -> str:
        """As the actor may know it: "submitted", "accepted", "returned", "superseded"; "gold" for who manages."""
        self._require_sight(actor, pair_id)
        return shown_state(actor, self.store.pair_states([pair_id])[0])

    # ---- one pair

    def accept(self, actor: Actor, pair_id: str, revision: int | None = None) -> Review:
        """The pair goes into training and publication. `revision` is the one that was looked at.

        Nobody accepts their own correction, for a second pair of eyes is what a review is; only where nobody else has
        the right could nothing ever be accepted otherwise, so there it counts.

        Raises `Forbidden` for an own pair, `InvalidData` in a state that does not allow it, for a pair that changed
        since, and while there is another correction of the same answer.
        """
        actor.require("review")
        self._require_other(actor, pair_id)
        return self.store.review(pair_id, "accepted", self._who(actor), revision=revision)

    def send_back(self, actor: Actor, pair_id: str, comment: str, revision: int | None = None) -> Review:
        """Returns a submitted pair to its author, who finds it first in the queue, with the comment."""
        actor.require("review")
        return self.store.review(pair_id, "returned", self._who(actor), comment, revision)

    def withdraw(self, actor: Actor, pair_id: str) -> Review:
        """Takes an acceptance back: the pair waits for a reviewer again."""
        actor.require("review")
        return self.store.review(pair_id, "withdrawn", self._who(actor))

    def resubmit(self, actor: Actor, pair_id: str, comment: str = "") -> Review:
        """Submits a returned pair of the actor's own again, unchanged; saving a changed one does the same."""
        actor.require("correct")
        if self.store.pair_visitor(pair_id) != worker_id(self.settings, actor):
            raise NotFound("That pair is not here.", "It is not one of yours.", "Choose one from the list.")
        return self.store.review(pair_id, "resubmitted", self._who(actor), comment)

    def undo(self, actor: Actor, pair_id: str) -> Review:
        """Undoes the last action on a pair that still holds, a save too: what was saved becomes a draft again, and its
        answer comes back to its author. Calling it again goes one further back. Reviewers undo anybody's, others
        their own.
        """
        actor.require("correct")
        self._require_sight(actor, pair_id)
        until = self.clock() + 60 * read_queue_settings(self.store).reserve_minutes
        return self.store.undo_review(pair_id, self._who(actor), "review" in actor.rights, until)

    # ---- two corrections of one answer

    def compare(self, actor: Actor, first_id: str, second_id: str) -> Comparison:
        """Raises `InvalidData` unless the two are corrections of the same answer."""
        actor.require("review")
        if second_id not in self.store.rivals(first_id):
            raise InvalidData(
                "The two pairs are not corrections of the same answer that wait or count.",
                "Only such can be held side by side.",
                "Choose a pair and one of its rivals.",
            )
        first, second = self.store.pair(first_id), self.store.pair(second_id)
        return Comparison(
            first,
            second,
            tuple(self.store.pair_states([first_id, second_id])),
            compare_edits(first.edits, second.edits),
            measure_agreement([(first.rejected, first.edits, second.edits)]),
        )

    def choose(self, actor: Actor, winner_id: str, loser_id: str) -> PreferencePair:
        """Accepts one of two corrections of the same answer; the other is superseded. Raises as `accept`."""
        return self._adjudicate(actor, winner_id, loser_id, None)

    def merge(
        self, actor: Actor, winner_id: str, loser_id: str, edits: tuple[Edit, ...] | None = None
    ) -> PreferencePair:
        """Accepts the first with the edits of both, as a revision by the reviewer; the other is superseded.

        Where the two contradict the caller says what holds: `edits` are then all edits of the merged correction.
        Raises `InvalidCorrection` for contradicting or invalid edits, and as `accept`.
        """
        if edits is None:
            actor.require("review")
            edits = merge_edits(self.store.pair(winner_id).edits, self.store.pair(loser_id).edits)
        return self._adjudicate(actor, winner_id, loser_id, edits)

    def _adjudicate(
        self, actor: Actor, winner_id: str, loser_id: str, edits: tuple[Edit, ...] | None
    ) -> PreferencePair:
        actor.require("review")
        for pair_id in (winner_id, loser_id):
            self._require_other(actor, pair_id)
        return self.store.adjudicate(winner_id, loser_id, self._who(actor), edits)

    # ---- looking back

    def story(self, actor: Actor, pair_id: str) -> tuple[StoryLine, ...]:
        """What happened to a pair, oldest first, in sentences: who, when, what."""
        self._require_sight(actor, pair_id)
        return tell_story(
            self.store.history(pair_id),
            self.store.reviews(pair_id),
            self.store.pushes(pair_id),
            self.store.others_in_deeds(pair_id),
        )

    def statistics(self, actor: Actor) -> Statistics:
        """Over everybody's work for reviewers and on a machine of one person, else over the actor's own."""
        actor.require("correct")
        found = self.store.statistics(None if self._sees_all(actor) else actor.visitor)
        states: dict[str, int] = {}
        for state, count in found.states.items():
            shown = shown_state(actor, state)
            states[shown] = states.get(shown, 0) + count
        return replace(found, states=states)

    def human_scores(self, actor: Actor) -> dict[str, Score]:
        """How often the answers of each model hallucinate in the eyes of those who judged them, by model; of everybody
        or the actor's own, as `statistics`."""
        actor.require("correct")
        verdicts = self._verdicts(actor)
        judged = human_rates.by_model(one for one in verdicts if one.outcome != "skipped")
        return {model: human_rates.score(verdicts, model) for model in judged}

    def human_comparison(self, actor: Actor, before: str, after: str) -> comparison.Comparison:
        """Two models, named as `human_scores` does, on the prompts of which both had an answer judged.

        Raises:
            NotFound: nothing of one of them was judged.
            InvalidData: there is no such prompt.
        """
        actor.require("correct")
        verdicts = self._verdicts(actor)
        scores = [human_rates.score(verdicts, model) for model in (before, after)]
        answers = [human_rates.answers(verdicts, model) for model in (before, after)]
        return comparison.compare(*scores, *answers, human_rates.read_items(verdicts, before))

    # ---- inside

    def _verdicts(self, actor: Actor) -> list[Verdict]:
        return self.store.verdicts(None if self._sees_all(actor) else actor.visitor)

    def _who(self, actor: Actor) -> Person:
        return Person(worker_id(self.settings, actor), annotator_name(self.store, actor))

    def _sees_all(self, actor: Actor) -> bool:
        return "review" in actor.rights if self.settings.team else self.settings.single_user

    def _require_sight(self, actor: Actor, pair_id: str) -> None:
        actor.require("correct")
        if self.store.pair_visitor(pair_id) != actor.visitor and not self._sees_all(actor):
            raise NotFound("That pair is not here.", "It is not one of yours.", "Choose one from the list.")

    def _require_other(self, actor: Actor, pair_id: str) -> None:
        if self.store.pair_visitor(pair_id) == worker_id(self.settings, actor) and not self._is_only_reviewer(actor):
            raise Forbidden(
                "This is your own correction.",
                "A review is the look of somebody else.",
                "Leave it to another reviewer.",
            )

    def _is_only_reviewer(self, actor: Actor) -> bool:
        if not self.settings.team:
            return True
        users = People(self.settings.auth).users() if self.settings.auth else None
        return users is not None and not any(
            user.enabled and "review" in ROLES[user.role] and user.visitor != actor.visitor for user in users
        )
