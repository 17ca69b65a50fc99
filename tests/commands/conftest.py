import io
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from rlhfv.cli import main
from rlhfv.ddpo.check import CheckReport
from rlhfv.runs import local
from tests.services.fakes import ScriptedModel, load_instead, scripted_entry

WORKERS = Path(__file__).parents[1] / "runs" / "workers.py"
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
    load_instead(monkeypatch, lambda *_, **__: model)
    return model


@pytest.fixture
def worker(monkeypatch):
    """Which of the small workers does the work of runs; every pair is usable."""

    def choose(kind):
        command = lambda _, folder: [sys.executable, str(WORKERS), kind, str(folder)]  # noqa: E731
        monkeypatch.setattr(local, "build_command", command)

    choose("quick")
    monkeypatch.setattr("rlhfv.services.training.check_run", lambda pairs, *_, **__: CheckReport(len(pairs), ()))
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
