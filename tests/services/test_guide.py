"""The guided first run goes on when something has truly happened, and by nothing else."""

import threading
from dataclasses import replace

import pytest

from rlhfv.corrections.edits import Edit
from rlhfv.ddpo.check import CheckReport
from rlhfv.errors import Forbidden, InvalidData
from rlhfv.models.demo.world import DemoWorld
from rlhfv.runs.state import Run
from rlhfv.services import Actor, build_services
from rlhfv.services import guide as room
from rlhfv.services.bases import Base
from rlhfv.services.terms import Terms
from rlhfv.settings import Settings
from rlhfv.studio.guide import nodes, quoted
from tests.services.fakes import IDENTITY, ScriptedModel, scripted_entry
from tests.studio.conftest import texts

ANN = Actor("a" * 32)
BEGINNING = "The picture shows a street. In the top left is a car"
WRONG = f"{BEGINNING}, with a traffic light nearby. In the bottom left is a dog, with a frisbee nearby."
RIGHT = f"{BEGINNING}. In the bottom left is a dog."
OWN = "own@1234"


class Painter(ScriptedModel):
    """Says `said`; the visitor's own adapter says what is true."""

    said = WRONG

    def answer_both(self, rows, sampling, image_path, stop):
        generated = yield from super().answer_both(rows, sampling, image_path, stop)
        said = [RIGHT if row.voice else self.said for row in rows]
        return tuple(replace(one, text=text) for one, text in zip(generated, said, strict=True))

    def answer_many(self, prompts, voice, sampling, image_path, batch_size, stop=None):
        assert all(image_path(name).is_file() for prompt in prompts for name in prompt.images)
        return [WRONG for _ in prompts]

    def adapters(self):
        return {OWN: None}


@pytest.fixture
def services(tmp_path, monkeypatch):
    entry = scripted_entry(world=DemoWorld())
    monkeypatch.setattr("rlhfv.services.model_host.find_entry", lambda *_: entry)
    monkeypatch.setattr("rlhfv.services.model_host.ModelHost.identity", IDENTITY)
    monkeypatch.setattr("rlhfv.services.training.check_run", lambda pairs, *_, **__: CheckReport(len(pairs), ()))
    monkeypatch.setattr("rlhfv.runs.local.LocalRuns.start_next", lambda runs: None)
    monkeypatch.setattr(room, "ORACLE_PAIRS", 5)
    services = build_services(Settings(data_dir=tmp_path, model="scripted"))
    services.host._model = Painter()
    return services


@pytest.fixture
def guide(services):
    return services.guide


def ask(services, question: str) -> None:
    for _ in services.chat.ask(ANN, question, threading.Event()):
        pass


def save(services, answer: str, start: int, end: int, text: str = "", words: str = WRONG) -> str:
    services.corrections.set_terms(ANN, Terms("cc-by-4.0", True, "Ann"))
    return services.corrections.save(ANN, answer, words, [Edit(start, end, text, "object")]).pair_id


def correct(services) -> str:
    guided = services.guide.look(ANN)
    return save(services, guided.answer, WRONG.index(", with a frisbee"), WRONG.rindex("."))


