"""The shared queue as annotators meet it: what is next, why nothing is, who may what."""

import json
from dataclasses import replace
from datetime import datetime

import pytest

from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.hints import Hint
from rlhfv.corrections.tasks import NewTask
from rlhfv.errors import Forbidden, InvalidData, NotFound
from rlhfv.services import Actor, build_services
from rlhfv.services.hints import memory_key
from rlhfv.services.people import ROLES
from rlhfv.services.queue import Idle, Item
from rlhfv.services.terms import Terms
from rlhfv.settings import Settings

TEXT = "A red cup on a big table."
CAT = Edit(2, 5, "blue", "attribute")


class Clock:
    def __init__(self):
        self.now = datetime(2025, 1, 2, 13, 35).timestamp()

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def team(tmp_path, clock):
    services = build_services(Settings(tmp_path / "data", single_user=False, team=True))
    services.queue.clock = services.reviewing.clock = clock
    return services


def person(name, role):
    return Actor(f"v-{name}", name.title(), ROLES[role])


ANN, BOB, RAY, OLA = (
    person(*each) for each in (("ann", "annotator"), ("bob", "annotator"), ("ray", "reviewer"), ("ola", "owner"))
)
EVE = person("eve", "visitor")


@pytest.fixture
def fill(team, tmp_path, picture):
    """Adds tasks with the answer `TEXT` through a file, as the owner does; returns what came of it."""

    def fill(count, gold=None, start=0, **fields):
        (tmp_path / "picture.png").write_bytes(picture)
        rows = [
            {"image": "picture.png", "question": f"q{index}?", "answer": TEXT, "model": "llava", **fields}
            | ({} if gold is None else {"gold": [vars(edit) for edit in gold]})
            for index in range(start, start + count)
        ]
        (tmp_path / "tasks.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return team.queue.add_files(OLA, tmp_path / "tasks.jsonl", batch="b")

    return fill


@pytest.fixture
def save(team):
    def save(actor, item, edit=CAT):
        if team.corrections.terms(actor) is None:
            team.corrections.set_terms(actor, Terms("cc-by-4.0", True))
        return team.corrections.save(actor, item.answer_id, item.original, [edit])

    return save


def test_the_next_item_holds_all_that_the_editor_needs(team, fill, clock):
    came = fill(2, source="camera 7")
    assert len(came.added) == 2 and came.duplicates == () and came.problems == ()
    item = team.queue.next_item(ANN)
    assert isinstance(item, Item) and (item.question, item.original, item.model) == ("q0?", TEXT, "llava@unknown")
    assert (item.reason, item.blind, item.until) == ("open", False, clock.now + 1800)
    assert team.chat.image_path(ANN, item.images[0]).is_file()
    assert team.store.image_source(item.images[0]) == "camera 7"
    opened = team.corrections.open(ANN, item.answer_id)
    assert (opened.original, opened.edits, opened.saved_pair) == (TEXT, (), None)
    assert team.queue.next_item(ANN, item.answer_id).question == "q1?"


def test_duplicates_are_told_before_work_is_spent(team, fill):
    first = fill(2)
    again = fill(3)
    assert len(again.added) == 1
    assert [(each.row, each.task_id) for each in again.duplicates] == [(1, first.added[0]), (2, first.added[1])]


def test_what_was_corrected_in_the_chat_is_no_work_any_more(team, fill):
    """Until that pair is deleted; an answer that is written later is known by its text."""
    fill(1)
    item = team.queue.next_item(ANN)
    team.corrections.set_terms(ANN, Terms("cc-by-4.0", True))
    said = replace(team.store.answer(item.answer_id), prompt=Prompt("q7?", item.images), visitor=ANN.visitor)
    team.store.add_answer(replace(said, id="chat-1"))
    pair = team.corrections.save(ANN, "chat-1", TEXT, [CAT]).pair_id
    again = fill(1, start=7)
    assert again.added == () and [(each.row, each.pair_id) for each in again.duplicates] == [(1, pair)]
    [late] = team.queue.add(OLA, [NewTask(said.prompt)]).ids
    assert team.queue.attach(OLA, [(late, replace(said, id="late-1", visitor=""))]) == {late: "duplicate"}
    assert team.store.task(late).due == "" and isinstance(team.queue.next_item(BOB), Idle)

    other = replace(said, id="chat-2", prompt=Prompt("q8?", item.images))
    team.store.add_answer(other)
    team.corrections.delete(ANN, team.corrections.save(ANN, "chat-2", TEXT, [CAT]).pair_id)
    assert len(fill(1, start=8).added) == 1


def test_nothing_is_next_is_said_with_figures(team, fill, save, clock):
    empty = team.queue.next_item(ANN)
    assert isinstance(empty, Idle) and empty.sentence == "There are no tasks yet."
    team.queue.change_settings(OLA, second_share=0.0, gold_share=0.0)
    fill(5)
    fill(1, gold=[], start=9)
    for _ in range(3):
        save(ANN, team.queue.next_item(ANN))
    mine = team.queue.next_item(ANN)
    other = team.queue.next_item(BOB)
    team.corrections.faithful(ANN, mine.answer_id)
    idle = team.queue.next_item(ANN)
    assert idle.sentence == "4 of 5 are done; 3 wait for a reviewer; 1 is open at other annotators until 14:05"
    assert (idle.counts.done, idle.waiting_review, idle.open_elsewhere, idle.until) == (4, 3, 1, clock.now + 1800)
    save(BOB, other)
    assert team.queue.next_item(ANN).sentence == "all 5 are done; 4 wait for a reviewer"
    assert team.queue.next_item(ANN).counts.gold == 0


def test_who_waits_for_the_model_or_for_somebody_else_is_told(team, fill, save, tmp_path):
    team.queue.change_settings(OLA, second_share=1.0)
    fill(1)
    save(ANN, team.queue.next_item(ANN))
    assert team.queue.next_item(ANN).sentence == (
        "0 of 1 are done; 1 waits for a reviewer; 1 needs another annotator than you"
    )
    team.queue.add_files(OLA, _pictures(tmp_path), ("What is it?",))
    assert "1 waits for the model's answer" in team.queue.next_item(ANN).sentence


def _pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "one.png").write_bytes((tmp_path / "picture.png").read_bytes())
    return folder


