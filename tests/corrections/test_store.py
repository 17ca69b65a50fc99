import random
import sqlite3
import threading
import time
import uuid
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhfv.corrections.conversation import ModelIdentity, Prompt
from rlhfv.corrections.pairs import pair_id
from rlhfv.corrections.store import Store
from rlhfv.errors import InvalidCorrection, InvalidData, NotFound, StudioError

ANY_TEXT = st.text(st.characters(), max_size=40)


@pytest.fixture
def saved(store, make_answer, make_pair, make_judgement):
    """A store with one answer and one correction of it, in two revisions."""
    answer = make_answer()
    store.add_answer(answer)
    store.save(make_judgement("j1", answer.id), make_pair(answer, "There is a red spoon on the table."))
    return store, store.save(make_judgement("j2", answer.id), make_pair(answer, "There is a spoon on the table.")).pair


# ---- answers


def test_answers_are_kept_as_they_were(store, make_answer):
    answer = make_answer(text="猫 👩‍🚀 e\u0301 \0 \r \u2028 <b>${x}</b>", extra={"tokens": 3})
    store.add_answer(answer)
    store.add_answer(answer)
    assert store.answer(answer.id) == answer
    assert Store(store.path).answer(answer.id) == answer
    with pytest.raises(InvalidData):
        store.add_answer(replace(answer, text="Something else."))
    assert store.answer(answer.id) == answer


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=ANY_TEXT)
def test_any_text_that_utf8_can_hold_is_kept_exactly(store, make_answer, text):
    answer = make_answer(f"a{uuid.uuid4().hex}", text)
    if any(0xD800 <= ord(character) < 0xE000 for character in text):
        with pytest.raises(InvalidCorrection):
            store.add_answer(answer)
    else:
        store.add_answer(answer)
        assert store.answer(answer.id).text == text


@pytest.mark.parametrize("id", ["", "nothing", "' OR 1=1 --", "\ud800", "a\0b", "../x", "x" * 10**6, None, 7, ("a",)])
def test_forged_ids_find_nothing(saved, id):
    store, _ = saved
    for read in (store.answer, store.pair, store.history):
        with pytest.raises(NotFound) as caught:
            read(id)
        assert len(str(caught.value)) < 1000
    for change in (store.delete, store.undo):
        with pytest.raises(NotFound):
            change(id, "ann")
    with pytest.raises(NotFound):
        store.restore(id, 1, "ann")
    with pytest.raises(NotFound):
        store.save_draft("visitor-1", id, {})
    assert store.draft("visitor-1", id) is None
    assert store.image_source(id) == ""
    assert store.recall(id) is None


def test_newest_answers_of_a_visitor(store, make_answer):
    for index in range(4):
        store.add_answer(make_answer(f"a{index}", visitor=f"v{index % 2}"))
    assert [answer.id for answer in store.answers("v0")] == ["a2", "a0"]
    assert [answer.id for answer in store.answers("v0", limit=1)] == ["a2"]
    assert store.answers("v9") == []


def test_next_uncorrected_goes_round(store, make_answer, make_pair, make_judgement):
    answers = [make_answer(f"a{index}") for index in range(6)]
    for answer in answers:
        store.add_answer(answer)
    store.add_answer(make_answer("other", visitor="v2"))
    assert store.next_uncorrected("visitor-1").id == "a0"
    assert store.next_uncorrected("visitor-1", "a0").id == "a1"
    assert store.next_uncorrected("visitor-1", "a5").id == "a0"
    store.save(make_judgement("j1", "a1"), make_pair(answers[1], "No."))
    store.save(make_judgement("j2", "a2", outcome="faithful"))
    store.save(make_judgement("j3", "a3", outcome="skipped", reason="unsure"))
    store.save(make_judgement("j4", "a4", "a5", outcome="both_bad"))
    assert store.uncorrected("visitor-1") == ["a0", "a4", "a5"]
    assert store.next_uncorrected("visitor-1", "a1").id == "a4"
    assert store.next_uncorrected("visitor-1", "forged").id == "a0"
    assert store.next_uncorrected("v2", "other") is None
    assert store.next_uncorrected("nobody") is None


