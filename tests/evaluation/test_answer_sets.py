"""Sets of answers on the disk: torn lines, one writer at a time, kept figures."""

from dataclasses import replace

import numpy as np
import pytest

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.errors import InvalidData, NotFound
from rlhfv.evaluation.answer_sets import AnswerFolder, list_sets, name_set, open_set
from rlhfv.evaluation.score import Fault, Measure, Score, per_cent
from rlhfv.evaluation.stamp import Stamp

STAMP = Stamp("pope-random", "a" * 64, decoding="greedy", model=ModelIdentity("m", "1"))


@pytest.fixture
def folder(tmp_path):
    folder = AnswerFolder(tmp_path / name_set(STAMP))
    folder.begin("Mine", STAMP, 3, voice="v@1")
    return folder


def test_a_set_is_read_as_it_was_begun(folder):
    folder.add([{"id": "1", "answer": "Yes"}, {"id": "2", "answer": "Größe \u2028 👍"}])
    folder.begin("Another title", STAMP, 9)
    one = folder.read()
    assert (one.title, one.stamp, one.done, one.total, one.voice) == ("Mine", STAMP, 2, 3, "v@1")
    assert folder.answers() == {"1": "Yes", "2": "Größe \u2028 👍"}


@pytest.mark.parametrize("left", range(1, 30, 4))
def test_a_torn_line_is_passed_over_and_costs_no_other(folder, left):
    folder.add([{"id": "1", "answer": "Yes"}])
    whole = (folder.path / "answers.jsonl").read_bytes()
    folder.add([{"id": "2", "answer": "No, it is not."}])
    torn = (folder.path / "answers.jsonl").read_bytes()[: len(whole) + left]
    (folder.path / "answers.jsonl").write_bytes(torn)
    assert folder.answers() == {"1": "Yes"}
    folder.add([{"id": "2", "answer": "No"}])
    assert folder.answers() == {"1": "Yes", "2": "No"}


def test_the_last_answer_to_an_item_counts(folder):
    folder.add([{"id": "1", "answer": "Yes"}])
    folder.add([{"id": "1", "answer": "No"}])
    assert folder.answers() == {"1": "No"}


def test_the_served_name_stands_in_the_stamp(folder):
    folder.add([{"id": "1", "answer": "Yes", "served": "m-2024-08-06"}])
    assert folder.read().stamp.model == ModelIdentity("m-2024-08-06", "1")


def test_settings_that_a_server_did_not_take_are_told(folder):
    folder.add([{"id": "1", "answer": "Yes", "left_out": ["temperature"]}])
    assert folder.read().notes == (
        "The server did not take temperature and used its own: the answers may not be greedy.",
    )


def test_one_writes_at_a_time(folder):
    other = AnswerFolder(folder.path)
    with folder.working(), pytest.raises(InvalidData, match="being written already"), other.working():
        pass
    with folder.working():
        pass


def test_sets_are_found_by_their_id_only(folder, tmp_path):
    assert [one.id for one in list_sets(tmp_path)] == [folder.id]
    assert open_set(tmp_path, folder.id).read().id == folder.id
    for id in ("nothing", "x" * 5000, "\0", "\ud83d", "a/b", "", "..", f"../{tmp_path.name}/{folder.id}", ".hidden"):
        with pytest.raises(NotFound):
            open_set(tmp_path, id)


def test_a_damaged_stamp_is_told(folder):
    (folder.path / "stamp.json").write_text("{")
    with pytest.raises(InvalidData, match="damaged"):
        folder.read()


def test_the_same_stamp_has_the_same_id():
    assert name_set(STAMP) == name_set(Stamp.from_dict(STAMP.to_dict())) != name_set(STAMP, "other")


def test_a_kept_score_is_the_score(folder):
    measures = (Measure("rate", "Rate", "percent", "lower", lambda sums: per_cent(sums["bad"], sums["all"])),)
    counts = {"bad": np.array([1.0, 0.0]), "all": np.ones(2)}
    score = Score(
        "b", "v", ("1", "2"), counts, measures, np.array([True, False]), ((Fault(1, 3, "object"),), ()), ("n",)
    )
    score = replace(score, clusters=("one.jpg", "one.jpg"))
    assert folder.kept_score("k", measures) is None
    folder.keep_score("k", score)
    kept = folder.kept_score("k", measures)
    assert kept.figures() == score.figures() == {"rate": 50.0}
    assert kept.clusters == score.clusters
    assert (kept.ids, kept.faults, kept.notes, kept.wrong.tolist()) == (score.ids, score.faults, ("n",), [True, False])
    (folder.path / "scores/k.json").write_text("{")
    assert folder.kept_score("k", measures) is None
