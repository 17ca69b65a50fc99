"""POPE and AMBER as one figure: only where every part is there and of one voice."""

from dataclasses import replace

import pytest

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.errors import InvalidData
from rlhfv.evaluation import amber, pope
from rlhfv.evaluation.amber import GenerativeKeys, YesNoKey
from rlhfv.evaluation.parts import put_together
from rlhfv.evaluation.pope import Questions
from rlhfv.evaluation.stamp import Stamp

SPLITS = [pope.score(Questions(split, "made up", (), {"1": "yes"}), {"1": "yes"}) for split in pope.SPLITS]
DESCRIBED = amber.score_generative(GenerativeKeys({"1": (("dog",), ())}, {"dog": []}, frozenset()), {"1": "a dog"})
ASKED = amber.score_discriminative({"2": YesNoKey("state", "no")}, {"2": "No"})


def together(*scores, **other):
    stamps = [Stamp(score.benchmark, f"questions of {score.benchmark}") for score in scores]
    return put_together(scores, [*stamps[:-1], *(replace(stamp, **other) for stamp in stamps[-1:])])


def test_only_what_is_whole_is_put_together():
    assert together() == together(*SPLITS[:2], DESCRIBED) == []
    assert [score.benchmark for score in together(ASKED, *SPLITS, DESCRIBED)] == ["pope", "amber"]
    assert together(*SPLITS)[0].figures()["f1"] == 100.0
    assert together(DESCRIBED, ASKED)[0].figures()["amber_score"] == 100.0


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"model": ModelIdentity("another", "1")}, "who answered"),
        ({"decoding": "greedy"}, "the decoding: unknown and greedy"),
        ({"prompt": "{question} Yes or no?"}, "the prompt"),
        ({"transform": "cut"}, "pictures were prepared"),
    ],
)
def test_parts_of_several_voices_are_refused(other, told):
    with pytest.raises(InvalidData, match=told):
        together(*SPLITS, **other)