def test_a_draft_keeps_the_item_and_renews_it(team, fill, clock, monkeypatch):
    monkeypatch.setattr("rlhfv.services.correcting.time.time", clock)
    fill(2)
    item = team.queue.next_item(ANN)
    clock.now += 1000
    team.corrections.save_draft(ANN, item.answer_id, [CAT])
    clock.now += 1000
    assert team.queue.next_item(BOB).question == "q1?"
    clock.now += 1000
    assert team.queue.next_item(BOB, "x").question == "q1?"
    assert team.corrections.open(ANN, item.answer_id).edits == (CAT,)
    team.queue.release(BOB, team.queue.next_item(BOB).answer_id)
    assert team.queue.next_item(RAY).question == "q0?"  # it ran out at last; whose draft it is, it stays


def test_a_blind_second_correction_sees_nothing_of_the_first(team, fill, save):
    team.queue.change_settings(OLA, second_share=1.0)
    fill(1)
    first = save(ANN, team.queue.next_item(ANN))
    item = team.queue.next_item(BOB)
    assert item.blind and item.reason == "second" and not team.queue.is_blind(ANN, item.answer_id)
    assert team.queue.is_blind(BOB, item.answer_id) and team.queue.is_blind(RAY, item.answer_id)
    opened = team.corrections.open(BOB, item.answer_id)
    assert opened.edits == () and opened.saved_pair is None
    team.store.remember(memory_key(item.answer_id), [vars(Hint(2, 5, "red", 0.9, "probability"))])
    assert team.hints.hints(BOB, item.answer_id) == [] and len(team.hints.hints(ANN, item.answer_id)) == 1
    assert team.corrections.find(BOB).total == 0
    with pytest.raises(NotFound):
        team.corrections.pair(BOB, first.pair_id)
    with pytest.raises(NotFound):
        team.reviewing.story(BOB, first.pair_id)
    second = save(BOB, item, Edit(2, 5, "green", "attribute"))
    assert second.pair_id != first.pair_id and "reviewer" in second.message
    assert team.corrections.open(ANN, item.answer_id).edits == (CAT,)
    agreement = team.queue.agreement(RAY)
    assert (agreement.items, agreement.exact_f1, agreement.kappa) == (1, 1.0, 1.0)
    assert team.queue.agreement(RAY, item.answer_id) == agreement
    assert team.queue.agreement(RAY, "other").items == 0


