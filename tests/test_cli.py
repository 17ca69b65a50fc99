"""The command line does what the studio does, says what went wrong in three parts, and keeps data on stdout."""

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from rlhfv import cli
from rlhfv.cli import build_parser, main
from rlhfv.commands.runs import training_fields
from rlhfv.commands.terminal import printable
from rlhfv.ddpo.check import CheckReport
from rlhfv.ddpo.config import RECIPES, TrainingConfig
from rlhfv.runs import local
from tests.services.fakes import ScriptedModel, scripted_entry

ROOT = Path(__file__).resolve().parents[1]
WORKERS = ROOT / "tests" / "runs" / "workers.py"
ROW = {"question": "What is there?", "rejected": "A dog 🐶 sits.", "chosen": "A cat 🐶 sits."}


@pytest.fixture
def say(tmp_path, capsys, monkeypatch):
    """`say("runs", "list")` runs a verb in a data folder of its own: (exit code, stdout, stderr)."""
    monkeypatch.setenv("RLHFV_DATA_DIR", str(tmp_path / "data"))

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture
def scripted(monkeypatch):
    """A model with scripted answers behind the true services."""
    model = ScriptedModel()
    monkeypatch.setattr("rlhfv.services.model_host.find_entry", lambda *_: scripted_entry())
    monkeypatch.setattr("rlhfv.models.local.LocalModel.load", lambda *_, **__: model)
    return model


@pytest.fixture
def worker(monkeypatch):
    """Which of the small workers does the work of runs; every pair is usable."""

    def choose(kind):
        command = lambda _, folder: [sys.executable, str(WORKERS), kind, str(folder)]  # noqa: E731
        monkeypatch.setattr(local, "build_command", command)

    choose("quick")
    monkeypatch.setattr("rlhfv.services.training.check_run", lambda pairs, *_: CheckReport(len(pairs), ()))
    return choose


@pytest.fixture
def picture(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), "teal").save(buffer, "PNG")
    (tmp_path / "picture.png").write_bytes(buffer.getvalue())
    return tmp_path / "picture.png"


@pytest.fixture
def data(tmp_path, picture):
    """An export with one pair."""
    folder = tmp_path / "export"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.png").write_bytes(picture.read_bytes())
    (folder / "pairs.jsonl").write_text(json.dumps({**ROW, "images": ["a.png"]}) + "\n")
    return folder


def every_verb(parser=None, before=()):
    for action in (parser or build_parser())._actions:
        if isinstance(action.choices, dict):
            for name, inner in action.choices.items():
                yield (*before, name)
                yield from every_verb(inner, (*before, name))


@pytest.mark.parametrize("verb", [(), *every_verb()], ids=" ".join)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*verb, "--help"])
    assert ended.value.code == 0 and "usage: python -m rlhfv" in capsys.readouterr().out


def test_the_verbs_of_the_issue_are_there():
    verbs = {" ".join(verb) for verb in every_verb()}
    assert {"chat", "train", "evaluate"} <= verbs
    assert {f"pairs {name}" for name in ("list", "show", "export", "import")} <= verbs
    assert {f"runs {name}" for name in ("list", "show", "follow", "stop", "resume", "export")} <= verbs
    assert {f"demo {name}" for name in ("build", "scene", "annotate", "evaluate")} <= verbs


def test_errors_have_three_parts_and_a_code(say):
    code, out, err = say("runs", "show", "nothing-here")
    assert code == 2 and out == ""
    assert err.splitlines() == [
        "Error: There is no run 'nothing-here'.",
        "  It was deleted, or never was.",
        "  Pick one from the list.",
    ]


def test_an_interrupt_has_its_code(say, monkeypatch):
    def interrupt(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.runs, "list_runs", interrupt)
    assert say("runs", "list")[0] == 130


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    script = "import sys; from rlhfv.commands import runs\n"
    script += "runs.list_runs = lambda arguments: [print('line', flush=True) for _ in range(100000)]\n"
    script += "from rlhfv.cli import main; sys.exit(main(['runs', 'list', '--data-dir', sys.argv[1]]))"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(script)} {shlex.quote(str(tmp_path))} | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "line\n", "")


def test_what_a_model_says_does_not_steer_the_terminal():
    assert printable("a\x1b[2Jb\u202ec\r\x9b") == "a\\u{1b}[2Jb\\u{202e}c\\u{d}\\u{9b}"
    for harmless in ("👩‍👩‍👧 é 日本　語 \t\n", "e\u0301", "\u00a0"):
        assert printable(harmless) == harmless


# ---- chat


def test_one_question(say, scripted, picture):
    code, out, _ = say("chat", "What is there?", "--image", picture)
    assert code == 0 and out.count("baseline says: What is there? #0") == 2
    code, out, _ = say("chat", "And now?", "--json")
    said = json.loads(out)
    assert said["left"]["text"] == "baseline says: And now? #1" and said["left"]["answer_id"], (
        "the conversation goes on"
    )


def test_a_conversation_line_by_line(say, scripted, picture, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("First?\nSecond?\n\nnever asked\n"))
    code, out, _ = say("chat", "--image", picture, "--json")
    questions = [json.loads(line)["question"] for line in out.splitlines()]
    assert code == 0 and questions == ["First?", "Second?"]


