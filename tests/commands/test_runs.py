"""`train`, `evaluate` and `runs`: started, followed, stopped, resumed and exported from a terminal."""

import json
import shlex

import pytest

from rlhfv.cli import build_parser, main
from rlhfv.commands.runs import training_fields
from rlhfv.ddpo.config import RECIPES, TrainingConfig
from rlhfv.run_folder import RunFolder


def test_train_follows_a_run_to_its_end(say, scripted, worker, data):
    say("pairs", "import", data)
    code, out, err = say("train", "--recipe", "paper", "--gamma", "3", "--seam", "--normalised", "false", "--json")
    assert code == 0, err
    run = json.loads(out)
    settings = run["config"]["training"]
    assert run["state"] == "done" and settings == {
        **RECIPES["paper"].to_dict(),
        "gamma": 3.0,
        "seam": True,
        "normalised": False,
    }
    assert "goes on without this terminal" in err
    listed = json.loads(say("runs", "list", "--json")[1])
    assert [one["id"] for one in listed] == [run["id"]] and run["id"] in say("runs", "list")[1]
    shown = say("runs", "show", run["id"])[1]
    assert "gamma: 3.0" in shown and "| step 2" in shown
    assert say("runs", "export", run["id"], data.parent / "adapter")[0] == 2
    assert say("runs", "resume", run["id"])[0] == 2
    events = [json.loads(line) for line in say("runs", "follow", run["id"], "--json")[1].splitlines()]
    assert [event["kind"] for event in events] == ["state", "step", "step", "done"]


def test_train_on_a_file(say, scripted, worker, data, tmp_path):
    say("pairs", "import", data)
    say("pairs", "export", tmp_path / "exported")
    code, out, _ = say("train", "--data", tmp_path / "exported", "--data-dir", tmp_path / "other", "--detach")
    folder = tmp_path / "other" / "runs" / out.strip()
    assert code == 0 and len(list((folder / "images").iterdir())) == 1
    assert json.loads((folder / "pairs.jsonl").read_text())["rejected"] == "A dog 🐶 sits."


def test_a_failed_run_has_its_code(say, scripted, worker, data):
    worker("error")
    say("pairs", "import", data)
    code, _, err = say("train")
    assert code == 1 and "The loss is not a number. The rate is 5. Lower it." in err


def test_stop_and_resume(say, scripted, worker, data):
    worker("slow")
    say("pairs", "import", data)
    run_id = say("train", "--detach", "--title", "by hand")[1].strip()
    assert json.loads(say("runs", "stop", run_id, "--json")[1])["state"] in ("stopping", "stopped")
    assert "by hand: stopped" in say("runs", "follow", run_id)[2]
    worker("quick")
    code, out, _ = say("runs", "resume", run_id, "--json")
    assert code == 0 and json.loads(out)["state"] == "done", "what it says is how it ended"
    assert json.loads(say("runs", "show", run_id, "--json")[1])["state"] == "done"


@pytest.mark.parametrize("bad", [("--learning-rate", "-1"), ("--batch-size", "0"), ("--data", "nowhere.jsonl")])
def test_settings_that_cannot_work(say, scripted, worker, data, bad):
    code, _, err = say("train", *bad)
    assert code == 2 and err.startswith("Error: ")


@pytest.mark.parametrize("bad", [("--recipe", "unheard"), ("--seam", "perhaps"), ("--batch-size", "many")])
def test_flags_of_another_type(bad, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", *bad])
    assert ended.value.code == 2 and "Traceback" not in capsys.readouterr().err


def test_every_setting_is_a_flag():
    arguments = vars(build_parser().parse_args(["train"]))
    for field in training_fields():
        assert arguments[field["name"]] is None
    assert {field["name"] for field in training_fields()} | {"recipe", "source"} == set(TrainingConfig().to_dict())


def test_the_command_that_the_page_shows_says_the_same(scripted, tmp_path):
    from rlhfv.services import build_services, local_actor
    from rlhfv.settings import Settings

    services = build_services(Settings(data_dir=tmp_path, model="scripted"))
    config = RECIPES["paper"].changed(gamma=2.5, seam=True, normalised=False, steps=7, schedule="linear")
    words = shlex.split(services.training.command(local_actor(), config))
    arguments = vars(build_parser().parse_args(words[words.index("train") :]))
    changes = {name: arguments[name] for name in (field["name"] for field in training_fields())}
    changes = {name: value for name, value in changes.items() if value is not None}
    assert TrainingConfig.from_dict({"recipe": arguments["recipe"], **changes}) == config
    assert arguments["model"] == "scripted"


def test_a_model_without_a_world_cannot_be_evaluated(say, scripted):
    code, _, err = say("evaluate")
    assert code == 2 and "world" in err


@pytest.fixture
def evaluation(tmp_path):
    """The folder of an evaluation that has ended."""
    folder = RunFolder(tmp_path / "data" / "runs" / "evaluation-1")
    config = {"kind": "evaluation", "title": "two\nlines", "created": "2026", "evaluation": {"scenes": 2}}
    config["base"] = {"name": "demo", "revision": ""}
    folder.create(config, [], None)
    for done in range(1, 4):
        folder.append_event("log", text="Reading", done=done, total=3)
    folder.append_event("log", text="A word about it", probe_recall=0.5, step=4)
    folder.append_event("step", step=4, total_steps=4)
    folder.append_event("done")
    return folder


def test_an_evaluation_is_a_run_like_any_other(say, evaluation):
    _, out, err = say("runs", "list")
    assert out.splitlines() == ["evaluation-1  evaluation  done      100%  two lines"] and "1 run" in err
    assert json.loads(say("runs", "show", "evaluation-1", "--json")[1])["kind"] == "evaluation"
    assert "scenes: 2" in say("runs", "show", "evaluation-1")[1]
    code, _, err = say("runs", "export", "evaluation-1", "somewhere")
    assert code == 2 and "Only a training run makes an adapter." in err
    assert say("runs", "stop", "evaluation-1")[0] == 0


def test_a_run_shows_what_it_took_beside_what_was_estimated(say, evaluation):
    figures = {"seconds": 90.0, "memory": 2e9, "estimated_seconds": 80.0, "estimated_memory": 3e9}
    evaluation.write_results({"figures": figures, "on_gpu": True})
    shown = say("runs", "show", "evaluation-1")[1]
    assert "It took 90 s, and 2.00 GB at the peak of one GPU; estimated were 80 s and 3.00 GB." in shown


def test_progress_moves_the_bar_and_words_are_told(say, evaluation):
    code, _, err = say("runs", "follow", "evaluation-1")
    assert (
        code == 0
        and "log: A word about it (probe_recall 0.5, step 4)\n" in err
        and "log: Reading" not in err
        and "4/4" in err
    )


def test_a_detached_run_that_waits_says_what_it_waits_for(say, scripted, worker, data):
    worker("slow")
    say("pairs", "import", data)
    first = say("train", "--detach")[1].strip()
    code, out, err = say("train", "--detach")
    second = out.strip()
    assert code == 0 and f"runs follow {second}" in err
    for run_id in (second, first):
        say("runs", "stop", run_id)
    assert "stopped" in say("runs", "follow", first)[2]
