"""A team whose corrections are reviewed."""

import itertools
from dataclasses import replace

from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.reviews import Person
from rlhfv.corrections.store import Store
from rlhfv.corrections.story import tell_story
from rlhfv.corrections.tasks import NewTask

ANN, BOB, RAY = Person("v-ann", "Ann"), Person("v-bob", "Bob"), Person("v-ray", "Ray")
UNTIL = 2_000_000_000.0
TEXT = "A red cup on a big table."


class Team:
    """A team's store with one open task, the answer "a0", and shortcuts."""

    def __init__(self, path, make_answer, make_pair, make_judgement):
        self.make_answer, self.make_pair, self.make_judgement = make_answer, make_pair, make_judgement
        self.store, self.number = Store(path, team=True), itertools.count()
        self.add("a0")

    def add(self, id, gold=None):
        prompt = Prompt(f"{id}?")
        self.store.add_tasks([NewTask(prompt, answer=self.make_answer(id, TEXT, prompt=prompt), gold=gold)])

    def save(self, who, chosen="A blue cup on a big table.", answer="a0", outcome="corrected", **provenance):
        judgement = self.make_judgement(f"j{next(self.number)}", answer, outcome=outcome, annotator=who.name)
        pair = None
        if outcome == "corrected":
            pair = self.make_pair(self.store.answer(answer), chosen, who.name)
            pair = replace(pair, provenance=replace(pair.provenance, **provenance))
        return self.store.save(judgement, pair, who.visitor).pair

    def state(self, pair):
        return self.store.pair_states([pair.id])[0]

    def undo(self, pair, who=RAY, others=True):
        return self.store.undo_review(pair.id, who, others, UNTIL)

    def texts(self, pair):
        parts = self.store.history, self.store.reviews, self.store.pushes, self.store.others_in_deeds
        return [line.text for line in tell_story(*(part(pair.id) for part in parts))]
