"""Answers beside answers, what is kept of them, and who may read them."""

import fcntl
import json
import time

import pytest

from rlhfv.errors import Forbidden, InvalidData, NotFound
from rlhfv.evaluation.judge_log import JudgeLog
from rlhfv.services import Actor, build_services
from rlhfv.settings import Settings
from tests.services.fakes import ScriptedModel
from tests.services.made_benchmark import (
    BENCHMARK,
    make_amber,
    take_both,
)
from tests.services.two_voices import ALIGNED, answer, give_two_voices

COUNT = 40


def test_two_sets_stand_beside_each_other(services, ada, compared):
    comparison = services.reporting.comparison(ada, *compared)
    assert comparison.outcomes == {"broken": 3, "mended": 12, "still wrong": 2, "right": 23}
    hal = next(change for change in comparison.gains if change.measure.name == "hal")
    assert (hal.before.value, hal.after.value) == pytest.approx((35.0, 12.5), abs=0.01)
    assert {"cover", "words"} <= {change.measure.name for change in comparison.prices}
    assert comparison.rows[0].faults[0][0].kind == "object"
    assert any("Not known of imported answers" in note for note in comparison.notes)
    assert services.reporting.comparison(ada, *compared) is comparison, "nothing is counted twice"
    assert [side.title for side in services.reporting.sides(ada, *compared)] == ["Baseline", "Aligned"]


def test_other_keys_are_counted_anew(services, ada, compared):
    assert services.reporting.comparison(ada, *compared).outcomes["broken"] == 3
    keys = services.benchmarking.root / "amber" / "annotations.json"
    keys.write_text(keys.read_text().replace('["dog", "ball", "tree"]', '["dog", "ball", "tree", "cat"]'))
    assert services.reporting.comparison(ada, *compared).outcomes["broken"] == 0


def test_a_page_has_the_pictures_or_leaves_them_out(services, ada, compared):
    page = services.reporting.page(ada, *compared)
    assert page.count("<img ") == 3 and "window.hacked" in page and "<script" not in page
    assert "<img" not in services.reporting.page(ada, *compared, with_pictures=False)


def test_an_items_picture_goes_to_the_shelf(services, ada, compared):
    rows = services.reporting.comparison(ada, *compared).rows
    name = services.reporting.stored_picture(ada, rows[0].item)
    assert services.chat.shelf.path(name).is_file()
    assert services.reporting.stored_picture(ada, rows[-1].item) == "", "the folder lacks it"


def test_unlike_sets_and_strange_ids_are_refused(services, ada, compared):
    for before, after in ((compared[0], "nothing"), ("", ""), ("../x", compared[1])):
        with pytest.raises(NotFound):
            services.reporting.comparison(ada, before, after)
    with pytest.raises(InvalidData, match="no variant 'by heart'"):
        services.reporting.comparison(ada, *compared, "by heart")
    stamp = services.benchmarking.sets / compared[1] / "stamp.json"
    row = json.loads(stamp.read_text())
    row["stamp"]["decoding"] = "rlhfv"
    stamp.write_text(json.dumps(row))
    with pytest.raises(InvalidData, match="decoding"):
        services.reporting.comparison(ada, *compared, "exact")


def test_on_a_shared_machine_nobody_reads_what_others_have(tmp_path, ada, bob):
    services = build_services(Settings(data_dir=tmp_path / "data", single_user=False))
    ids = take_both(services, ada, tmp_path)
    reporting, seen = services.reporting, services.reporting.comparison(ada, *ids)
    assert len(seen.rows) == COUNT and reporting.sets(bob) == []
    for ask in (reporting.comparison, reporting.page, reporting.sides):
        with pytest.raises(NotFound):
            ask(bob, *ids)
    with pytest.raises(NotFound):
        reporting.variants(bob, ids[0])
    assert {row.lineage.title for row in reporting.leaderboard(ada).rows} >= {"Baseline", "Aligned"}
    assert not {row.lineage.title for row in reporting.leaderboard(bob).rows} & {"Baseline", "Aligned"}
    with pytest.raises(Forbidden):
        reporting.comparison(Actor("e" * 32, rights=frozenset({"chat"})), *ids)