# ---- saving


def test_saving_again_adds_a_revision_under_the_same_id(saved, make_answer):
    store, pair = saved
    assert pair.id == pair_id(("answer-1",), "ann")
    assert pair.revision == 2
    assert store.pair(pair.id) == pair
    assert [(r.number, r.action, r.annotator, r.pair.chosen) for r in store.history(pair.id)] == [
        (1, "saved", "ann", "There is a red spoon on the table."),
        (2, "saved", "ann", "There is a spoon on the table."),
    ]
    assert store.find_pairs().total == 1
    assert [judgement.id for judgement in store.judgements()] == ["j2", "j1"]


def test_another_annotator_makes_another_pair(saved, make_answer, make_pair, make_judgement):
    store, pair = saved
    other = store.save(make_judgement("j3", "answer-1", annotator="bob"), make_pair(make_answer(), "No.", "bob")).pair
    assert other.id != pair.id and other.revision == 1
    assert store.find_pairs().pairs == (other, pair)
    assert [judgement.id for judgement in store.judgements("answer-1", "bob")] == ["j3"]


def test_the_same_judgement_sent_twice_is_kept_once(saved, make_answer, make_pair, make_judgement):
    store, pair = saved
    again = store.save(
        make_judgement("j1", "answer-1"), make_pair(make_answer(), "There is a red spoon on the table.")
    )
    assert again.number == 1
    assert store.pair(pair.id) == pair
    assert len(store.judgements()) == 2
    with pytest.raises(InvalidCorrection):
        store.save(make_judgement("j1", "answer-1", active_seconds=9.0), make_pair(make_answer(), "No."))


def test_a_preferred_pair_needs_both_stored_answers(store, make_answer, make_pair, make_judgement):
    one, two = make_answer("one"), make_answer("two", "There is a spoon.")
    store.add_answer(one)
    store.add_answer(two)
    pair = make_pair(one, two.text, outcome="preferred", edits=())
    saved = store.save(make_judgement("j", "two", "one", outcome="preferred"), pair).pair
    assert (saved.chosen, saved.rejected) == (two.text, one.text)
    with pytest.raises(InvalidCorrection):
        store.save(make_judgement("k", "one", "two", outcome="preferred"), pair)
    store.save(make_judgement("l", "one", "two", outcome="tie"))
    with pytest.raises(NotFound):
        store.pair(saved.id)
    assert store.uncorrected("visitor-1") == ["one", "two"]


@pytest.mark.parametrize("outcome", ["faithful", "skipped"])
def test_nothing_wrong_takes_the_own_correction_back_and_a_skip_does_not(saved, make_judgement, outcome):
    store, pair = saved
    revision = store.save(make_judgement("j3", "answer-1", outcome=outcome))
    store.save(make_judgement("j4", "answer-1", outcome=outcome, annotator="bob"))
    if outcome == "faithful":
        assert revision.action == "deleted"
        assert store.find_pairs().total == 0
        assert store.restore(pair.id, 2, "ann").pair.chosen == pair.chosen
        store.save(make_judgement("j3", "answer-1", outcome=outcome))  # sent a second time, late
    else:
        assert revision.action == "judged" and revision.pair is None
    assert store.find_pairs().total == 1


def test_what_is_not_about_the_stored_answer_is_refused(saved, make_answer, make_pair, make_judgement):
    store, pair = saved
    answer = make_answer()
    forged = [
        (make_judgement("j", "unknown"), make_pair(answer, "No.")),
        (make_judgement("j", answer.id), make_pair(replace(answer, text="There is a dog."), "No.")),
        (make_judgement("j", answer.id), make_pair(replace(answer, prompt=Prompt("Who?")), "No.")),
        (make_judgement("j", answer.id), make_pair(answer, "No.", edits=())),
        (make_judgement("j", answer.id), replace(make_pair(answer, "No."), chosen="Yes.")),
        (make_judgement("j", answer.id), make_pair(answer, "No.", outcome="preferred", edits=())),
        (make_judgement("j", answer.id), None),
        (make_judgement("j", answer.id, outcome="faithful"), make_pair(answer, "No.")),
        (make_judgement("j", answer.id, outcome="great"), None),
    ]
    for judgement, wrong in forged:
        with pytest.raises(StudioError):
            store.save(judgement, wrong)
    assert store.find_pairs().pairs == (pair,)
    assert len(store.judgements()) == 2


