from types import SimpleNamespace

from rlhfv.corrections.edits import Edit
from rlhfv.evaluation.reask import judge_lexically, judge_with_truth

REJECTED = "There is a fork on the left, with a knife nearby."
KNIFE = (Edit(36, 41, "cup", "object"),)


def verdicts(answer, edits=KNIFE):
    return [verdict.verdict for verdict in judge_lexically(REJECTED, edits, answer)]


def test_lexical_verdicts():
    assert REJECTED[36:41] == "knife"
    assert verdicts("A fork with a cup nearby.") == ["mended"]
    assert verdicts("A fork with a Knife and a cup.") == ["still wrong"]
    assert verdicts("A fork.") == ["no longer mentioned"]


def test_words_both_sides_share_decide_nothing():
    edits = (Edit(9, 27, "a fork on the right", "position"),)
    assert verdicts("There is a fork on the right.", edits) == ["mended"]
    assert verdicts("There is a fork on the left.", edits) == ["still wrong"]


def test_deletion_and_insertion():
    assert verdicts("There is a fork.", (Edit(27, 48, "", "object"),)) == ["no longer mentioned"]
    assert verdicts("There is a fork.", (Edit(48, 48, " There is a cat.", "other"),)) == ["still wrong"]
    assert verdicts("There is a fork and a cat.", (Edit(48, 48, " There is a cat.", "other"),)) == ["mended"]


def test_truth_overrules_words():
    def world(*false):
        findings = [SimpleNamespace(start=start, end=end, is_true=False) for start, end in false]
        return SimpleNamespace(review=lambda *_: findings)

    # A knife that is truly there is no error, whatever was corrected elsewhere.
    answer = "A cup, with a knife nearby."
    assert [v.verdict for v in judge_with_truth(world(), "", "", REJECTED, KNIFE, answer)] == ["mended"]
    assert [v.verdict for v in judge_with_truth(world((14, 19)), "", "", REJECTED, KNIFE, answer)] == ["still wrong"]
    assert [v.verdict for v in judge_with_truth(world(), "", "", REJECTED, KNIFE, "A fork.")] == [
        "no longer mentioned"
    ]
    deleted = (Edit(27, 48, "", "object"),)
    assert [v.verdict for v in judge_with_truth(world(), "", "", REJECTED, deleted, "A fork.")] == ["mended"]