def test_a_returned_pair_comes_first_with_the_comment(team, fill, save):
    fill(3)
    saved = save(ANN, team.queue.next_item(ANN))
    team.reviewing.send_back(RAY, saved.pair_id, "The cup is blue.")
    item = team.queue.next_item(ANN)
    assert (item.reason, item.comment, item.reviewer, item.pair_id) == (
        *("returned", "The cup is blue.", "Ray"),
        saved.pair_id,
    )
    assert team.corrections.open(ANN, item.answer_id).edits == (CAT,)
    again = save(ANN, item, Edit(2, 5, "green", "attribute"))
    assert (again.pair_id, again.revision) == (saved.pair_id, 2)
    assert team.queue.next_item(ANN).reason == "open"


def test_nothing_wrong_and_a_skip_can_be_taken_back(team, fill):
    fill(1)
    item = team.queue.next_item(ANN)
    team.corrections.skip(ANN, item.answer_id, "not sure")
    assert isinstance(team.queue.next_item(BOB), Idle)
    with pytest.raises(NotFound):
        team.queue.reopen(BOB, item.answer_id)
    team.queue.reopen(ANN, item.answer_id)
    assert team.queue.next_item(ANN).answer_id == item.answer_id
    assert team.store.judgements(item.answer_id) == []


# ---- gold


def test_gold_items_look_like_any_other_to_everybody_but_the_owner(team, fill, save):
    team.queue.change_settings(OLA, gold_share=1.0, second_share=0.0)
    fill(1, gold=[CAT])
    fill(2, start=5)
    item = team.queue.next_item(ANN)
    assert item.question == "q0?" and item.reason == "open" and not item.blind
    assert "gold" not in json.dumps(vars(item))
    gold, plain = save(ANN, item), save(ANN, team.queue.next_item(ANN))
    assert gold.message == plain.message
    for actor in (ANN, RAY):
        assert team.corrections.find(actor).states == ("submitted", "submitted")
        assert team.corrections.find(actor, state="submitted").total == 2
        assert team.corrections.find(actor, state="gold").total == 0
        assert team.reviewing.state(actor, gold.pair_id) == "submitted"
        assert set(team.reviewing.statistics(actor).states) == {"submitted"}
        assert team.queue.status(actor).counts.gold == 0 and "gold" not in team.queue.status(actor).pairs
    assert team.corrections.find(OLA, state="gold").total == 1
    assert team.reviewing.state(OLA, gold.pair_id) == "gold"
    assert team.queue.status(OLA).counts.gold == 1 and team.queue.status(OLA).pairs["gold"] == 1
    assert [waiting.pair.id for waiting in team.reviewing.waiting(RAY).items] == [plain.pair_id]
    with pytest.raises(NotFound):
        team.reviewing.accept(RAY, gold.pair_id)
    assert team.corrections.export_to(OLA, team.settings.data_dir / "out", "jsonl") == 0


def test_only_the_owner_sees_how_well_annotators_do_on_gold(team, fill, save):
    team.queue.change_settings(OLA, gold_share=1.0, second_share=0.0)
    fill(1, gold=[CAT])
    fill(1, gold=[], start=1)
    fill(1, start=5)
    for actor, edit in ((ANN, CAT), (BOB, Edit(2, 9, "cat", "object"))):
        for _ in range(2):
            item = team.queue.next_item(actor)
            if item.question == "q0?":
                save(actor, item, edit)
            else:
                team.corrections.faithful(actor, item.answer_id)
    ann, bob = team.queue.gold_scores(OLA)
    assert (ann.annotator, ann.agreement.items, ann.agreement.exact_f1, ann.agreement.kappa) == ("Ann", 2, 1.0, 1.0)
    assert (bob.annotator, bob.agreement.exact_f1, bob.agreement.overlapping_f1) == ("Bob", 0.0, 1.0)
    for actor in (ANN, RAY):
        with pytest.raises(Forbidden):
            team.queue.gold_scores(actor)


# ---- rights