# ---- history


def test_undo_delete_and_restore_only_add_revisions(saved):
    store, pair = saved
    assert store.undo(pair.id, "ann").pair.chosen == "There is a red spoon on the table."
    assert store.undo(pair.id, "ann").pair.chosen == "There is a spoon on the table."
    assert store.delete(pair.id, "bob").pair is None
    assert store.find_pairs("spoon").total == 0
    with pytest.raises(NotFound):
        store.pair(pair.id)
    with pytest.raises(NotFound):
        store.delete(pair.id, "bob")
    assert store.undo(pair.id, "ann").pair.revision == 6
    assert store.restore(pair.id, 1, "eve").pair.chosen == "There is a red spoon on the table."
    with pytest.raises(NotFound):
        store.restore(pair.id, 5, "eve")
    for number in (0, 99, -1):
        with pytest.raises(NotFound):
            store.restore(pair.id, number, "eve")
    actions = [(r.number, r.action, r.annotator) for r in store.history(pair.id)]
    assert actions == [
        (1, "saved", "ann"),
        (2, "saved", "ann"),
        (3, "restored", "ann"),
        (4, "restored", "ann"),
        (5, "deleted", "bob"),
        (6, "restored", "ann"),
        (7, "restored", "eve"),
    ]
    assert store.pair(pair.id).revision == 7
    assert store.find_pairs("red spoon").total == 1


def test_undoing_the_first_save_deletes(store, make_answer, make_pair, make_judgement):
    store.add_answer(make_answer())
    pair = store.save(make_judgement("j", "answer-1"), make_pair(make_answer(), "No.")).pair
    assert store.undo(pair.id, "ann").action == "deleted"
    assert store.undo(pair.id, "ann").pair.chosen == "No."


def test_revisions_cannot_be_changed_even_by_sql(saved):
    store, _ = saved
    connection = sqlite3.connect(store.path)
    for statement in ("DELETE FROM revisions", "UPDATE revisions SET annotator = 'x'"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)


# ---- finding


def test_search_and_filters(store, make_answer, make_pair, make_judgement):
    texts = [
        "A red fork.",
        "Two forks 🍴 and a knife",
        "猫坐在桌子上。",
        "Ein STRASSENSCHILD, Café <img onerror=x> ${x}",
    ]
    for index, text in enumerate(texts):
        answer = make_answer(f"a{index}", text, visitor=f"v{index % 2}", prompt=Prompt("Describe it"))
        store.add_answer(answer)
        name = "ann" if index < 2 else "bob"
        store.save(make_judgement(f"j{index}", answer.id, annotator=name), make_pair(answer, text + " 7!", name))

    def found(text="", **filters):
        page = store.find_pairs(text, **filters)
        assert page.total == store.count_pairs(text, **filters) == len(page.pairs)
        return [
            int(pair.rejected == text) and index
            for pair in page.pairs
            for index, text in enumerate(texts)
            if pair.rejected == text
        ]

    assert found() == [3, 2, 1, 0]
    assert found("fork") == [1, 0]
    assert found("FORK ") == [1, 0]
    assert found("fo") == [1, 0]
    assert found("red fork") == [0]
    assert found("fork red") == [0]
    assert found("fork.") == [1, 0]
    assert found("ork") == []
    assert found("🍴") == [1]
    assert found("猫坐") == [2]
    assert found("桌子上") == [2]
    assert found("坐猫") == []
    assert found("straßenschild") == [3]
    assert found("cafe\u0301") == [3]
    assert found("onerror") == [3]
    assert found("describe") == [3, 2, 1, 0]
    assert found("7") == [3, 2, 1, 0]
    assert found("7!") == [3, 2, 1, 0]
    assert found("?!") == [3, 2, 1, 0]
    assert found(annotator="ann") == [1, 0]
    assert found("fork", annotator="ann", visitor="v1") == [1]
    assert found(kind="number") == [3, 2, 1, 0]
    assert found(kind="action") == []
    assert found(outcome="preferred") == []
    assert found(model=str(ModelIdentity("demo", "a" * 64))) == [3, 2, 1, 0]
    assert found(model="demo") == []
    assert found(annotator="") == []
    assert store.filter_choices() == {"annotators": ["ann", "bob"], "models": ["demo@" + "a" * 64]}
    page = store.find_pairs(offset=1, limit=2)
    assert [pair.rejected for pair in page.pairs] == [texts[2], texts[1]] and page.total == 4
    assert store.find_pairs(offset=99).pairs == ()
    assert store.find_pairs(offset=-5, limit=-1).pairs == ()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=ANY_TEXT, value=ANY_TEXT)