def test_it_goes_on_only_by_what_happened(services, guide, monkeypatch):
    assert guide.look(ANN).stage == "offer"
    with pytest.raises(InvalidData, match="no correction yet"):
        next(guide.train(ANN))
    question = guide.begin(ANN)
    assert guide.look(ANN).stage == "ask", "nothing was asked yet"
    ask(services, question)
    guided = guide.look(ANN)
    assert (guided.stage, guided.side, guided.wrong) == ("correct", "left", ("a traffic light", "a frisbee"))
    pair = correct(services)
    assert guide.look(ANN).stage == "train"
    with pytest.raises(InvalidData, match="Nothing was trained yet"):
        guide.ask_again(ANN)

    assert list(guide.train(ANN))[-1] == (5, 5)
    guided = guide.look(ANN)
    assert guided.stage == "training" and guided.run.state == "queued"
    rows = services.training.folder(ANN, guided.run.id).read_rows()
    assert len(rows) == 6 and rows[0]["id"] == pair
    assert {row["provenance"]["annotator"] for row in rows[1:]} == {"oracle"}
    assert [each.id for each in services.store.all_pairs()] == [pair], "what the oracle made is no pair of anybody"

    done = replace(guided.run, state="done", has_adapter=True)
    monkeypatch.setattr(services.training, "run", lambda who, run: done)
    monkeypatch.setattr(services.training, "voice_of", lambda who, run: OWN)
    voice = services.host.voices(ANN)[0]
    known = services.host.voices
    monkeypatch.setattr(services.host, "voices", lambda who: (*known(who), replace(voice, id=OWN, title="Mine")))
    assert guide.look(ANN).stage == "again"
    assert guide.ask_again(ANN) == question
    assert guide.look(ANN).stage == "again", "the question is not sent yet"
    ask(services, "What else is there?")
    assert guide.look(ANN).stage == "again", "another question tells nothing"
    guide.ask_again(ANN)
    ask(services, question)
    guided = guide.look(ANN)
    assert (guided.stage, guided.before, guided.after) == ("done", ("a traffic light", "a frisbee"), ())
    assert guide.begin_anew(ANN) == question and guide.look(ANN).stage == "ask"


def test_what_is_right_need_not_be_corrected(services, guide):
    question = guide.begin(ANN)
    services.host._model.said = RIGHT
    ask(services, question)
    assert guide.look(ANN).stage == "ask" and "Nothing in these answers is wrong" in guide.look(ANN).note
    services.host._model.said = WRONG
    ask(services, question)
    answer = guide.look(ANN).answer
    save(services, answer, 0, 3, "Thy")
    guided = guide.look(ANN)
    assert guided.stage == "correct" and "was right before" in guided.note
    correct(services)
    assert guide.look(ANN).stage == "train"


def test_a_picture_whose_truth_nobody_knows_is_no_step(services, guide, picture):
    guide.begin(ANN)
    services.chat.new_conversation(ANN)
    services.chat.set_images(ANN, (services.chat.add_image(ANN, picture).name,))
    ask(services, "What is it?")
    assert guide.look(ANN).stage == "ask" and "no drawn scene" in guide.look(ANN).note


def test_a_run_that_fails_or_goes_brings_the_step_back(services, guide, monkeypatch):
    ask(services, guide.begin(ANN))
    correct(services)
    *_, _ = guide.train(ANN)
    run = guide.look(ANN).run
    monkeypatch.setattr(services.training, "run", lambda who, id: replace(run, state="failed", error="No memory."))
    assert (guide.look(ANN).stage, guide.look(ANN).note) == ("train", "No memory.")
    monkeypatch.undo()
    services.training.local.delete(run.id)
    assert guide.look(ANN).stage == "train"


def test_the_oracles_pairs_are_made_once_and_a_visitor_who_leaves_leaves_nothing_half_made(services, guide):
    ask(services, guide.begin(ANN))
    correct(services)
    stop = threading.Event()
    stop.set()
    assert list(guide.train(ANN, stop)) == [(0, 5)] and guide.look(ANN).stage == "train"
    folder = guide.settings.data_dir / "first_run"
    assert list(folder.iterdir()) == []
    list(guide.train(ANN))
    (made,) = folder.iterdir()
    times = made.stat().st_mtime_ns
    services.host._model.answer_many = None
    assert list(guide.train(ANN)) == [(5, 5)] and made.stat().st_mtime_ns == times


