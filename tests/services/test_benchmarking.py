"""A benchmark through the services: asked once, kept, resumed, counted."""

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image

from rlhfv.errors import Forbidden, GenerationFailed, InvalidData, NotFound
from rlhfv.evaluation.answer_sets import AnswerFolder
from rlhfv.evaluation.score import Item
from rlhfv.models.decoding import find_decoding
from rlhfv.models.demo.world import DemoWorld
from rlhfv.models.generated import NOTHING, Generated
from rlhfv.services.actor import local_actor
from rlhfv.services.asking import ask, in_batches
from rlhfv.services.limits import Limits
from tests.services.fakes import ScriptedModel
from tests.services.made_benchmark import THINGS, make_pope

ME = local_actor()
ALIGNED = "Aligned with oracle corrections"


def test_a_benchmark_is_answered_in_batches_and_kept(bench, asked):
    states = list(bench.answer(ME, "pope-random", batch_size=4))
    assert [(state.done, state.total) for state in states] == [(0, 10), (4, 10), (8, 10), (10, 10)]
    assert states[0].seconds_left is None and states[-1].seconds_left == 0
    [one] = bench.answer_sets(ME)
    assert (one.done, one.total, one.voice, one.stamp.decoding) == (10, 10, "", "greedy")
    assert one.stamp.model == ScriptedModel.identity and one.stamp.prompt == "{question}"
    assert bench.answers(ME, one.id)["2"] == "baseline says: Is there a dog in the image?"
    assert bench.items(ME, one.id)[0] == Item("1", "Is there a cup in the image?", "coco/val2014/1.jpg", "random")
    assert bench.picture(ME, "coco/val2014/1.jpg").is_file() and bench.picture(ME, "../store") is None
    assert [state.done for state in bench.answer(ME, "pope-random")] == [10], "nothing is asked twice"
    assert len(asked) == 3


def test_beams_take_the_place_of_rows_and_are_another_set(bench, asked):
    [*_] = bench.answer(ME, "pope-random", decoding="rlhfv", batch_size=9)
    assert [len(batch) for batch in asked] == [3, 3, 3, 1]
    [*_] = bench.answer(ME, "pope-random")
    greedy, beams = sorted(bench.answer_sets(ME), key=lambda one: one.stamp.decoding)
    assert beams.stamp.values["beams"] == 3
    with pytest.raises(InvalidData, match='differ in the decoding: "greedy" and "rlhfv"'):
        bench.compare(ME, greedy.id, beams.id)


def test_stopped_in_the_middle_it_goes_on_there(bench, asked):
    running = bench.answer(ME, "pope-random", batch_size=4)
    next(running), next(running)
    running.close()
    stop = threading.Event()
    stop.set()
    assert [state.done for state in bench.answer(ME, "pope-random", stop=stop)] == [4]
    *_, last = bench.answer(ME, "pope-random", batch_size=4)
    assert last.done == 10
    assert sorted(question for batch in asked for question in batch) == sorted(
        f"Is there a {thing} in the image?" for thing in THINGS
    )


def test_a_torn_line_is_asked_again(bench, asked):
    [*_, last] = bench.answer(ME, "pope-random")
    file = bench.sets / last.id / "answers.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert bench.answer_set(ME, last.id).done == 9
    assert [state.done for state in bench.answer(ME, "pope-random")] == [9, 10]
    assert asked[1:] == [["Is there a box in the image?"]]


def test_an_item_that_fails_is_told_and_asked_again_next_time(bench, asked):
    asked.fail = ("fork", "bus")
    *_, last = bench.answer(ME, "pope-random", batch_size=4)
    assert (last.done, [failure.item for failure in last.failures]) == (8, ["3", "6"])
    asked.fail = ()
    assert [state.done for state in bench.answer(ME, "pope-random")] == [8, 10]


def test_one_writes_a_set_at_a_time(bench, asked):
    running = bench.answer(ME, "pope-random", batch_size=4)
    next(running)
    with pytest.raises(InvalidData, match="being written already"):
        next(bench.answer(ME, "pope-random"))
    running.close()


def test_missing_pictures_are_named(bench, asked):
    (bench.root / "coco/val2014/0.jpg").unlink()
    *_, last = bench.answer(ME, "pope-random")
    assert last.done == 5 and "coco/val2014/0.jpg" in str(last.failures[0].error)
    (bench.root / "coco/val2014/1.jpg").unlink()
    with pytest.raises(InvalidData, match=r"None of the 2 pictures.*1\.jpg, coco/val2014/0\.jpg.*cocodataset"):
        next(bench.answer(ME, "pope-random"))


