"""Things that a judge lists out of answers."""

import pytest

from rlhfv.evaluation.judge import Judge
from rlhfv.evaluation.judged_objects import extract, read_objects
from rlhfv.evaluation.object_halbench import score
from rlhfv.evaluation.score import Item
from rlhfv.remote_voices import RemoteVoice


@pytest.mark.parametrize(
    ("reply", "objects"),
    [
        ('["cat", " red cup "]', ["cat", "red cup"]),
        ('```json\n["cat"]\n```', ["cat"]),
        ("Here: []", []),
        ('["cat", ""]', ["cat"]),
        ("cat, dog", None),
        ('["cat", 3]', None),
        ('{"objects": "cat"}', None),
        ('["cat"', None),
        ("", None),
        ("[" * 5000 + "]", None),
    ],
)
def test_a_list_is_read_out_of_a_reply(reply, objects):
    assert read_objects(reply) == objects


def test_answers_are_asked_about_once_and_short_ones_never(open_server, tmp_path):
    server = open_server({"1": ['["cat", "kitchen table"]'], "2": ["malformed"], "3": ['["dog"]']})
    judge = Judge(RemoteVoice("gpt-4", server.url, "gpt-4"), tmp_path / "judge.jsonl")
    items = [Item(id, "Describe it.") for id in ("1", "2", "3", "4", "5")]
    answers = {str(id): f"There is an item <{id}> here." for id in (1, 2, 3)} | {"4": "A cat."}
    objects = extract(items, answers, judge).objects
    assert objects == {"1": ["cat", "kitchen table"], "3": ["dog"], "4": []}
    found = extract(items, answers, judge)
    assert server.asked == {"1": 1, "2": 1, "3": 1}
    assert found.objects == objects and "1 reply is in no form" in found.notes[0]
    truth = {id: {"cat", "dining table"} for id in ("1", "2", "3", "4")}
    scored = score(truth, answers, found.objects, found.judge)
    assert scored.figures()["response_rate"] == 50.0 and set(scored.ids) == {"1", "3", "4"}
    assert "judge gpt-4-0613@" in scored.variant and "rlhfv-studio-1 (objects)" in scored.variant
