"""`reproduce --model … --data …` as one would type it, on a Hub of the tests' own: plan, kill, resume, page."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rlhfv.cli import main
from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.corrections.pairs import PreferencePair
from rlhfv.errors import InvalidData
from rlhfv.evaluation.benchmarks import benchmarks
from rlhfv.evaluation.reproduce_model import USED, Experiment, plan_cells
from rlhfv.models.catalog import Entry
from rlhfv.models.decoding import DECODINGS
from rlhfv.run_folder import RunFolder
from rlhfv.runs.local import build_command
from rlhfv.services.reproduce_source import expected_pairs, find_source
from rlhfv.services.reproducing import ModelWork, check_benchmarks
from tests.models.tiny import build_llava
from tests.services.made_experiment import PAIRS, make_benchmarks, make_data, make_model

ROOT = Path(__file__).resolve().parents[2]
MODEL, DATA = "llava-hf/llava-1.5-7b-hf", "openbmb/RLHF-V-Dataset"
WITHOUT_COMMIT = ("openbmb/RLHF-V-Dataset", f"{DATA}@main", f"{DATA}@{'a' * 39}", f"{DATA}@{'A' * 40}")


@pytest.mark.parametrize("named", WITHOUT_COMMIT)
def test_data_of_the_hub_needs_its_commit(named):
    with pytest.raises(InvalidData, match="exact commit"):
        find_source(named)


def test_data_is_named_by_what_is_in_it(tmp_path):
    source = find_source(f"{DATA}@{'a' * 40}")
    assert (source.id, source.commit, expected_pairs(source)) == (DATA, "a" * 40, 5733)
    with pytest.raises(InvalidData, match="neither a file or folder"):
        find_source(str(tmp_path / "nothing"))
    make_data(tmp_path / "pairs.parquet", 3)
    before = find_source(str(tmp_path))
    assert expected_pairs(before) == 3 and before.path == tmp_path
    make_data(tmp_path / "pairs.parquet", 4)
    assert find_source(str(tmp_path)).name != before.name, "other rows are other data"


def test_pairs_of_a_file_are_counted_and_what_holds_none_is_refused(tmp_path):
    row = {"question": "What is there?", "chosen": "A cup.", "rejected": "A cat."}
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, [row, {**row, "chosen": "A hat."}, {**row, "chosen": 7}])))
    assert expected_pairs(find_source(str(file))) == 2
    for content in (b"", b"[]", b'{"question": "Wh', b"\x89PNG\x00\xff", b"PAR1torn", b'{"some": "thing"}'):
        file.write_bytes(content)
        with pytest.raises(InvalidData, match=r"pairs\.jsonl holds no pair"):
            expected_pairs(find_source(str(file)))
    file.write_text(json.dumps({**row, "chosen": 7}))
    with pytest.raises(InvalidData, match=r"No row of pairs\.jsonl@.* is a pair"):
        expected_pairs(find_source(str(file)))


def test_a_plan_is_made_of_the_benchmarks_that_are_here(tmp_path, capsys):
    root, file = make_benchmarks(tmp_path / "benchmarks"), make_data(tmp_path / "pairs.parquet", 3)
    build_llava(tmp_path / "tiny")
    (root / "amber" / "relation.json").unlink()
    words = ["reproduce", "--model", str(tmp_path / "tiny"), "--data", str(file), "--benchmarks", str(root)]
    words += ["--data-dir", str(tmp_path / "data"), "--seeds", "1", "--recipes", "dpo", "--plan"]
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["cells"]) == 1 + 6 + 1 + 6
    assert "amber/relation.json" in err and "The plan leaves out amber-generative" in err
    assert main(words[:-1]) == 2 and "1 of 7 benchmarks lack files" in capsys.readouterr().err


def test_what_benchmarks_lack_is_listed_with_its_source(tmp_path):
    root = make_benchmarks(tmp_path / "benchmarks")
    ready, lacking = check_benchmarks(root, USED)
    assert not lacking and ready["pope-random"][1] == 24 and ready["amber-discriminative"][1] == 18
    assert ready["chair"][0] == benchmarks()["chair"].digest(root)
    (root / "amber" / "relation.json").unlink()
    next((root / "coco" / "val2014").iterdir()).unlink()
    ready, lacking = check_benchmarks(root, USED)
    assert list(ready) == ["amber-discriminative"]
    assert (
        "amber/relation.json" in lacking["amber-generative"][0] and "junyangwang0410" in lacking["amber-generative"][0]
    )
    assert lacking["pope-popular"][0].startswith("1 of 6 pictures") and "cocodataset.org" in lacking["chair"][0]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--model", MODEL], "--model alone"),
        (["--leave-out", "zz"], "--leave-out is for a real model"),
        (["--price-per-hour", "-1", "--seeds", "2"], "--seeds and --price-per-hour are for a real model"),
        (["--data", f"{DATA}@{'a' * 40}"], "--data alone"),
        (["--model", MODEL, "--data", f"{DATA}@{'a' * 40}", "--quick"], "--quick"),
        (["--model", MODEL, "--data", f"{DATA}@{'a' * 40}", "--seeds", "0"], "at least once"),
        (["--model", MODEL, "--data", f"{DATA}@{'a' * 40}", "--leave-out", "pop", "mme"], "no benchmark 'mme'"),
        (["--model", MODEL, "--data", f"{DATA}@{'a' * 40}"], "7 of 7 benchmarks lack files"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_fetched(flags, told, tmp_path, capsys):
    assert main(["reproduce", "--data-dir", str(tmp_path), *flags]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "reproduce").exists()


def test_trainings_run_as_a_file_of_accelerate_says(tmp_path):
    command = build_command("training", tmp_path, tmp_path / "two.yaml")
    assert command[3:] == ["--config_file", str(tmp_path / "two.yaml"), "-m", "rlhfv.ddpo.train", str(tmp_path)]


def test_a_training_that_learnt_nothing_yet_takes_other_ways_to_save_memory(tmp_path):
    asked = Experiment("tiny@1", "data@1", 1, {}, DECODINGS["greedy"], ("dpo",), (1,))
    cells = plan_cells(asked)
    data, cell = cells[0].folder(tmp_path), cells[1]
    (data / "images").mkdir(parents=True)
    pair = PreferencePair.from_row({"id": "one", "question": "q", "chosen": "a cup", "rejected": "a cat"})
    (data / "pairs.jsonl").write_text(json.dumps(pair.to_row()) + "\n")

    def work(**saving):
        base, entry = ModelIdentity("tiny", "1"), Entry("tiny", "tiny", "owner/tiny", is_local=False)
        return ModelWork(
            entry, base, find_source(str(data)), tmp_path, tmp_path, cells, threading.Event(), saving=saving
        )

    run = RunFolder(cell.folder(tmp_path))
    work()._freeze(cell, run)
    assert run.read_config()["base"] == {"name": "tiny", "revision": "1", "source": "owner/tiny"}
    assert not work()._is_to_begin_anew(cell, run)
    assert work(gradient_checkpointing=1)._is_to_begin_anew(cell, run)
    checkpoint = run.checkpoints / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text('{"global_step": 3}')
    assert not work(gradient_checkpointing=1)._is_to_begin_anew(cell, run), "what was learnt goes on as it began"


# ---- the whole path


@pytest.fixture
def publish(hub, connect, tmp_path):
    """The tiny LLaVA under the name of LLaVA-1.5-7B, and corrections under that of RLHF-V's; gives their commit."""
    owners = [connect(hub.user(name)) for name in ("llava-hf", "openbmb")]
    folder = make_model(tmp_path / "tiny")
    owners[0].create_repo(MODEL)
    owners[0].upload_folder(repo_id=MODEL, folder_path=folder)
    file = make_data(tmp_path / "RLHF-V-Dataset.parquet")
    owners[1].create_repo(DATA, repo_type="dataset")
    done = owners[1].upload_file(
        repo_id=DATA, repo_type="dataset", path_or_fileobj=file, path_in_repo="RLHF-V-Dataset.parquet"
    )
    return done.oid