def test_a_general_score_of_the_same_two_voices_stands_beside(services, ada, compared, monkeypatch):
    """Both sets name who answered, and both voices have answered POPE too."""
    benchmarking = services.benchmarking
    sets = {one.title: one for one in benchmarking.answer_sets(ada)}
    folder = benchmarking.root / "pope"
    folder.mkdir()
    asked = [
        {"question_id": id, "image": "a.jpg", "text": f"Is there a dog in picture {id}?", "label": "yes"}
        for id in range(1, 11)
    ]
    (folder / "coco_pope_random.json").write_text("\n".join(map(json.dumps, asked)))
    ids = []
    assert services.reporting.comparison(ada, *compared).general == ()
    for title, right in (("Baseline", 9), ("Aligned", 5)):
        stamp = benchmarking.sets / sets[title].id / "stamp.json"
        row = json.loads(stamp.read_text())
        row["stamp"]["model"] = {"name": title, "revision": ""}
        stamp.write_text(json.dumps(row))
        said = [{"question": one["text"], "answer": "Yes" if one["question_id"] <= right else "No"} for one in asked]
        path = services.settings.data_dir / f"{title}.jsonl"
        path.write_text("\n".join(map(json.dumps, said)))
        if title == "Aligned":
            assert services.reporting.comparison(ada, *compared).general == (), "one of the two voices only"
        ids.append(benchmarking.take_in(ada, "pope-random", path, title, model=title))
    [(benchmark, change)] = services.reporting.comparison(ada, *compared).general
    assert benchmark == "pope-random" and change.measure.name == "accuracy"
    assert (change.before.value, change.after.value) == (90, 50)
    assert "pope-random: Accuracy -40.0 points" in services.reporting.page(ada, *compared)
    assert services.reporting.comparison(ada, *ids).general == (), "nor does a benchmark stand beside itself"


def test_answers_are_deleted_by_whom_they_belong_to(tmp_path, ada, bob, monkeypatch):
    services = build_services(Settings(data_dir=tmp_path / "data", single_user=False))
    ids = take_both(services, ada, tmp_path)
    services.reporting.comparison(ada, *ids)
    with pytest.raises(NotFound):
        services.reporting.delete(bob, ids[0])
    services.reporting.delete(ada, ids[0])
    assert [one.id for one in services.reporting.sets(ada)] == [ids[1]]
    assert not (services.benchmarking.sets / ids[0]).exists()
    for gone in (ids[0], "", "..", "../data"):
        with pytest.raises(NotFound):
            services.reporting.delete(ada, gone)
    with pytest.raises(NotFound):
        services.reporting.comparison(ada, *ids)
    monkeypatch.setattr("rlhfv.services.reporting.MOST_SETS", 1)
    visitor = Actor(ada.visitor, rights=frozenset({"train"}))
    with pytest.raises(InvalidData, match="You have 1 sets"):
        services.reporting.take_in(visitor, BENCHMARK, tmp_path / "Aligned.json")


def test_what_deleted_answers_said_and_scored_does_not_come_back(services, ada, bench, monkeypatch):
    """The same voice asked in the same way has the same set, and as many answers as before."""
    said = {"text": "Yes"}
    monkeypatch.setattr(ScriptedModel, "answer_many", lambda self, prompts, *_, **__: [said["text"] for _ in prompts])
    give_two_voices(monkeypatch, services).batches.release(99)
    ids = [answer(services, ada, voice=voice) for voice in ("", ALIGNED)]

    def accuracy():
        board = services.reporting.leaderboard(ada)
        return [figure.value for row in board.rows for figure in row.figures.values()]

    comparison, figures = services.reporting.comparison(ada, *ids), accuracy()
    assert comparison.rows[0].answers == ("Yes", "Yes") and accuracy() == figures
    services.reporting.delete(ada, ids[1])
    said["text"] = "No"
    assert answer(services, ada, voice=ALIGNED) == ids[1]
    for again in (services.reporting.compared, services.reporting.comparison):
        assert again(ada, *ids).rows[0].answers == ("Yes", "No")
    assert accuracy() != figures


def test_who_does_not_manage_is_not_told_of_folders(tmp_path):
    services = build_services(Settings(data_dir=tmp_path / "data", single_user=False))
    stranger, owner = Actor("s" * 32, rights=frozenset({"train"})), Actor("o" * 32)
    assert services.reporting.benchmarks(stranger) == []
    told = []
    for who in (stranger, owner):
        with pytest.raises(InvalidData) as refused:
            services.reporting.take_in(who, BENCHMARK, tmp_path / "answers.json")
        told.append(str(refused.value))
    assert str(tmp_path) not in told[0] and "Ask its owner" in told[0]
    assert str(services.benchmarking.root) in told[1] and "annotations.json" in told[1]
    make_amber(services.benchmarking.root, 3)
    assert services.reporting.benchmarks(stranger) == [("AMBER, generative", BENCHMARK)]