def test_it_is_for_who_may_train_on_the_demo_worlds_model(services, guide, monkeypatch):
    reader = Actor("b" * 32, rights=frozenset({"chat"}))
    assert guide.look(reader) is None
    with pytest.raises(Forbidden):
        guide.begin(reader)
    guide.settings = replace(services.settings, team=True)
    assert guide.look(ANN) is None
    guide.settings = services.settings
    monkeypatch.setattr(type(services.host), "world_base", None)
    assert guide.look(ANN) is None and nodes(guide.look(ANN)) == []


def test_it_trains_the_world_s_base_whatever_was_chosen_for_training(services, guide):
    other = Base(scripted_entry(id="org/real", title="Real", source="org/real", revision="f" * 40), "base:org/real")
    other.model = Painter()
    services.host.bases.all.append(other)
    services.training.choose_base(ANN, other.key)
    ask(services, guide.begin(ANN))
    correct(services)
    list(guide.train(ANN))
    assert guide.look(ANN).run.config["base"]["name"] == "scripted"


def test_it_works_where_the_world_s_base_is_the_second(services, guide):
    """So on a Space whose own model borrows a GPU."""
    first = services.host.first
    first.key = "base:scripted"
    real = Base(scripted_entry(id="org/real", title="Real", source="org/real", revision="f" * 40))
    services.host.bases.all.insert(0, real)
    services.host.first = real
    assert guide.look(ANN).stage == "offer"
    question = guide.begin(ANN)
    state = services.chat.open(ANN)
    assert (state.left, state.right) == (first.key, first.key)
    ask(services, question)
    correct(services)
    list(guide.train(ANN))
    assert guide.look(ANN).run.config["base"]["name"] == "scripted" and real.model is None


@pytest.mark.parametrize(("said", "finished"), [("", True), (RIGHT, False), (" \n", True)])
def test_half_an_answer_or_none_is_not_said_to_be_true(services, guide, monkeypatch, said, finished):
    question = guide.begin(ANN)
    ask(services, question)
    correct(services)
    list(guide.train(ANN))
    done = replace(guide.look(ANN).run, state="done", has_adapter=True)
    monkeypatch.setattr(services.training, "run", lambda who, run: done)
    monkeypatch.setattr(services.training, "voice_of", lambda who, run: OWN)
    voice, known = services.host.voices(ANN)[0], services.host.voices
    monkeypatch.setattr(services.host, "voices", lambda who: (*known(who), replace(voice, id=OWN, title="Mine")))
    answer_both = Painter.answer_both

    def answer(self, *arguments):
        generated = yield from answer_both(self, *arguments)
        return tuple(replace(one, text=said, finished=finished) for one in generated)

    monkeypatch.setattr(Painter, "answer_both", answer)
    guide.ask_again(ANN)
    ask(services, question)
    assert guide.look(ANN).stage == "again"


def test_it_can_be_closed_and_opened_again(services, guide):
    guide.begin(ANN)
    guide.set_closed(ANN, True)
    assert guide.look(ANN).closed and "Show the three steps" in texts(nodes(guide.look(ANN)))
    guide.set_closed(ANN, False)
    assert guide.look(ANN).stage == "ask" and "send the question" in texts(nodes(guide.look(ANN)))


def test_every_stage_says_what_to_do_and_what_is_true(services, guide):
    run = Run("r", "training", "t", "running", "", {}, step=13, total_steps=52, eta=40.0)
    told = {
        "offer": "New here?",
        "ask": "send the question",
        "correct": "says “a fork”",
        "train": "together with",
        "training": "Step 13 of 52, about 40 seconds left",
        "again": "Your own adapter is ready",
        "done": "Before, the answer said “a fork”, which is not so. Your model still says “a cup” and “a cat”",
    }
    for stage, words in told.items():
        guided = room.Guided(stage, wrong=("a fork",), before=("a fork",), after=("a cup", "a cat"), run=run)
        assert words in texts(nodes(guided)), stage
    assert "place 3" in texts(nodes(room.Guided("training", run=replace(run, state="queued", place=3))))
    assert quoted(("a", "b", "c")) == "“a”, “b” and “c”"