def test_chat_says_what_is_missing(say, scripted, tmp_path, picture):
    code, _, err = say("chat", "Hello?")
    assert code == 2 and "no picture yet" in err
    code, _, err = say("chat", "Hello?", "--image", tmp_path / "none.png")
    assert code == 2 and "cannot be read" in err
    code, _, err = say("chat", "Hello?", "--image", picture, "--left", "nobody")
    assert code == 2 and "'Baseline'" in err
    code, _, err = say("chat", "Hello?", "--scene")
    assert code == 2 and "world" in err


# ---- pairs


def test_pairs_go_in_and_out(say, scripted, data, tmp_path):
    code, _, err = say("pairs", "import", data)
    assert code == 0 and "1 pairs imported, 0 rows left out" in err
    code, out, _ = say("pairs", "list", "--json")
    listed = json.loads(out)
    assert code == 0 and listed["total"] == 1
    [pair] = listed["pairs"]
    assert pair["chosen"] == ROW["chosen"] and pair["edits"][0]["text"] == "dog"
    code, out, _ = say("pairs", "show", pair["id"])
    assert "'dog' → 'cat'" in out
    shown = json.loads(say("pairs", "show", pair["id"], "--json")[1])
    assert shown["id"] == pair["id"] and len(shown["revisions"]) == 1
    code, out, _ = say("pairs", "export", tmp_path / "out", "--json")
    assert json.loads(out)["pairs"] == 1 and len((tmp_path / "out" / "pairs.jsonl").read_text().splitlines()) == 1
    assert json.loads(say("pairs", "list", "--text", "giraffe", "--json")[1])["total"] == 0
    assert pair["id"] in say("pairs", "list", "--text", "cat")[1]


def test_bad_rows_are_named(say, scripted, data):
    with open(data / "pairs.jsonl", "a") as file:
        file.write('{"question": "q"}\nno json\n')
    code, out, _ = say("pairs", "import", data, "--json")
    report = json.loads(out)
    assert code == 0 and report["imported"] == 1 and len(report["problems"]) == 2
    (data / "pairs.jsonl").write_text("no json\n")
    assert say("pairs", "import", data)[0] == 2
    assert say("pairs", "show", "unknown")[0] == 2


# ---- runs


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
    assert json.loads((folder / "pairs.jsonl").read_text())["rejected"] == ROW["rejected"]


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
    assert say("runs", "resume", run_id)[0] == 0
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
    from rlhfv.services import build_services
    from rlhfv.settings import Settings

    services = build_services(Settings(data_dir=tmp_path, model="scripted"))
    config = RECIPES["paper"].changed(gamma=2.5, seam=True, normalised=False, steps=7, schedule="linear")
    words = shlex.split(services.training.command(config))
    arguments = vars(build_parser().parse_args(words[words.index("train") :]))
    changes = {name: arguments[name] for name in (field["name"] for field in training_fields())}
    changes = {name: value for name, value in changes.items() if value is not None}
    assert TrainingConfig.from_dict({"recipe": arguments["recipe"], **changes}) == config
    assert arguments["model"] == "scripted"


def test_a_model_without_a_world_cannot_be_evaluated(say, scripted):
    code, _, err = say("evaluate")
    assert code == 2 and "world" in err


# ---- the demo's world


def test_a_scene_and_its_truth(say, tmp_path):
    code, out, _ = say("demo", "scene", "3", "--output", tmp_path / "scene.png", "--json")
    drawn = json.loads(out)
    assert code == 0 and drawn["source"] == "demo:validation/3" and drawn["truth"]["objects"]
    assert Image.open(tmp_path / "scene.png").size == (336, 336)
    assert drawn["truth"]["objects"][0]["name"] in say("demo", "scene", "3")[1]
    assert say("demo", "scene", "3", "--split", "nowhere")[0] == 2


def test_the_oracle_corrects(say):
    answer = "There is a fork on the left. There is a toilet on the right."
    code, out, _ = say("demo", "annotate", "demo:validation/3", answer, "--json")
    annotated = json.loads(out)
    assert code == 0 and annotated["edits"] and annotated["corrected"] != answer
    assert annotated["corrected"] in say("demo", "annotate", "demo:validation/3", answer)[1]
    assert say("demo", "annotate", "demo:nowhere/3", answer)[0] == 2


def test_the_figures_of_the_demo(say, monkeypatch):
    class Echo:
        def attach(self, source):
            assert os.path.isdir(os.path.dirname(source))
            return "adapter@1"

        def answer_many(self, prompts, voice, sampling, image_path, batch_size):
            return ["The picture shows a kitchen." if voice else "There is a toilet." for _ in prompts]

    monkeypatch.setattr("rlhfv.models.local.LocalModel.load", lambda entry: Echo())
    code, out, _ = say("demo", "evaluate", "--scenes", "10", "--json")
    figures = json.loads(out)
    assert code == 0 and set(figures) >= {"baseline", "aligned"}
    for name in ("response_rate", "mention_rate", "recall", "words"):
        for voice in ("baseline", "aligned"):
            assert set(figures[voice][name]) == {"value", "low", "high"}
    assert figures["baseline"]["response_rate"]["value"] > figures["aligned"]["response_rate"]["value"] == 0
    assert "10 test scenes" in say("demo", "evaluate", "--scenes", "10")[1]
    assert say("demo", "evaluate", "--scenes", "501")[0] == 2