def test_each_visitor_keeps_what_they_look_at(services, ada, compared, monkeypatch):
    """A click makes no bootstrap, whatever others compare, and whatever was added to the answers meanwhile."""
    seen, counted = services.reporting.comparison(ada, *compared), []
    compare = services.benchmarking.compare
    monkeypatch.setattr(services.benchmarking, "compare", lambda *asked: counted.append(asked) or compare(*asked))
    monkeypatch.setattr("rlhfv.services.reporting.KEPT", 3)
    others = [Actor(f"{number}" * 32) for number in range(3)]
    for other in others[:2]:
        assert len(services.reporting.compared(other, *compared).rows) == COUNT
    answers = services.benchmarking.sets / compared[1] / "answers.jsonl"
    answers.write_bytes(answers.read_bytes().rstrip().rpartition(b"\n")[0])
    assert services.reporting.compared(ada, *compared) is seen and len(counted) == 2
    services.reporting.compared(others[2], *compared)
    assert services.reporting.compared(ada, *compared) is seen and len(counted) == 3
    services.reporting.compared(others[0], *compared)
    assert len(counted) == 4 and len(services.reporting._comparisons) == 3, "the one who looked longest ago made room"
    assert len(services.reporting.comparison(ada, *compared).rows) == COUNT - 1


def test_sets_of_a_benchmark_that_is_not_known_are_left_out(services, ada, compared):
    stamp = services.benchmarking.sets / compared[1] / "stamp.json"
    row = json.loads(stamp.read_text())
    row["stamp"]["benchmark"] = "of-tomorrow"
    stamp.write_text(json.dumps(row))
    assert [one.id for one in services.reporting.sets(ada)] == [compared[0]]
    assert [row.lineage.title for row in services.reporting.leaderboard(ada).rows] == ["Baseline"]


def test_what_needs_a_judge_or_word_vectors_is_not_offered(services, ada, compared):
    assert services.reporting.variants(ada, compared[0]) == ["exact"]


def test_answers_that_are_being_judged_are_not_deleted(services, ada, compared):
    folder = services.benchmarking.sets / compared[0]
    with JudgeLog(folder / "judge.jsonl"), pytest.raises(InvalidData, match="A judge is being asked"):
        services.reporting.delete(ada, compared[0])
    assert (folder / "answers.jsonl").is_file()
    services.reporting.delete(ada, compared[0])
    assert not folder.exists()


def test_a_judge_that_starts_while_its_answers_go_makes_no_folder_anew(services, ada, compared, monkeypatch):
    """It opened its file a moment before, or comes a moment after: what it is told would be lost."""
    folder = services.benchmarking.sets / compared[0]
    opened = fcntl.flock

    def lock_late(file, how):
        if file.name == str(folder / "judge.jsonl"):
            monkeypatch.setattr("fcntl.flock", opened)
            services.reporting.delete(ada, compared[0])
        opened(file, how)

    monkeypatch.setattr("fcntl.flock", lock_late)
    for _ in range(2):
        with pytest.raises(InvalidData, match="are gone") as told:
            JudgeLog(folder / "judge.jsonl")
        assert compared[0] in told.value.what and not folder.exists()
    assert {path.name for path in services.benchmarking.sets.iterdir()} == {compared[1]}


def test_answers_whose_deletion_a_crash_cut_short_are_nobodys_and_go_with_the_next(
    services, ada, compared, monkeypatch
):
    folder = services.benchmarking.sets / compared[0]
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        services.reporting.delete(ada, compared[0])
    monkeypatch.undo()
    assert not folder.exists() and [one.id for one in services.reporting.sets(ada)] == [compared[1]]
    services.reporting.delete(ada, compared[1])
    assert list(services.benchmarking.sets.iterdir()) == []


def test_what_a_manager_takes_in_is_kept_where_visitors_sets_go(tmp_path, ada):
    services = build_services(Settings(data_dir=tmp_path / "data", single_user=False, forget_hours=1.0))
    visitor = Actor("v" * 32, rights=frozenset({"train"}))
    mine, yours = (take_both(services, who, tmp_path) for who in (ada, visitor))
    services.expiring._expiry.watch()
    services.expiring.forget(time.time() + 3500)
    assert len(services.reporting.sets(visitor)) == 2
    services.expiring.forget(time.time() + 3700)
    assert services.reporting.sets(visitor) == [] and {one.id for one in services.reporting.sets(ada)} == set(mine)
    assert not any((services.benchmarking.sets / id).exists() for id in yours)


def test_two_tabs_of_a_visitor_do_not_count_each_others_anew(services, ada, compared, monkeypatch):
    counted, compare = [], services.benchmarking.compare
    monkeypatch.setattr(services.benchmarking, "compare", lambda *asked: counted.append(asked) or compare(*asked))
    there, back = compared, compared[::-1]
    for ids in (there, back, there, back):
        services.reporting.comparison(ada, *ids)
    assert len(counted) == 2
    monkeypatch.setattr("rlhfv.services.reporting.OF_A_VISITOR", 2)
    services.reporting.comparison(ada, *there, "exact")
    assert len(services.reporting._comparisons) == 2
    services.reporting.compared(ada, *back)
    assert len(counted) == 3
    services.reporting.compared(ada, *there)
    assert len(counted) == 4, "the one that was looked at longest ago made room"