def test_every_call_needs_its_right(team, fill):
    fill(1)
    answer = team.queue.next_item(ANN).answer_id
    needs = {
        "annotate": [
            lambda who: team.queue.next_item(who),
            lambda who: team.queue.release(who, answer),
            lambda who: team.queue.settings(who),
            lambda who: team.queue.status(who),
            lambda who: team.corrections.open(who, answer),
            lambda who: team.corrections.save_draft(who, answer, [CAT]),
            lambda who: team.corrections.faithful(who, answer),
        ],
        "review": [lambda who: team.queue.tasks(who), lambda who: team.queue.agreement(who)],
        "manage": [
            lambda who: team.queue.change_settings(who, gold_share=1.0),
            lambda who: team.queue.add(who, []),
            lambda who: team.queue.add_files(who, team.settings.data_dir, ("q",)),
            lambda who: team.queue.attach(who, []),
            lambda who: team.queue.unanswered(who),
        ],
    }
    for right, calls in needs.items():
        everything_else = ROLES["owner"] - {right}
        for call in calls:
            for rights in (everything_else, frozenset(), frozenset({f"{right}s", "owner", "*"})):
                with pytest.raises(Forbidden) as caught:
                    call(Actor("v-eve", "Eve", rights))
                assert caught.value.what and caught.value.why and caught.value.fix
    assert team.queue.settings(ANN).gold_share == 0.05


def test_a_visitor_corrects_own_answers_and_nothing_of_the_queue(team, fill):
    fill(1)
    answer = team.store.tasks()[0].answer_id
    for call in (team.corrections.open, team.corrections.faithful):
        with pytest.raises(Forbidden):
            call(EVE, answer)
    assert team.corrections.open(EVE) is None


@pytest.mark.parametrize("forged", ["", "nobody", "\ud800", "../x", "' OR 1=1"])
def test_forged_answers_are_refused(team, fill, forged):
    fill(1)
    assert team.queue.next_item(ANN, forged).question == "q0?"
    team.queue.release(BOB, forged)
    assert not team.queue.is_blind(ANN, forged)
    with pytest.raises(NotFound):
        team.queue.reopen(ANN, forged)
    with pytest.raises(NotFound):
        team.corrections.open(ANN, forged)
    assert team.queue.attach(OLA, []) == {}


# ---- settings


def test_settings_are_kept_in_the_store_and_checked(team):
    assert team.queue.settings(ANN).reserve_minutes == 30 and "picture" in team.queue.settings(ANN).guideline
    team.queue.change_settings(OLA, second_share=0.5, guideline="Be brief.")
    kept = build_services(team.settings).queue.settings(ANN)
    assert (kept.second_share, kept.guideline, kept.gold_share) == (0.5, "Be brief.", 0.05)
    for wrong in (
        *({"second_share": 1.1}, {"second_share": -1}, {"gold_share": float("nan")}, {"gold_share": "0.1"}),
        *({"gold_share": True}, {"reserve_minutes": 0}, {"reserve_minutes": 10**9}, {"guideline": "x" * 10**6}),
        *({"guideline": 7}, {"forged": 1}),
    ):
        with pytest.raises(InvalidData) as caught:
            team.queue.change_settings(OLA, **wrong)
        assert len(str(caught.value)) < 1000
    assert team.queue.settings(ANN) == kept


# ---- one person alone


def test_alone_every_browser_is_the_same_person_and_there_is_no_second(tmp_path, picture):
    alone = build_services(Settings(tmp_path / "data"))
    (tmp_path / "one.png").write_bytes(picture)
    row = {"image": "one.png", "question": "q?", "answer": TEXT}
    (tmp_path / "tasks.jsonl").write_text(json.dumps(row))
    laptop, phone = Actor("cookie-1", "Kim"), Actor("cookie-2", "Kim")
    alone.queue.add_files(laptop, tmp_path / "tasks.jsonl")
    alone.queue.change_settings(laptop, second_share=1.0)
    item = alone.queue.next_item(laptop)
    assert alone.queue.next_item(phone).answer_id == item.answer_id
    alone.corrections.save_draft(laptop, item.answer_id, [CAT])
    assert alone.corrections.open(phone, item.answer_id).edits == (CAT,)
    for actor in (laptop, phone):
        alone.corrections.set_terms(actor, Terms())
    one = alone.corrections.save(laptop, item.answer_id, TEXT, [CAT])
    two = alone.corrections.save(phone, item.answer_id, TEXT, [Edit(2, 5, "green", "attribute")])
    assert one.pair_id == two.pair_id and "reviewer" not in two.message
    assert alone.corrections.find(phone, state="accepted").total == 1
    assert alone.queue.next_item(phone).sentence == "the only task is done"
    assert alone.reviewing.undo(phone, two.pair_id).action == "undone"
    assert alone.corrections.open(laptop, item.answer_id).edits == (Edit(2, 5, "green", "attribute"),)