def test_any_query_is_answered(saved, query, value):
    store, _ = saved
    assert store.find_pairs(query).total in (0, 1)
    assert store.find_pairs(query + ' " AND OR NOT * ( NEAR', annotator=value, kind=value).total in (0, 1)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1, max_size=60), data=st.data())
def test_what_is_in_a_pair_is_found_by_its_own_words(store, make_answer, make_pair, make_judgement, text, data):
    id = f"a{uuid.uuid4().hex}"
    answer = make_answer(id, text, visitor=id)
    store.add_answer(answer)
    pair = store.save(make_judgement(id, id), make_pair(answer, text + " indeed")).pair
    assert store.find_pairs(text, visitor=id).pairs == (pair,)
    assert store.find_pairs(text + " indee", visitor=id).pairs == (pair,)


def test_all_pairs_and_pairs_by_id(store, make_answer, make_pair, monkeypatch):
    monkeypatch.setattr("rlhfv.corrections.store.CHUNK", 3)
    pairs = [make_pair(make_answer(f"p{index}"), f"No {index}.") for index in range(8)]
    assert store.add_pairs(iter(pairs), "v1") == 8
    assert [pair.id for pair in store.all_pairs()] == [f"p{index}" for index in range(8)]
    assert [pair.id for pair in store.all_pairs(["p5", "p1"])] == ["p5", "p1"]
    with pytest.raises(NotFound):
        list(store.all_pairs(["p5", "nothing"]))
    assert store.find_pairs(visitor="v1").total == 8


def test_pairs_from_elsewhere_are_added_once(store, make_answer, make_pair):
    pairs = [make_pair(make_answer(f"p{index}"), f"No {index}.") for index in range(3)]
    assert store.add_pairs(pairs) == 3
    assert store.add_pairs(pairs) == 0
    assert store.add_pairs([make_pair(make_answer("p1"), "Nothing.")]) == 1
    assert store.pair("p1").revision == 2
    store.delete("p2", "ann")
    assert store.add_pairs(pairs[2:]) == 1
    with pytest.raises(InvalidCorrection):
        store.add_pairs([replace(pairs[0], id="../x")])


# ---- what the pages remember


def test_drafts_conversations_settings_and_sources(store, make_answer):
    store.add_answer(make_answer())
    document = {"edits": [{"start": 0, "end": 3, "replacement": "\ud83d 猫 \0", "kind": "other"}]}
    store.save_draft("v1", "answer-1", {"edits": []})
    store.save_draft("v1", "answer-1", document)
    store.save_conversation("v1", document)
    store.remember("terms:v1", {"licence": "CC0"})
    store.set_image_source("a" * 64 + ".png", "demo:pairs/1234")
    store = Store(store.path)
    assert store.draft("v1", "answer-1") == document
    assert store.draft("v2", "answer-1") is None
    assert store.conversation("v1") == document
    assert store.conversation("v2") is None
    assert store.recall("terms:v1") == {"licence": "CC0"}
    assert store.recall("terms:v2") is None
    assert store.image_source("a" * 64 + ".png") == "demo:pairs/1234"
    assert store.image_source("b" * 64 + ".png") == ""
    store.drop_draft("v1", "answer-1")
    store.drop_draft("v1", "answer-1")
    assert store.draft("v1", "answer-1") is None


# ---- threads, settings of the file