def test_large_pictures_make_small_batches(tmp_path):
    for number in range(4):
        Image.new("1", (4000, 4000)).save(tmp_path / f"{number}.png")
    items = [Item(str(number), "?", f"{number}.png") for number in range(4)] + [Item("no", "?", "gone.png")]
    sizes = [[item.id for item in batch] for batch in in_batches(items, 16, tmp_path)]
    assert sizes == [["0", "1"], ["2", "3", "no"]]


def test_figures_are_counted_once_until_something_changes(bench, asked, monkeypatch):
    [*_, last] = bench.answer(ME, "pope-random")
    counted = []
    what = type("Counted", (), {})
    from rlhfv.evaluation.benchmarks import Benchmark

    score = Benchmark.score
    monkeypatch.setattr(Benchmark, "score", lambda *a, **b: counted.append(what) or score(*a, **b))
    first = bench.score(ME, last.id)
    assert bench.score(ME, last.id).figures() == first.figures() and len(counted) == 1
    bench.score(ME, last.id, "lenient")
    AnswerFolder(bench.sets / last.id).add([{"id": "1", "answer": "No"}])
    bench.score(ME, last.id)
    assert len(counted) == 3


def test_figures_survive_on_the_disk_where_their_measures_are_fixed(services, asked, monkeypatch):
    from rlhfv.evaluation import benchmarks
    from rlhfv.evaluation.score import Measure, Score

    measure = Measure("n", "N", "count", "", lambda sums: sums["n"])
    calls = []

    def count(folder, answers, variant, resources):
        import numpy as np

        calls.append(variant)
        return Score("pope-random", "v", tuple(answers), {"n": np.ones(len(answers))}, (measure,), np.zeros(10), ())

    table = {"pope-random": replace(benchmarks.find_benchmark("pope-random"), measures=(measure,), count=count)}
    monkeypatch.setattr(benchmarks, "benchmarks", lambda: table)
    bench = services.benchmarking
    make_pope(bench.root)
    [*_, last] = bench.answer(ME, "pope-random")
    assert bench.score(ME, last.id).figures() == {"n": 10.0}
    bench._memory.clear()
    assert bench.score(ME, last.id).figures() == {"n": 10.0} and len(calls) == 1


def test_answers_to_other_questions_are_not_counted(bench, asked):
    """An id may name another question there, and the figure would be of neither."""
    [*_, last] = bench.answer(ME, "pope-random")
    counted = bench.score(ME, last.id)
    file = bench.root / "pope/coco_pope_random.json"
    old = file.read_text()
    file.write_text(old.replace("a cup", "a plate"))
    for count in (lambda: bench.score(ME, last.id), lambda: bench.compare(ME, last.id, last.id)):
        with pytest.raises(InvalidData, match="'Baseline, POPE, random, greedy' answers other questions") as told:
            count()
        assert bench.answer_set(ME, last.id).stamp.questions[:12] in told.value.why
    file.write_text(old)
    assert bench.score(ME, last.id).ids == counted.ids
    file.unlink()
    with pytest.raises(InvalidData, match="is missing"):
        bench.score(ME, last.id)


def test_refusals(bench, asked, ada, bob):
    with pytest.raises(Forbidden):
        next(bench.answer(replace(ada, rights=frozenset({"chat"})), "pope-random"))
    with pytest.raises(NotFound):
        next(bench.answer(ME, "pope"))
    with pytest.raises(NotFound):
        next(bench.answer(ME, "pope-random", "nobody"))
    with pytest.raises(InvalidData, match="decoding"):
        next(bench.answer(ME, "pope-random", decoding="beam"))
    with pytest.raises(InvalidData, match="missing"):
        next(bench.answer(ME, "mmhal"))
    bench.limits = Limits(10, 240)
    with pytest.raises(Forbidden):
        next(bench.answer(replace(ada, rights=ada.rights - {"manage"}), "pope-random"))


def test_a_model_that_goes_away_ends_it(bench, monkeypatch):
    def broken(*_, **__):
        raise GenerationFailed("The model failed.", "It broke.", "Ask again.")

    monkeypatch.setattr(ScriptedModel, "answer_many", broken)
    *_, last = bench.answer(ME, "pope-random")
    assert last.done == 0 and len(last.failures) == 10


