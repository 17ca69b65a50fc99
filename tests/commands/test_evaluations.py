"""`evaluate --benchmark`: baseline and adapter answer, and are compared, in one command that goes on where it was."""

import json

from tests.services.made_benchmark import make_pope


def test_the_aligned_adapter_is_compared_with_its_baseline(say, tmp_path, monkeypatch):
    make_pope(tmp_path / "data/benchmarks", count=4)
    words = ("evaluate", "--benchmark", "pope-random", "--pages", tmp_path / "pages")
    code, out, err = say(*words)
    assert code == 0 and "== pope-random" in out and "Accuracy" in out and "McNemar" not in err
    (page,) = (tmp_path / "pages").glob("*.html")
    assert "<article" in page.read_text() and f"Written to {page}" in err

    def refuse(*_, **__):
        raise AssertionError("what is answered is not asked again")

    monkeypatch.setattr("rlhfv.services.benchmarking.ask", refuse)
    code, out, _ = say(*words, "--json")
    (found,) = json.loads(out)
    assert code == 0 and found["items"] == 4 and found["benchmark"] == "pope-random"
    assert set(found["changes"]["accuracy"]) == {"before", "after", "difference"}
    titles = {one["id"]: one["title"] for one in json.loads(say("benchmark", "sets", "--json")[1])}
    assert titles[found["before_id"]].startswith("Baseline,") and titles[found["after_id"]].startswith("Aligned")


def test_a_baseline_alone_is_scored(say, scripted, tmp_path):
    make_pope(tmp_path / "data/benchmarks")
    code, out, _ = say("evaluate", "--benchmark", "pope-random", "--voice", "baseline")
    assert code == 0 and "items: 10" in out and "Accuracy" in out
    (found,) = json.loads(say("evaluate", "--benchmark", "pope-random", "--json")[1])
    assert found["items"] == 10 and found["figures"]["accuracy"]["value"] == 50


def test_what_could_not_be_counted_is_refused_before_it_is_answered(say, scripted, tmp_path):
    make_pope(tmp_path / "data/benchmarks")
    code, _, err = say("evaluate", "--benchmark", "pope-random", "--benchmark", "amber-generative")
    assert code == 2 and "amber/query/query_generative.json" in err
    folder = tmp_path / "data/benchmarks/mmhal"
    folder.mkdir()
    (folder / "mmhal-bench_answer_template.json").write_text("[]")
    code, _, err = say("evaluate", "--benchmark", "pope-random", "--benchmark", "mmhal")
    assert code == 2 and "--judge" in err
    assert say("evaluate", "--benchmark", "no-such-thing")[0] == 2
    code, _, err = say("evaluate", "--benchmark", "pope-random", "--scenes", "5")
    assert code == 2 and "--scenes" in err
    assert json.loads(say("benchmark", "sets", "--json")[1]) == []
