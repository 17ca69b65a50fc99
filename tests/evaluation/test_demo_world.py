"""Answers with a known truth give the figures that a person would count; an evaluation goes on where it was killed."""

import json
import random
import signal
import sys
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import pytest

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.errors import InvalidData
from rlhfv.evaluation import demo_world, run
from rlhfv.evaluation.demo_world import EvaluatedVoice, answer_scenes, check_scenes, read_answers, require_world
from rlhfv.evaluation.report import build_results, render_table, shape_for_two
from rlhfv.models.catalog import Entry
from rlhfv.models.demo.language import describe
from rlhfv.models.demo.scenes import scene_from_source
from rlhfv.models.demo.world import DemoWorld
from rlhfv.run_folder import RunFolder

WORLD = DemoWorld()
VOICES = [EvaluatedVoice("", "Baseline"), EvaluatedVoice("new@1", "New")]


def truth(source):
    return describe(scene_from_source(source), random.Random(0), habits=False)


def lie(source):
    """The truth, and something absent."""
    absent = next(name for name in ("fork", "toilet") if name not in scene_from_source(source).counts())
    return f"{truth(source)} There is a {absent} on the left."


@dataclass
class ToldModel:
    """Answers what `say` gives for a picture's source; counts what it was asked."""

    say: dict
    asked: list = field(default_factory=list)
    identity: ModelIdentity = field(default_factory=lambda: ModelIdentity("told", "r1"))
    sources: dict = field(default_factory=dict)

    def answer_many(self, prompts, voice, sampling, image_path, batch_size):
        assert sampling.temperature == 0 and len(prompts) == batch_size
        answers = []
        for prompt in prompts:
            [name] = prompt.images
            assert name == sha256(image_path(name).read_bytes()).hexdigest() + ".png"
            source = self.sources[name]
            self.asked.append((source, voice))
            answers.append(self.say[voice](source))
        return answers

    def attach(self, path, name=None):
        return f"{name}@{Path(path, 'digest').read_text()}"


@pytest.fixture(scope="module")
def pictures():
    """Picture name → source of the first test scenes."""
    drawn = [WORLD.draw("test", seed) for seed in range(30)]
    return {sha256(data).hexdigest() + ".png": source for data, source in drawn}


@pytest.fixture
def told(pictures):
    return ToldModel({None: lie, "new@1": truth}, sources=pictures)


def collect(model, file, scenes=30, **options):
    return list(answer_scenes(model, VOICES, WORLD, scenes, file, **options))


