"""Answers from elsewhere: taken in, written out, compared; and who sees whose."""

import json
import time
from dataclasses import replace

import pytest

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.store import Store
from rlhfv.errors import InvalidData, NotFound
from rlhfv.evaluation.answer_sets import AnswerFolder, no_set
from rlhfv.services.actor import Actor, local_actor
from rlhfv.services.expiring import Expiring
from tests.services.made_benchmark import write_pope_answers

ME = local_actor()


def test_answers_are_taken_in_and_written_out(bench, tmp_path):
    path = write_pope_answers(tmp_path / "theirs.jsonl", ["Yes", "No"] * 5)
    id = bench.take_in(ME, "pope-random", path, "Theirs", model="LLaVA-1.5")
    assert bench.take_in(ME, "pope-random", path, "Again", model="LLaVA-1.5") == id
    one = bench.answer_set(ME, id)
    assert (one.title, one.done, one.stamp.imported) == ("Theirs", 10, "theirs.jsonl")
    assert (one.stamp.decoding, one.stamp.prompt, one.stamp.model) == (
        *("unknown", "unknown"),
        ModelIdentity("LLaVA-1.5", ""),
    )
    assert bench.score(ME, id).figures()["accuracy"] == 100
    assert bench.export(ME, id, "", tmp_path / "out.json") == 10
    rows = [json.loads(line) for line in (tmp_path / "out.json").read_text().splitlines()]
    assert rows[1] == {"question": "Is there a dog in the image?", "answer": "No"}
    assert bench.take_in(ME, "pope-random", tmp_path / "out.json") != id


def test_what_was_not_taken_in_is_told(bench, tmp_path):
    path = write_pope_answers(tmp_path / "theirs.jsonl", ["Yes"] * 10)
    path.write_text(path.read_text() + "\n{}\n")
    id = bench.take_in(ME, "pope-random", path)
    assert "1 row of the imported file was not taken" in bench.score(ME, id).notes[-1]
    path.write_text("{}")
    with pytest.raises(InvalidData):
        bench.take_in(ME, "pope-random", path)


def test_one_benchmarks_own_format_is_no_answer_to_another(bench, tmp_path):
    path = tmp_path / "amber.json"
    path.write_text(json.dumps([{"id": number, "response": "Yes"} for number in range(1, 11)]))
    with pytest.raises(InvalidData, match="AMBER's array") as refused:
        bench.take_in(ME, "pope-random", path)
    assert "--format amber" in refused.value.fix
    assert bench.answer_set(ME, bench.take_in(ME, "pope-random", path, form="amber")).done == 10


def test_two_sets_are_compared_item_by_item(bench, tmp_path):
    first = bench.take_in(ME, "pope-random", write_pope_answers(tmp_path / "a.jsonl", ["Yes"] * 10))
    second = bench.take_in(ME, "pope-random", write_pope_answers(tmp_path / "b.jsonl", ["Yes", "No"] * 5))
    found = bench.compare(ME, first, second)
    assert (found.flips.mended, found.flips.broken) == (5, 0)
    assert "Not known of imported answers" in found.notes[-1]


def test_imported_answers_are_like_ours_only_where_somebody_says_so(bench, asked, tmp_path):
    *_, ours = bench.answer(ME, "pope-random")
    path = write_pope_answers(tmp_path / "a.jsonl", ["Yes"] * 10)
    theirs = bench.take_in(ME, "pope-random", path)
    with pytest.raises(InvalidData, match='"unknown"'):
        bench.compare(ME, ours.id, theirs)
    told = bench.take_in(ME, "pope-random", path, decoding="greedy")
    assert "how the pictures were prepared" in bench.compare(ME, ours.id, told).notes[-1]


def test_an_import_that_broke_off_is_completed(bench, tmp_path):
    path = write_pope_answers(tmp_path / "theirs.jsonl", ["Yes", "No"] * 5)
    id = bench.take_in(ME, "pope-random", path)
    file = bench.sets / id / "answers.jsonl"
    file.write_bytes(file.read_bytes()[:-30])
    assert bench.answer_set(ME, id).done == 9
    assert bench.take_in(ME, "pope-random", path) == id and len(bench.answers(ME, id)) == 10
    assert file.read_bytes().count(b"}\n") == 10


def test_half_a_character_does_not_come_in(bench, tmp_path):
    path = write_pope_answers(tmp_path / "theirs.jsonl", ["Yes \ud83d"] + ["No 🐶"] * 9)
    id = bench.take_in(ME, "pope-random", path, "Mine \ud83d", model="M\ud83d")
    one = bench.answer_set(ME, id)
    assert (one.title, one.stamp.model.name) == ("Mine ", "M")
    assert (bench.answers(ME, id)["1"], bench.answers(ME, id)["2"]) == ("Yes ", "No 🐶")


