"""What the commands print, and how they tell what cannot work."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rlhfv import cli
from rlhfv.commands.terminal import printable

ROOT = Path(__file__).resolve().parents[2]


def assert_told(code, out, err, said):
    lines = err.splitlines()
    assert code == 2 and out == "" and len(lines) == 3, err
    assert lines[0].startswith("Error: ") and said in lines[0] + lines[1]


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pairs", "list", "--data-dir", "file"], "File exists"),
        (["runs", "list", "--data-dir", "file"], "File exists"),
        (["pairs", "list", "--data-dir", "file/inside"], "Not a directory"),
        (["pairs", "export", "file"], "file"),
        (["demo", "scene", "--output", "nowhere/scene.png"], "nowhere/scene.png"),
        (["demo", "scene", "--output", "."], "Is a directory"),
        (["pairs", "list", "--data-dir", "broken"], "not a database"),
    ],
)
def test_what_the_system_refuses_is_told(say, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("something else")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "studio.sqlite3").write_text("something else " * 100)
    code, out, err = say(*words)
    told = [line for line in err.splitlines() if line.strip() and "exporting" not in line]  # without the bar
    assert_told(code, out, "\n".join(told), said)
    assert (tmp_path / "file").read_text() == "something else"


@pytest.mark.parametrize(
    "words", [["demo", "annotate", "demo:test/0", "There is a toilet on the moon."], ["train", "--help"]]
)
def test_a_terminal_without_a_character_is_no_error(words):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "rlhfv", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "\\u" in done.stdout, done.stderr


def test_a_refusal_without_a_file_is_told_too(say, monkeypatch):
    def refuse(arguments):
        raise OSError("Cannot find empty port in range: 7860-7860.")

    monkeypatch.setattr(cli.runs, "list_runs", refuse)
    code, out, err = say("runs", "list")
    assert_told(code, out, err, "The system says: Cannot find empty port in range: 7860-7860.")
    assert ".." not in err and "--port" in err


def test_the_app_tells_what_cannot_work(tmp_path):
    (tmp_path / "file").write_text("something else")
    done = subprocess.run(
        [sys.executable, "app.py", "--data-dir", tmp_path / "file"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert_told(done.returncode, done.stdout, done.stderr, "File exists")


def test_convert_tells_its_folder_as_data_too(say, tmp_path, monkeypatch):
    (tmp_path / "original").mkdir()
    (tmp_path / "like").mkdir()
    monkeypatch.setattr("rlhfv.models.llava_layout.convert_llava", lambda *_: None)
    words = ("convert", tmp_path / "original", tmp_path / "new", "--like", tmp_path / "like")
    assert json.loads(say(*words, "--json")[1]) == {"folder": str(tmp_path / "new")}
    assert "Written to" in say(*words)[1]
