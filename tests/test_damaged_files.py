"""Small JSON files in folders that people edit: whatever stands in one is told in three parts or passed over."""

import json
from functools import partial
from types import SimpleNamespace

import pytest

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.corrections.edits import edits_from_rows
from rlhfv.corrections.recorded import read_recorded
from rlhfv.errors import InvalidData, RunFailed, StudioError
from rlhfv.evaluation import amber, chair, llava_bench, mmhal, object_halbench, pope
from rlhfv.evaluation.answer_files import read_answers_file
from rlhfv.evaluation.answer_sets import AnswerFolder, forget_imports, list_sets
from rlhfv.evaluation.benchmarks import benchmarks
from rlhfv.evaluation.demo_world import read_answers
from rlhfv.evaluation.judge import Judge
from rlhfv.evaluation.judge_log import read_log
from rlhfv.evaluation.judge_prompts import read_template
from rlhfv.evaluation.reproduce import kept_timing, read_kept, read_score
from rlhfv.evaluation.reproduce_model import read_cost
from rlhfv.evaluation.scene_score import MEASURES
from rlhfv.evaluation.score import Item
from rlhfv.evaluation.stamp import Stamp
from rlhfv.models.identity import adapter_digest, own_name, read_adapter_card
from rlhfv.publishing.adapters import _copy, read_adapter
from rlhfv.remote_voices import RemoteVoice
from rlhfv.run_folder import RunFolder
from rlhfv.runs.local import LocalRuns
from rlhfv.runs.state import Record
from rlhfv.services.people import People
from rlhfv.services.pins import Pins

WHOLE = ("[]", "3", '"x"', "{}", "null", '{"a": null}', "[null]", '[{"id": 1}]', '{"a": [1, 2', "", b"\xff\xfe\x00x")
ODD = (None, 3, "x", [1], [None], {}, {"a": None})
"""Put in the place of each value of a file that is as it should be."""


def damages(right):
    """`right` with each of its values made odd in turn, at any depth."""
    for where in right if isinstance(right, dict) else range(len(right)) if isinstance(right, list) else ():
        for odd in (*ODD, *damages(right[where])):
            damaged = right.copy()
            damaged[where] = odd
            yield damaged


def write(path, row):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode())


def spoil(file, right, read):
    """Reads the file in every state: nothing but a StudioError may come out."""
    read()
    for damaged in (*WHOLE, *damages(right)):
        write(file, damaged)
        try:
            read()
        except StudioError as error:
            assert all((error.what, error.why, error.fix))
        except Exception as error:
            raise AssertionError(f"{file.name} with {damaged!r:.200}") from error


# ---- the files of benchmarks

QUESTION = {"id": 1, "query": "Describe.", "image": "1.jpg"}
TRUTH = {"id": 1, "type": "generative", "truth": ["dog"], "hallu": ["cat"]}
AMBER = {
    "annotations.json": [TRUTH, {"id": 2, "type": "discriminative-attribute-state", "truth": "yes"}],
    "relation.json": {"dog": ["puppy"]},
    "safe_words.txt": "thing",
    **{path: [QUESTION | {"id": 2}] for path in amber._DISCRIMINATIVE_QUERIES},
    "query/query_generative.json": [QUESTION],
}


def read_amber(folder):
    amber.read_generative_items(folder)
    amber.score_generative(amber.read_generative_keys(folder), {"1": "A dog and a puppy."})


def read_amber_questions(folder):
    amber.read_discriminative_items(folder)
    amber.score_discriminative(amber.read_discriminative_keys(folder), {"2": "Yes"})


@pytest.mark.parametrize("name", AMBER)
def test_amber(tmp_path, name):
    for other, right in AMBER.items():
        write(tmp_path / other, right)
    for read in (read_amber, read_amber_questions):
        write(tmp_path / name, AMBER[name])
        spoil(tmp_path / name, AMBER[name], partial(read, tmp_path))
    write(tmp_path / name, AMBER[name])
    write(tmp_path / "relation.json", [])
    with pytest.raises(InvalidData, match=r"relation.json is not AMBER's"):
        amber.read_generative_keys(tmp_path)


def test_pope(tmp_path):
    right = {"question_id": 1, "image": "1.jpg", "text": "Is there a dog?", "label": "yes"}
    write(tmp_path / pope._file("random"), right)
    spoil(tmp_path / pope._file("random"), right, lambda: pope.read_questions(tmp_path, "random"))