@pytest.mark.slow
def test_the_whole_path_on_a_tiny_llava_with_a_kill_and_a_stop(publish, hub, tmp_path):
    root, work = make_benchmarks(tmp_path / "benchmarks"), tmp_path / "work"
    environment = hub.environment(None, tmp_path / "home") | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rlhfv", "reproduce", "--model", MODEL, "--data", f"{DATA}@{publish}"]
    command += ["--benchmarks", str(root), "--data-dir", str(tmp_path / "data"), "--work", str(work)]
    command += ["--recipes", "dpo", "paper", "--seeds", "1", "--price-per-hour", "2.5"]

    def start(*more: str) -> subprocess.Popen:
        return subprocess.Popen([*command, *more], env=environment, cwd=ROOT, stdout=-1, stderr=-1, text=True)

    began = time.monotonic()
    out, err = (planned := start("--plan", "--json")).communicate()
    assert planned.returncode == 0, err
    plan = json.loads(out)
    assert len(plan["cells"]) == 1 + 7 + 2 + 2 * 7 and plan["seconds_left"] > 0 and not any_done(plan)
    assert plan["memory"].keys() == {"dpo", "paper"} and "made-up pairs" in plan["told"][0]

    killed = start()
    try:
        [run] = wait_for(lambda: list(work.glob("cells/dpo-s1-??????????")))
        wait_for(lambda: len(steps(run)) >= 3)
    finally:
        killed.kill()
    killed.communicate()
    wait_for(lambda: "stopped" in states(run), 90)  # its trainer was on a leash
    assert not (run / "adapter").exists()
    kept = (next(work.glob("cells/base-on-chair-*")) / "answers.jsonl").stat().st_mtime_ns

    stopped = start()
    wait_for(lambda: list(work.glob("cells/dpo-s1-on-object-halbench-*")) or stopped.poll() is not None)
    stopped.send_signal(signal.SIGTERM)
    _, err = stopped.communicate()
    assert stopped.returncode == 130, err
    assert resumed(run), "it went on from its checkpoint"
    shutil.rmtree(tmp_path / "tiny")

    out, err = (ended := start()).communicate()
    assert ended.returncode == 0, err
    assert "dpo-s1: training" not in err and "paper-s1: training" not in err, "what was done stays done"
    assert (next(work.glob("cells/base-on-chair-*")) / "answers.jsonl").stat().st_mtime_ns == kept
    seconds, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\n{seconds:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of one processor, load {os.getloadavg()[0]:.1f}")
    assert used.ru_utime + used.ru_stime < 200

    page, figures = (work / "page.md").read_text(), json.loads((work / "page.json").read_text())
    assert page.rstrip() == out.rstrip() and figures["cells"]["missing"] == []
    assert f"# DDPO against DPO on {MODEL}" in page and f"{DATA}@{publish}: {PAIRS} pairs" in page
    assert "padded to a square with the mean colour" in page and "not padded" not in page
    assert "Left out" not in page
    [contest] = figures["contests"]
    assert contest["recipe"] == "paper" and len(contest["for_ddpo"] + contest["for_dpo"] + contest["open"]) == 7
    assert "| LLaVA-1.5-7B with RLHF-V's data | Object HalBench, lexical: " in page and "| 28.5 | RLAIF-V" in page
    assert "| 78.5 | TPO (token-level), arXiv 2412.14487, Table 2" in page

    tables = {table["title"]: {row["label"]: row["figures"] for row in table["rows"]} for table in figures["tables"]}
    assert tables["CHAIR"]["base"]["response_rate"]["value"] == 100, "of every picture it says that there is a cat"
    assert tables["CHAIR"]["base"]["mention_rate"]["value"] == 50
    assert tables["Object HalBench, lexical"]["base"]["recall"]["value"] == 50, "it never names the cup"
    assert tables["AMBER, generative, exact words"]["base"]["cover"]["value"] == pytest.approx(50, abs=0.01)
    # Of two there and two not, in each split: "Yes" to all but the car.
    assert tables["POPE, mean of three splits"]["base"]["accuracy"]["value"] == 75
    assert tables["AMBER, discriminative, AMBER's own reading"]["base"]["recall"]["value"] == 50
    assert all(row.keys() == {"base", "dpo", "paper"} for row in tables.values()) and len(tables) == 6

    costs = {row["arm"]: row for row in figures["costs"]}
    assert costs["base"]["training_seconds"] is None and costs["base"]["answering_seconds"] > 0
    for arm in ("dpo", "paper"):
        cost = costs[arm]
        assert cost["training_seconds"] > 1 and cost["pairs_per_second"] > 0 and cost["memory"] > 10**8
        assert cost["estimated_memory"] > 10**8 and cost["all_seconds"] > cost["training_seconds"]
        assert cost["dollars"] == pytest.approx(cost["all_seconds"] / 3600 * 2.5, abs=1e-3)


def wait_for(look, seconds=600):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not come")


def events(run):
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines() if line]


def steps(run):
    return [event for event in events(run) if event["kind"] == "step"] if (run / "events.jsonl").exists() else []


def states(run):
    return [event.get("state") for event in events(run)]


def resumed(run):
    return any(event.get("resumed") for event in events(run))


def any_done(plan):
    return [cell["name"] for cell in plan["cells"] if cell["done"]]