def test_each_commit_is_forced_to_the_disk(store):
    assert store._connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert store._connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_threads_share_a_store(store, make_answer, make_pair, make_judgement):
    errors = []

    def work(number):
        try:
            for index in range(10):
                answer = make_answer(f"a{number}-{index}", visitor=f"v{number}")
                store.add_answer(answer)
                store.save(make_judgement(f"j{number}-{index}", answer.id), make_pair(answer, "No."))
                assert store.find_pairs(visitor=f"v{number}").total == index + 1
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.count_pairs() == 80


def test_a_failed_write_leaves_nothing_behind(saved, make_answer, make_pair, make_judgement, monkeypatch):
    store, pair = saved
    monkeypatch.setattr("rlhfv.corrections.store._add_judgement", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError):
        store.save(make_judgement("j9", "answer-1"), make_pair(make_answer(), "No."))
    monkeypatch.undo()
    assert store.pair(pair.id) == pair
    assert store.save(make_judgement("j9", "answer-1"), make_pair(make_answer(), "No.")).number == 3


# ---- size


def fill(store, make_answer, make_pair, count):
    chance = random.Random(5)
    things = "fork knife spoon cup bowl banana chair couch dog cat car bus clock vase book laptop oven sink".split()
    colours, places = "red green blue small large".split(), "left right top bottom center".split()
    template = make_pair(make_answer(), "No.")

    def pairs():
        for index in range(count):
            sentences = [
                f"There is a {chance.choice(colours)} {chance.choice(things)} in the {chance.choice(places)}"
                " of the picture."
                for _ in range(chance.randint(4, 9))
            ]
            text = "The image shows a street scene. " + " ".join(sentences)
            answer = make_answer(f"p{index:06}", text)
            thing = chance.choice(things)
            start = text.index(" in the ")
            edit = replace(template.edits[0], start=start, end=start, replacement=f" and a {thing}")
            yield replace(
                template,
                id=answer.id,
                rejected=text,
                chosen=text[:start] + edit.replacement + text[start:],
                edits=(replace(edit, kind=chance.choice(["object", "number", "position"])),),
                provenance=replace(template.provenance, annotator=chance.choice(["ann", "bob", "oracle"])),
            )

    assert store.add_pairs(pairs(), "v1") == count


SEARCHES = [
    {},
    {"offset": 90_000},
    {"text": "fork"},
    {"text": "a"},
    {"text": "the"},
    {"text": "there is a"},
    {"text": "red fo"},
    {"text": "in the left of the picture"},
    {"text": "the image shows a street scene there is a red fork in the left of the picture"},
    {"text": "zzz"},
    {"kind": "number"},
    {"kind": "number", "annotator": "ann", "outcome": "corrected", "visitor": "v1"},
    {"text": "the picture", "kind": "number", "annotator": "oracle", "model": "demo@" + "a" * 64},
    {"text": "street", "annotator": "bob", "offset": 20_000},
]


def slowest_search(store):
    """Seconds of computing of the slowest search, each the median of five: what other programs take does not count."""
    slowest = 0.0
    for search in SEARCHES:
        walls, computed = [], []
        for _ in range(5):
            wall, start = time.perf_counter(), time.thread_time()
            page = store.find_pairs(**search)
            walls.append(time.perf_counter() - wall)
            computed.append(time.thread_time() - start)
        wall, median = sorted(walls)[2], sorted(computed)[2]
        print(f"{median * 1000:6.1f} ms ({wall * 1000:6.1f} by the clock)  {page.total:7,} found  {search}")
        slowest = max(slowest, median)
    return slowest


def test_paging_2_000_pairs_takes_under_50_ms(store, make_answer, make_pair):
    fill(store, make_answer, make_pair, 2_000)
    assert slowest_search(store) < 0.05


@pytest.mark.slow
def test_paging_100_000_pairs_takes_under_50_ms(store, make_answer, make_pair):
    start = time.perf_counter()
    fill(store, make_answer, make_pair, 100_000)
    print(f"filled in {time.perf_counter() - start:.0f} s, {store.path.stat().st_size / 1e6:.0f} MB")
    assert slowest_search(store) < 0.05