COCO = {
    "images": [{"id": 1, "file_name": "COCO_val2014_000000000001.jpg"}],
    "categories": [{"id": 1, "name": "dog"}],
    "annotations": [{"image_id": 1, "category_id": 1, "caption": "A dog."}],
}


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("coco/annotations/instances_val2014.json", COCO),
        ("coco/annotations/captions_val2014.json", COCO),
        ("coco/chair_images.txt", "1"),
        ("object-halbench/obj_halbench_300_with_image.jsonl", {"image_id": 1, "question": "What is there?"}),
    ],
)
def test_what_is_counted_with_coco(tmp_path, name, right):
    for kind in ("instances", "captions"):
        write(tmp_path / f"coco/annotations/{kind}_val2014.json", COCO)
    write(tmp_path / name, right)

    def read():
        if "halbench" in name:
            object_halbench.score_folder(tmp_path, {"1": "A dog."})
        else:
            chair.score_folder(tmp_path, {"1": "A dog."})

    spoil(tmp_path / name, right, read)


def test_mmhal(tmp_path):
    row = {"question": "?", "gt_answer": "!", "image_content": ["dog"], "image_src": "http://a/b.jpg", "image_id": "1"}
    rows = [row | {"question_type": kind} for _ in range(mmhal.COUNT // len(mmhal.TYPES)) for kind in mmhal.TYPES]
    write(tmp_path / mmhal.FILE, rows)
    mmhal.read_keys(tmp_path)
    for first in (*WHOLE, *([one, *rows[1:]] for one in (*ODD, *damages(rows[0])))):
        write(tmp_path / mmhal.FILE, first)
        for read in (mmhal.read_items, mmhal.read_keys):
            try:
                read(tmp_path)
            except StudioError:
                continue


LLAVA = {
    **{"question_id": 1, "image": "1.jpg", "text": "?", "category": "conv", "captions": ["A dog."]},
    "instances": [{"category": "dog", "bbox": [1, 2, 3, 4]}],
}


@pytest.mark.parametrize("name", ["llava-bench", "llava-bench-wild"])
def test_llava_bench(tmp_path, name):
    files = [one.wanted.path for one in benchmarks()[name].files(tmp_path) if ".json" in one.wanted.path]
    for path in files:
        if path.endswith(".jsonl"):
            write(tmp_path / path, LLAVA)

    def read():
        llava_bench.read_items(tmp_path / name)
        llava_bench.read_keys(tmp_path / name)

    for path in files:
        rules = {"conv": {"prompt": "p", "role": "r"}, "llava_bench_conv": {"prompt": "p", "role": "r"}}
        right = LLAVA if path.endswith(".jsonl") else rules
        write(tmp_path / path, right)
        spoil(tmp_path / path, right, read)
        write(tmp_path / path, right)


# ---- answers and what judges said of them

STAMP = Stamp("pope-random", "a" * 64, decoding="greedy", values={"beams": 1}, model=ModelIdentity("m", "1"))


@pytest.fixture
def answers(tmp_path):
    folder = AnswerFolder(tmp_path / "sets" / "one")
    folder.begin("Mine", STAMP, 3, owner="me", notes=["imported"])
    folder.add([{"id": "1", "answer": "Yes", "served": "m-1", "left_out": ["temperature"]}])
    return folder


def read_set(folder):
    """As page and leaderboard do."""
    for one in list_sets(folder.path.parent):
        one.owner()
        seen = one.read()
        assert all(isinstance(line, str) for line in seen.stamp.lines.values())
        assert sorted([(seen.created, seen.id), ("", "")]) and " ".join(seen.notes) + seen.title + seen.voice
        assert {seen.stamp.model, seen.stamp.benchmark} and seen.done <= seen.total + 1


def test_the_stamp_of_answers(answers):
    file = answers.path / "stamp.json"
    spoil(file, json.loads(file.read_text()), lambda: read_set(answers))
    for damaged in WHOLE:
        write(file, damaged)
        assert forget_imports(answers.path.parent, 1e12) == 0 and answers.owner() == ""


def test_the_rows_of_answers(answers):
    file = answers.path / "answers.jsonl"
    right = json.loads(file.read_text())
    spoil(file, right, lambda: read_set(answers))
    for damaged in damages(right):
        if damaged["id"] == "1" and damaged["answer"] == "Yes":
            write(file, damaged)
            assert answers.read().done == 1, "what stands beside an answer does not cost the answer"


def test_figures_that_are_kept(answers):
    right = {"benchmark": "b", "variant": "", "ids": ["1"], "counts": {"a": [1]}, "wrong": [True], "notes": []}
    right |= {"faults": [[[0, 1, "object"]]], "clusters": []}
    write(answers.path / "scores" / "k.json", right)
    spoil(answers.path / "scores" / "k.json", right, lambda: answers.kept_score("k", MEASURES))
    for damaged in WHOLE:
        write(answers.path / "scores" / "k.json", damaged)
        assert answers.kept_score("k", MEASURES) is None


@pytest.mark.parametrize("event", ["asked", "reply", "lost", "refused"])
def test_what_a_judge_said(tmp_path, event):
    right = {"event": event, "request": "r", "item": "1", "server": "s", "model": "gpt-4", "finish_reason": "stop"}
    right |= {"text": "Rating: 3", "left_out": ["temperature"], "words": "none", "status": 500, "time": ""}
    judge = Judge(RemoteVoice("gpt-4", "http://127.0.0.1:9/v1", "gpt-4"), tmp_path / "judge.jsonl")

    def read():
        kept = read_log(judge.log)
        kept.perhaps_paid(["r"])
        for replies in kept.replies.values():
            assert [judge.kind(reply, len) for reply in replies]

    write(judge.log, right)
    spoil(judge.log, right, read)
    write(judge.log, {**right, "event": ["asked"]})
    assert read_log(judge.log).torn == 1


def test_the_words_for_a_judge(tmp_path):
    right = [{"role": "user", "content": "{question}"}]
    write(tmp_path / "prompt.txt", right)
    spoil(tmp_path / "prompt.txt", right, lambda: read_template(tmp_path / "prompt.txt", ["question"]))


@pytest.mark.parametrize("suffix", ["json", "jsonl", "tsv"])
def test_answers_from_elsewhere(tmp_path, suffix):
    file = tmp_path / f"answers.{suffix}"
    for right in (
        {"id": 1, "response": "A dog."},
        {"question_id": "1", "text": "Yes"},
        {"image_id": 1, "caption": "x"},
    ):
        for damaged in (*WHOLE, *([one] for one in damages(right)), *damages(right)):
            write(file, damaged)
            try:
                read_answers_file(file, [Item("1", "?", "1.jpg")])
            except StudioError:
                continue


# ---- experiments


def test_what_cells_keep(tmp_path):
    cost = {"seconds": 1.0, "machine": "m", "memory": None, "warnings": ["falling"]}
    write(tmp_path / "cost.json", cost)
    spoil(tmp_path / "cost.json", cost, lambda: read_cost(tmp_path))
    for damaged in WHOLE:
        write(tmp_path / "cost.json", damaged)
        with pytest.raises(InvalidData, match=r"cost.json in .* cannot be read.*Delete that folder"):
            read_cost(tmp_path)
        write(tmp_path / "score-b.json", damaged)
        with pytest.raises(InvalidData, match=r"score-b.json"):
            read_score(tmp_path, "b", MEASURES)
        write(tmp_path / "done.json", damaged)
        with pytest.raises(InvalidData):
            read_kept(tmp_path / "done.json", lambda row: float(row["seconds"]))


def test_a_damaged_timing_is_measured_again(tmp_path):
    right, cell = {"about": {"m": 1}, "seconds": {"visits": 2.0}}, SimpleNamespace(work={"visits": 3})
    for damaged in (*WHOLE, *damages(right)):
        write(tmp_path / "timing.json", damaged)
        assert kept_timing(tmp_path, {"m": 1}, lambda: {"visits": 1.0}).of(cell) in (0, 3, 9)


def test_answers_of_the_demo_world(tmp_path):
    right = {"scene": 1, "voice": "", "answer": "A dog."}
    write(tmp_path / "answers.jsonl", right)
    spoil(tmp_path / "answers.jsonl", right, lambda: read_answers(tmp_path / "answers.jsonl"))


# ---- runs and what they made

BASE = {"name": "demo", "revision": "1", "source": "demo"}
CONFIG = {
    **{"v": 1, "kind": "training", "title": "T", "created": "2026-01-01", "base": BASE, "parent": None},
    "training": {"recipe": "demo"},
}


@pytest.fixture
def runs(tmp_path):
    runs = LocalRuns(tmp_path)
    folder = RunFolder(runs.folder / "run")
    write(folder.config_file, CONFIG)
    write(folder.events_file, '{"v": 1, "kind": "step", "step": 1, "total_steps": 2}\n{"v": 1, "kind": "done"}\n')
    write(runs.records / "run.json", json.dumps(vars(Record())))
    return runs


def look(runs):
    """As the list of runs does, which has a place for a damaged one too."""
    [run] = runs.list()
    run.to_dict()
    assert run.title + run.created + run.kind
    if run.config:
        assert f"{run.config['base']['name']}" and run.config.get(run.kind, {}).get("recipe", "") is not run
        runs.base_path(run.config)
    runs.start_next()


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("runs/run/config.json", CONFIG),
        ("runs/run/results.json", {"v": 1}),
        ("runs/run/events.jsonl", {"v": 1, "kind": "step", "step": 1, "total_steps": 2, "eta": 1.0}),
        ("run_records/run.json", vars(Record())),
        ("locations.json", {"demo@1": "/base"}),
    ],
)
def test_a_run(runs, tmp_path, name, right):
    end = "\n" if name.endswith("l") else ""
    folder = RunFolder(runs.folder / "run")

    def read():
        look(LocalRuns(tmp_path))
        folder.read_results()

    for damaged in (right, *WHOLE, *damages(right)):
        write(tmp_path / name, json.dumps(damaged) + end if isinstance(damaged, (dict, list)) else damaged)
        try:
            read()
        except StudioError:
            continue
        except Exception as error:
            raise AssertionError(f"{name} with {damaged!r:.200}") from error