def test_names_have_an_end(bench, tmp_path):
    path = write_pope_answers(tmp_path / f"{'t' * 150}.jsonl", ["Yes"] * 10)
    for names in ({"title": "x" * 121}, {"model": "x" * 121}):
        with pytest.raises(InvalidData, match="has 121 characters"):
            bench.take_in(ME, "pope-random", path, **names)
    assert bench.answer_set(ME, bench.take_in(ME, "pope-random", path)).title == "t" * 120
    assert bench.take_in(ME, "pope-random", path, "x" * 120, model="x" * 120)


# ---- who sees what


@pytest.fixture
def visitor():
    return Actor("s" * 32, rights=frozenset({"train"}))


def test_what_one_visitor_asked_is_not_anothers(bench, asked, ada, bob):
    bench.settings = replace(bench.settings, single_user=False)
    [*_, last] = bench.answer(ada, "pope-random")
    assert [one.id for one in bench.answer_sets(ada)] == [last.id] and bench.answer_sets(bob) == []
    with pytest.raises(NotFound):
        bench.answers(bob, last.id)


def test_what_a_terminal_answered_is_seen_by_who_manages(bench, asked, ada, visitor):
    [*_, last] = bench.answer(ME, "pope-random")
    bench.settings = replace(bench.settings, single_user=False)
    assert [one.id for one in bench.answer_sets(ada)] == [last.id] and bench.answer_sets(visitor) == []
    assert bench.score(ada, last.id).ids
    with pytest.raises(NotFound) as foreign:
        bench.score(visitor, last.id)
    assert str(foreign.value).replace(last.id, "no") == str(no_set("no")), "an unknown id is told in the same words"


def test_answers_are_read_by_their_owner_and_when_they_change(bench, tmp_path, visitor, bob, monkeypatch):
    bench.settings = replace(bench.settings, single_user=False)
    id = bench.take_in(visitor, "pope-random", write_pope_answers(tmp_path / "a.jsonl", ["Yes"] * 10))
    read, rows = [], AnswerFolder.rows
    monkeypatch.setattr(AnswerFolder, "rows", lambda self: read.append(self.id) or rows(self))
    assert bench.answer_sets(bob) == [] and read == []
    assert [one.done for _ in range(3) for one in bench.answer_sets(visitor)] == [10] * 3 and len(read) == 1
    AnswerFolder(bench.sets / id).add([{"id": "more", "answer": "No"}])
    assert [one.done for one in bench.answer_sets(visitor)] == [11]


def test_visitors_together_have_so_many_sets(bench, tmp_path, visitor, ada, monkeypatch):
    monkeypatch.setattr("rlhfv.services.benchmarking.MOST_OF_ALL", 1)
    bench.settings = replace(bench.settings, single_user=False)
    first, second = (write_pope_answers(tmp_path / f"{text}.jsonl", [text] * 10) for text in ("Yes", "No"))
    id = bench.take_in(visitor, "pope-random", first)
    with pytest.raises(InvalidData, match="There are 1 sets"):
        bench.take_in(replace(visitor, visitor="t" * 32), "pope-random", second)
    assert bench.take_in(visitor, "pope-random", first) == id and bench.take_in(ada, "pope-random", second)


def test_visitors_imports_are_forgotten(bench, asked, tmp_path, visitor):
    [*_] = bench.answer(ME, "pope-random")
    bench.take_in(ME, "pope-random", write_pope_answers(tmp_path / "a.jsonl", ["Yes"] * 10))
    bench.settings = replace(bench.settings, single_user=False, forget_hours=1.0)
    theirs = bench.take_in(visitor, "pope-random", tmp_path / "a.jsonl")
    expiring = Expiring(bench.settings, Store(bench.settings.data_dir / "studio.sqlite3"), ImageShelf(tmp_path / "i"))
    expiring._expiry.watch()
    expiring.forget()
    assert (bench.sets / theirs).is_dir()
    expiring.forget(time.time() + 3700)
    assert not (bench.sets / theirs).exists() and len(list(bench.sets.iterdir())) == 2


def test_a_stranger_is_not_told_of_folders(bench, tmp_path, visitor, ada):
    bench.settings = replace(bench.settings, single_user=False)
    ids = {
        who: [
            bench.take_in(who, "pope-random", write_pope_answers(tmp_path / "a.jsonl", [text] * 10))
            for text in ("Yes", "No")
        ]
        for who in (visitor, ada)
    }
    (bench.root / "pope/coco_pope_random.json").unlink()
    for who, sets in ids.items():
        for call in (
            lambda who=who, sets=sets: bench.score(who, sets[0]),
            lambda who=who, sets=sets: bench.compare(who, *sets),
            lambda who=who, sets=sets: bench.items(who, sets[0]),
            lambda who=who, sets=sets: bench.export(who, sets[0], "", tmp_path / "out"),
            lambda who=who: bench.take_in(who, "pope-random", tmp_path / "a.jsonl"),
        ):
            with pytest.raises(InvalidData, match="missing") as refused:
                call()
            assert (str(bench.root) in str(refused.value)) == (who == ada)
