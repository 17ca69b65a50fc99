"""`evaluate --benchmark`: baseline and adapter answer, and are compared, in one command that goes on where it was."""

import json
from types import SimpleNamespace

from rlhfv.commands.evaluations import _choose
from rlhfv.errors import ModelUnavailable
from rlhfv.services.benchmarking import Benchmarking
from rlhfv.services.model_host import Voice
from tests.services.made_benchmark import make_amber, make_pope


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


def test_each_voice_stands_beside_the_baseline_of_its_own_base():
    voices = [
        Voice("", "Baseline"),
        Voice("aligned", "Aligned", source="a"),
        Voice("base:two", "Two: baseline", base="base:two"),
        Voice("b", "Two: aligned", source="b", base="base:two"),
        Voice("gpt@server", "gpt", server="server"),
    ]
    services = SimpleNamespace(host=SimpleNamespace(voices=lambda actor: voices))

    def choose(*names):
        return [(one.title, other and other.title) for one, other in _choose(services, None, list(names))]

    assert choose("Two: aligned") == [("Two: baseline", "Two: aligned")]
    assert choose("Two: baseline") == [("Two: baseline", None)]
    assert choose("Aligned", "Two: baseline") == [("Baseline", "Aligned"), ("Two: baseline", None)]
    assert choose("Baseline", "Aligned", "aligned") == [("Baseline", "Aligned")]
    assert choose("gpt") == [("Baseline", "gpt")]
    assert len(choose()) == 3
    voices[1:] = []
    assert choose() == [("Baseline", None)]


def test_a_voice_that_cannot_answer_costs_the_others_nothing(say, scripted, tmp_path, monkeypatch):
    make_pope(tmp_path / "data/benchmarks")
    asked = Benchmarking.answer

    def answer(self, actor, benchmark, *rest):
        if benchmark == "pope-popular":
            raise ModelUnavailable("It is gone.", "It was deleted.", "Choose another.")
        return asked(self, actor, benchmark, *rest)

    (tmp_path / "data/benchmarks/pope/coco_pope_popular.json").write_bytes(
        (tmp_path / "data/benchmarks/pope/coco_pope_random.json").read_bytes()
    )
    monkeypatch.setattr(Benchmarking, "answer", answer)
    code, out, err = say("evaluate", "--benchmark", "pope-popular", "--benchmark", "pope-random", "--json")
    (found,) = json.loads(out)
    assert code == 1 and "It is gone." in err and found["benchmark"] == "pope-random"


def test_a_server_that_cannot_be_decoded_so_is_refused_first(say, scripted, tmp_path):
    make_pope(tmp_path / "data/benchmarks")
    remote = ("--remote", "gpt=http://127.0.0.1:9/v1#gpt")
    code, _, err = say("evaluate", "--benchmark", "pope-random", "--decoding", "rlhfv", "--voice", "gpt", *remote)
    assert code == 2 and "no beams" in err and json.loads(say("benchmark", "sets", "--json")[1]) == []


def test_what_is_for_benchmarks_is_refused_on_drawn_scenes(say, tmp_path):
    for words, named in (
        (("--pages", "x"), "--pages is"),
        (("--judge", "http://127.0.0.1:9/v1#m"), "--judge is"),
        (("--decoding", "greedy", "--batch-size", "16"), "--decoding and --batch-size are"),
        (("--judge-again",), "--judge-again is"),
    ):
        code, _, err = say("evaluate", *words)
        assert code == 2 and f"{named} for the field's benchmarks" in err
    assert not list(tmp_path.glob("data/runs/*"))


def test_broken_keys_and_pages_that_cannot_be_are_told_before_anything_is_answered(say, scripted, tmp_path):
    root = tmp_path / "data/benchmarks"
    make_amber(root, 3)
    keys = root / "amber/annotations.json"
    words = ("evaluate", "--benchmark", "amber-generative", "--voice", "baseline")
    (tmp_path / "file").write_text("")
    code, _, err = say(*words, "--pages", tmp_path / "file")
    assert code == 2 and f"{tmp_path / 'file'} could not be used" in err
    whole = keys.read_text()
    for text, told in (("[", "is not AMBER's"), ("[]", "none of the 3 questions of AMBER, generative")):
        keys.write_text(text)
        code, _, err = say(*words)
        assert code == 2 and told in err.replace("None", "none")
    assert json.loads(say("benchmark", "sets", "--json")[1]) == []
    keys.write_text(whole)
    assert say(*words)[0] == 0


def test_a_benchmark_that_is_named_twice_is_shown_once(say, scripted, tmp_path):
    make_pope(tmp_path / "data/benchmarks")
    _, out, _ = say("evaluate", *("--benchmark", "pope-random") * 2, "--voice", "baseline", "--json")
    assert len(json.loads(out)) == 1
