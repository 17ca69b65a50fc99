"""`benchmark score` of several sets: POPE's splits and their mean, and only of one voice."""

import json

from tests.services.made_benchmark import make_pope, write_pope_answers


def test_three_splits_have_a_mean(say, tmp_path):
    make_pope(tmp_path / "data/benchmarks")
    folder, ids = tmp_path / "data/benchmarks/pope", []
    for split in ("popular", "adversarial"):
        (folder / f"coco_pope_{split}.json").write_bytes((folder / "coco_pope_random.json").read_bytes())
    for wrong, split in enumerate(("random", "popular", "adversarial")):
        answers = write_pope_answers(tmp_path / f"{split}.jsonl", ["No"] * wrong + ["Yes"] * (10 - wrong))
        ids.append(
            json.loads(say("benchmark", "import", f"pope-{split}", answers, "--by", "LLaVA", "--json")[1])["id"]
        )
    code, out, _ = say("benchmark", "score", *ids, "--json")
    scores = json.loads(out)
    assert code == 0 and [score["benchmark"] for score in scores][-1] == "pope" and len(scores) == 4
    accuracy = [score["figures"]["accuracy"]["value"] for score in scores]
    assert abs(accuracy[3] - sum(accuracy[:3]) / 3) < 1e-9 and len(set(accuracy[:3])) > 1
    code, out, _ = say("benchmark", "score", *ids)
    assert code == 0 and "benchmark: pope, all parts together" in out and "Mean of splits: F1" in out
    assert len(json.loads(say("benchmark", "score", *ids[:2], "--json")[1])) == 2
    answers = write_pope_answers(tmp_path / "other.jsonl", ["Yes"] * 10)
    other = json.loads(say("benchmark", "import", "pope-random", answers, "--by", "another", "--json")[1])["id"]
    code, _, err = say("benchmark", "score", other, *ids[1:])
    assert code == 2 and "differ in who answered" in err