def test_a_checkpoint(runs):
    folder = RunFolder(runs.folder / "run")
    file = folder.checkpoints / "checkpoint-5" / "trainer_state.json"
    for damaged in WHOLE:
        write(file, damaged)
        assert folder.last_checkpoint() is None
    write(file, {"global_step": 5})
    assert folder.last_checkpoint() == file.parent


CARD = {"run": "r", "base": {"name": "a/b", "revision": "0" * 40}, "pairs": {"count": 1, "annotators": {"Ann": 1}}}


@pytest.mark.parametrize(("name", "right"), [("rlhfv.json", CARD), ("adapter_config.json", {"r": 8})])
def test_an_adapter(tmp_path, name, right):
    folder = tmp_path / "adapter"
    write(folder / "rlhfv.json", CARD)
    write(folder / "adapter_config.json", {"r": 8})
    write(folder / "adapter_model.safetensors", b"weights")
    write(folder / "README.md", "Ann (1)")

    def publish():
        _copy(folder, tmp_path / f"copy{len(list(tmp_path.iterdir()))}", read_adapter(folder), {}, None)

    for read in (
        partial(read_adapter_card, folder),
        partial(adapter_digest, folder),
        partial(own_name, folder),
        publish,
    ):
        write(folder / name, right)
        spoil(folder / name, right, read)
    write(folder / "rlhfv.json", CARD)
    write(folder / name, "[")
    with pytest.raises(RunFailed, match="damaged"):
        publish()


# ---- what the studio keeps, and what people hand in


def test_users_pins_and_corrections(tmp_path):
    users = {"users": [{"name": "Ann", "role": "owner", "password": "x"}]}
    write(tmp_path / "users.json", users)
    spoil(tmp_path / "users.json", users, People(tmp_path / "users.json").require_owner)
    write(tmp_path / "pins.json", {"a/b": "0" * 40})
    spoil(tmp_path / "pins.json", {"a/b": "0" * 40}, Pins(tmp_path / "pins.json").read)
    rows = [{"start": 2, "end": 5, "replacement": "blue", "kind": "attribute", "text": "red"}]
    for damaged in (json.loads("3"), None, {}, *damages(rows)):
        try:
            edits_from_rows(damaged, "A red dog")
        except StudioError:
            continue


@pytest.mark.parametrize("damaged", WHOLE)
def test_a_recorded_comparison(tmp_path, damaged):
    write(tmp_path / "recorded.json", damaged)
    with pytest.raises(InvalidData):
        read_recorded(tmp_path)