@pytest.mark.parametrize("answered", [None, 4])
def test_stop_is_heard_while_the_model_is_waited_for(services, bench, asked, answered):
    """Another one loads it, before the first batch or between two."""
    stop, told = threading.Event(), []

    def answer():
        for state in bench.answer(ME, "pope-random", stop=stop, batch_size=4):
            told.append(state.done)
            if state.done == answered:
                wait_for_it()

    def wait_for_it():
        services.host.first.model, services.host.bases._loading = None, services.host.first

    if answered is None:
        wait_for_it()
    answering = threading.Thread(target=answer, daemon=True)
    answering.start()
    answering.join(0.3)
    assert answering.is_alive()
    stop.set()
    answering.join(5)
    assert not answering.is_alive() and told == ([] if answered is None else [0, 4])
    assert [one.done for one in bench.answer_sets(ME)] == ([] if answered is None else [4])


def test_every_benchmark_is_offered_with_its_files(bench):
    offered = {one.benchmark.name: one for one in bench.benchmarks(ME)}
    assert offered["pope-random"].ready and not offered["mmhal"].ready
    assert [file.there for file in offered["pope-random"].files] == [True, True]


def test_what_a_server_had_answered_before_it_was_stopped_is_kept(tmp_path):
    stop = threading.Event()
    stop.set()
    ended = Generated("Yes", True, (), (), 0, extra={})
    failed = GenerationFailed("No.", "It broke.", "Again.")
    model = SimpleNamespace(answer_each=lambda *_: [ended, NOTHING, failed])
    items = [Item(name, "?") for name in "abc"]
    voice, how = SimpleNamespace(server="s"), find_decoding("greedy")
    assert ask(model, items, voice, how, tmp_path, stop) == ([{"id": "a", "answer": "Yes"}], [])


def write_scenes(root, count):
    """A POPE-like split on scenes of the demo world, six questions each."""
    world = DemoWorld()
    (root / "pope").mkdir(parents=True)
    (root / "coco/val2014").mkdir(parents=True)
    rows = []
    for seed in range(count):
        picture, source = world.draw("validation", seed)
        (root / f"coco/val2014/{seed}.png").write_bytes(picture)
        there = world.truth(source).counts()
        for thing in ("cup", "apple", "lamp", "chair", "book", "ball"):
            text, label = f"Is there a {thing} in the picture?", "yes" if there.get(thing) else "no"
            rows.append({"question_id": len(rows), "image": f"{seed}.png", "text": text, "label": label})
    (root / "pope/coco_pope_random.json").write_text("\n".join(map(json.dumps, rows)))


@pytest.mark.slow
@pytest.mark.parametrize("decoding", ["greedy", "rlhfv"])
def test_killed_twice_it_has_what_it_would_have_had(tmp_path, decoding):
    """The demo model's aligned adapter answers 120 questions; `kill -9` twice, and once a line is torn."""
    write_scenes(tmp_path / "files", 20)

    def command(data):
        words = ["benchmark", "answer", "pope-random", "--decoding", decoding, "--voice", ALIGNED, "--json"]
        places = ["--benchmarks", str(tmp_path / "files"), "--data-dir", str(tmp_path / data)]
        return [sys.executable, "-m", "rlhfv", *words, *places]

    def lines():
        files = list((tmp_path / "killed").glob("evaluations/*/answers.jsonl"))
        return files[0].read_bytes().count(b"}\n") if files else 0

    for reached in (20, 60):
        process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while lines() < reached:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert lines() < 120
        [file] = (tmp_path / "killed").glob("evaluations/*/answers.jsonl")
        file.write_bytes(file.read_bytes()[:-9])
    told = json.loads(subprocess.run(command("killed"), check=True, capture_output=True).stdout)
    assert told["done"] == told["total"] == 120 and told["failed"] == []
    assert lines() <= 122, "only what was torn is asked again"
    subprocess.run(command("whole"), check=True, capture_output=True)
    answers = [AnswerFolder(tmp_path / data / "evaluations" / told["id"]).answers() for data in ("killed", "whole")]
    assert answers[0] == answers[1] and len(answers[0]) == 120
    assert len(set(answers[0].values())) > 5
