"""A studio whose work is copied to a place that outlives its disk."""

import time
import uuid

from rlhfv.corrections.conversation import Answer, ModelIdentity, Prompt, Sampling
from rlhfv.corrections.edits import Edit
from rlhfv.services import build_services
from rlhfv.services.actor import Actor
from rlhfv.services.terms import Terms
from rlhfv.settings import Settings, Space

ADA = Actor("a" * 32)
OWNER = Actor("o" * 32)
TEXT = "There is a red fork on the table."


def make_answer(who: Actor, images: tuple[str, ...] = ()) -> Answer:
    return Answer(
        uuid.uuid4().hex,
        Prompt("What is on the table?", images),
        TEXT,
        ModelIdentity("scripted", "0" * 40),
        Sampling(),
        who.visitor,
        "2026-11-22T10:00:00+00:00",
    )


class Studio:
    """A studio on a disk of its own whose copy lies at `place`; `correct` is what a visitor does."""

    def __init__(self, folder, place, **settings):
        self.folder = folder
        settings = {"single_user": False, "space": Space("ann/studio", "ann")} | settings
        self.services = build_services(Settings(data_dir=folder, durable=place, **settings))
        self.durable, self.store = self.services.durable, self.services.store

    def start(self):
        (self.folder / "visitors.key").write_bytes(b"k" * 32)
        self.durable.start()
        return self

    def answer(self, who=ADA, picture=None):
        shelf = self.services.corrections.shelf
        images = (shelf.intake(picture).name,) if picture else ()
        answer = make_answer(who, images)
        self.store.add_answer(answer)
        return answer

    def correct(self, word="spoon", who=ADA, picture=None, answer=None):
        if (house := self.services.corrections.consent.missing(who)) is not None:
            self.services.corrections.consent.agree(who, house.version)
        if self.services.corrections.terms(who) is None:
            self.services.corrections.set_terms(who, Terms("cc0-1.0", True, "Ada"))
        answer = answer or self.answer(who, picture)
        return self.services.corrections.save(who, answer.id, TEXT, [Edit(15, 19, word, "object")])

    def pairs(self):
        return {pair.id: pair.chosen for pair in self.store.all_pairs()}


def wait_until(reached, seconds=20):
    until = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.02)