def test_figures_are_those_a_person_would_count(told, tmp_path):
    file = tmp_path / "answers.jsonl"
    assert collect(told, file) == [(0, 60), (25, 60), (50, 60), (55, 60), (60, 60)]
    results = build_results(WORLD, VOICES, read_answers(file), 30)
    shaped = shape_for_two(results)
    baseline, aligned = shaped["baseline"], shaped["aligned"]
    assert baseline["response_rate"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert aligned["response_rate"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert baseline["recall"]["value"] == aligned["recall"]["value"] == aligned["target_recall"]["value"] == 1.0
    named = sum(len(scene_from_source(f"demo:test/{seed}").counts()) for seed in range(30))
    assert baseline["mention_rate"]["value"] == pytest.approx(30 / (named + 30))
    assert baseline["mention_rate"]["low"] < 30 / (named + 30) < baseline["mention_rate"]["high"]
    assert baseline["words"]["value"] == pytest.approx(aligned["words"]["value"] + 7)
    assert aligned["paired"]["response_rate"]["difference"]["value"] == -1
    assert aligned["paired"]["response_rate"]["relative_reduction"]["value"] == 1
    assert aligned["paired"]["words"]["difference"] == {"value": -7.0, "low": -7.0, "high": -7.0}
    assert "paired" not in baseline
    assert (baseline["kinds"]["any"]["value"], aligned["kinds"]["any"]["value"]) == (1, 0)
    assert sum(kind["scenes"] for kind in baseline["scene_types"].values()) == 30
    assert all(kind["response_rate"]["value"] == 1 for kind in baseline["scene_types"].values())
    assert results["outcomes"] == {"new@1": {"mended": 30, "broken": 0, "still wrong": 0, "right": 0}}
    assert len(results["examples"]) == 6
    first, second = results["examples"][0]["answers"]
    [claim] = [claim for claim in first["false"] if claim["kind"] == "object"]
    assert first["text"][claim["start"] : claim["end"]] in ("a fork", "a toilet") and second["false"] == []
    assert json.loads(json.dumps(results)) == results
    table = render_table(results)
    assert "100.0 % [100.0, 100.0]" in table and "New against Baseline" in table


def test_scenes_come_in_the_order_of_their_number(told, tmp_path):
    file = tmp_path / "answers.jsonl"
    collect(told, file)
    lines = file.read_text().split("\n")
    forwards = build_results(WORLD, VOICES, read_answers(file), 30)
    file.write_text("\n".join(reversed(lines)))
    assert build_results(WORLD, VOICES, read_answers(file), 30) == forwards
    assert [row["scene"] for row in forwards["examples"]] == [f"demo:test/{seed}" for seed in range(6)]


def test_what_is_answered_is_not_asked_again(told, tmp_path):
    file = tmp_path / "answers.jsonl"
    stop_after = iter([False, True])
    assert collect(told, file, stopped=lambda: next(stop_after)) == [(0, 60), (25, 60)]
    with open(file, "ab") as torn:
        torn.write(b'{"scene": "demo:test/25", "vo')
    collect(told, file)
    assert len(told.asked) == len(set(told.asked)) == 60
    assert len(read_answers(file)) == 60
    told.asked.clear()
    assert collect(told, file)[0] == (60, 60) and told.asked == []


def test_missing_answers_are_not_passed_over(told, tmp_path):
    file = tmp_path / "answers.jsonl"
    collect(told, file, 3)
    with pytest.raises(InvalidData, match="Resume"):
        build_results(WORLD, VOICES, read_answers(file), 4)
    with pytest.raises(InvalidData, match="Resume"):
        build_results(WORLD, VOICES, [one for one in read_answers(file) if one.voice == ""], 3)


def test_a_silent_voice_has_no_mentions_to_be_wrong_about(pictures, tmp_path):
    file = tmp_path / "answers.jsonl"
    collect(ToldModel({None: lie, "new@1": lambda source: ""}, sources=pictures), file, 5)
    results = build_results(WORLD, VOICES, read_answers(file), 5)
    silent = results["voices"][1]
    assert silent["mention_rate"] == {"value": None, "low": None, "high": None}
    assert silent["response_rate"]["value"] == silent["recall"]["value"] == 0
    [line] = [line for line in render_table(results).splitlines() if line.startswith("named objects that are absent")]
    assert line.endswith(" -")


@pytest.mark.parametrize("scenes", [0, -1, 501, 2.5, True, "5"])
def test_so_many_scenes_there_are(scenes):
    with pytest.raises(InvalidData):
        check_scenes(scenes)


def test_a_model_without_a_world_says_why():
    with pytest.raises(InvalidData, match="no world with a known truth"):
        require_world(Entry("org/model", "model", "org/model"))


# ---- as a run


@pytest.fixture
def evaluation(tmp_path, monkeypatch, told):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "digest").write_text("1")
    folder = RunFolder(tmp_path / "run")
    folder.create(
        {
            "kind": "evaluation",
            "title": "test",
            "base": {"name": "told", "revision": "r1", "source": "told"},
            "evaluation": {"scenes": 30, "voices": [{"adapter": "voice-1", "id": "new@1", "title": "New"}]},
        },
        [],
        Path,
        {"voice-1": adapter},
    )
    local = type(sys)("rlhfv.models.local")
    local.LocalModel = type("LocalModel", (), {"load": staticmethod(lambda entry: told)})
    monkeypatch.setitem(sys.modules, "rlhfv.models.local", local)
    monkeypatch.setattr("rlhfv.ddpo.base.find_base", lambda _: Entry("told", "Told", "told", world=WORLD))
    handler = signal.getsignal(signal.SIGTERM)
    yield folder
    signal.signal(signal.SIGTERM, handler)


def test_an_evaluation_is_a_run(evaluation, capsys):
    assert run.main([str(evaluation.path)]) == 0
    events = evaluation.read_events()[0]
    assert [event["state"] for event in events if event["kind"] == "state"] == ["starting", "running"]
    steps = [(event["step"], event["total_steps"]) for event in events if event["kind"] == "step"]
    assert steps[0] == (0, 60) and steps[-1] == (60, 60) and events[-1]["kind"] == "done"
    assert evaluation.read_results()["voices"][1]["id"] == "new@1"
    assert "New against Baseline" in capsys.readouterr().out


def test_a_stopped_evaluation_goes_on(evaluation, told, monkeypatch):
    answer_many = ToldModel.answer_many

    def stop_after_one(self, *arguments, **options):
        signal.raise_signal(signal.SIGTERM)
        return answer_many(self, *arguments, **options)

    monkeypatch.setattr(ToldModel, "answer_many", stop_after_one)
    assert run.main([str(evaluation.path)]) == 0
    assert evaluation.read_events()[0][-1]["state"] == "stopped" and evaluation.read_results() is None
    assert len(told.asked) == 25
    evaluation.stop_file.touch()  # left over from before: a new start is not stopped by it
    monkeypatch.setattr(ToldModel, "answer_many", answer_many)
    assert evaluate_to_the_end(evaluation) and len(told.asked) == len(set(told.asked)) == 60


def evaluate_to_the_end(folder):
    assert run.main([str(folder.path)]) == 0
    return folder.read_results() and folder.read_events()[0][-1]["kind"] == "done"


def test_another_adapter_or_base_is_refused(evaluation, told, capsys):
    (evaluation.adapter_path("voice-1") / "digest").write_text("2")
    claim_free = run.main([str(evaluation.path)])
    assert claim_free == 1
    error = evaluation.read_events()[0][-1]
    assert error["kind"] == "error" and "new@2" in error["why"]
    assert "new@2" in capsys.readouterr().err


def test_another_base_is_refused(evaluation, told):
    told.identity = replace(told.identity, revision="r2")
    assert run.main([str(evaluation.path)]) == 1
    assert "is not the one that was chosen" in evaluation.read_events()[0][-1]["what"]


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert run.main([str(tmp_path)]) == 2
    assert "no run" in capsys.readouterr().err


def test_the_first_500_test_scenes_are_the_figures_scenes():
    assert demo_world.SPLIT == "test" and demo_world.MAX_SCENES == 500
    assert WORLD.draw(demo_world.SPLIT, 0)[1] == "demo:test/0"
