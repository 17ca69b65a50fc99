"""Voices on servers on the command line."""

import json
from types import SimpleNamespace

from rlhfv.cli import main
from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.pairs import PreferencePair, Provenance
from tests.remote.server import SAID


def modules(server, *models):
    return [word for model in models for word in ("--remote", f"{model.title()}={server.url}#{model}")]


def chat(server, tmp_path, picture_file, *words):
    return main(["chat", "What is it?", "--image", str(picture_file), "--data-dir", str(tmp_path / "data"), *words])


def test_two_voices_of_a_server_are_asked(server, tmp_path, picture_file, capsys):
    assert chat(server, tmp_path, picture_file, "--json", *modules(server, "llava", "aligned")) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["left"]["title"], said["left"]["text"]) == ("Llava", SAID)
    assert said["right"]["finished"] and said["right"]["note"] == "" and said["right"]["problem"] == []


def test_a_voice_that_fails_is_told_and_the_other_shown(server, tmp_path, picture_file, capsys):
    words = modules(server, "length", "busy")
    assert chat(server, tmp_path, picture_file, *words, "--max-new-tokens", "3") == 2
    shown = capsys.readouterr()
    assert "Length: A cat and\n(Ends here: it reached the limit of 3 tokens.)" in shown.out
    assert "gets too many requests" in shown.err and "in 17 seconds" in shown.err and "Busy:" not in shown.out


def test_a_key_that_is_not_there_is_told_before_anything_is_asked(server, tmp_path, picture_file, capsys):
    words = [*modules(server, "llava", "aligned"), "--remote-key-env", "NOT_SET_ANYWHERE"]
    assert chat(server, tmp_path, picture_file, *words) == 2
    assert "no key for 'Llava' in the variable NOT_SET_ANYWHERE" in capsys.readouterr().err
    assert server.requests == []


def test_a_queue_is_answered_by_the_voice_that_is_named(server, tmp_path, picture_file, capsys):
    data = ["--data-dir", str(tmp_path / "data")]
    folder = tmp_path / "photos"
    folder.mkdir()
    picture_file.rename(folder / "a.png")
    assert main(["tasks", "add", str(folder), "--question", "What?", "--question", "Where?", *data]) == 0
    words = [*modules(server, "llava", "aligned"), "--voice", "aligned", "--json", *data]
    capsys.readouterr()
    assert main(["answer", *words]) == 0
    assert json.loads(capsys.readouterr().out) == {"waiting": 2, "written": 2, "failed": []}
    assert {body["model"] for _, body in server.requests} == {"aligned"}


def test_the_corrected_questions_of_a_run_are_asked_again(server, tmp_path, picture_file, capsys, monkeypatch):
    edits = (Edit(SAID.index("red"), SAID.index("red") + 3, "blue", "attribute"),)
    pair = PreferencePair(
        "1", Prompt("What?", (f"{'0' * 64}.png",)), SAID.replace("red", "blue"), SAID, edits, "corrected", Provenance()
    )
    folder = SimpleNamespace(read_rows=lambda: [pair.to_row()], image_path=lambda name: picture_file)
    monkeypatch.setattr("rlhfv.services.training.Training.folder", lambda self, actor, run_id: folder)
    words = ["runs", "reask", "a-run", "--voice", "Aligned", "--data-dir", str(tmp_path / "data")]
    assert main([*words, *modules(server, "llava", "aligned")]) == 0
    shown = capsys.readouterr()
    assert "mended" in shown.out and "'red' → 'blue'" in shown.out and "1 mended" in shown.err
    assert main([*words, "--json", *modules(server, "llava", "aligned")]) == 0
    [result] = json.loads(capsys.readouterr().out)
    assert result["answer"] == "A cat and a blue cup." and result["verdicts"][0]["verdict"] == "mended"
    assert {body["model"] for _, body in server.requests} == {"aligned"}


def test_an_evaluation_does_not_take_them(capsys):
    try:
        main(["evaluate", "--remote", "A=http://lab/v1#a"])
    except SystemExit as ended:
        assert ended.code == 2
    assert "--remote" in capsys.readouterr().err
