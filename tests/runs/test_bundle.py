"""What another machine needs for a run, and training from it in place."""

import csv
import json
import os
import subprocess
import sys
import time
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

import rlhfv
from rlhfv.errors import NotFound, RunFailed
from rlhfv.models.catalog import DEMO_FOLDER
from rlhfv.models.identity import folder_identity
from rlhfv.run_folder import RunFolder
from rlhfv.runs import bundle, leash
from rlhfv.runs.bundle import write_wheel
from tests.runs.hub_worker import command

PICTURE = b"a picture"
NAME = sha256(PICTURE).hexdigest() + ".png"
ROW = {"id": "a", "images": [NAME], "question": "q", "chosen": "c", "rejected": "r"}
BASE = {"name": "demo", "revision": "r1", "source": "demo"}


@pytest.fixture
def run(tmp_path):
    (tmp_path / NAME).write_bytes(PICTURE)
    folder = RunFolder(tmp_path / "20260101-000000-abcd")
    folder.create({"kind": "training", "title": "a run", "base": BASE, "training": {}}, [ROW], tmp_path.joinpath)
    folder.append_event("state", state="running")
    folder.log_file.write_text(f"read {tmp_path}\n")
    return folder


def keep_checkpoint(run, step, whole=True):
    place = run.checkpoints / f"checkpoint-{step}"
    place.mkdir(parents=True)
    (place / "optimizer.pt").write_bytes(b"state")
    if whole:
        (place / "trainer_state.json").write_text(json.dumps({"global_step": step}))


def test_a_bundle_holds_what_is_needed_and_no_place_of_this_machine(run, tmp_path):
    folder = bundle.pack(run, tmp_path / "out" / "bundle")
    [wheel] = folder.glob("*.whl")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    home = f"runs/{run.id}"
    assert names == {
        wheel.name,
        "requirements.txt",
        f"{home}/config.json",
        f"{home}/pairs.jsonl",
        f"{home}/images/{NAME}",
    }
    assert [found.read_rows() for found in bundle.find_runs(folder)] == [[ROW]]
    for name in names - {wheel.name}:
        assert str(tmp_path).encode() not in (folder / name).read_bytes(), name
    with pytest.raises(RunFailed, match="exists already"):
        bundle.pack(run, folder)
    with pytest.raises(NotFound, match="holds no run"):
        bundle.find_runs(tmp_path)


def test_the_requirements_are_the_versions_in_use(run):
    from importlib.metadata import version

    lines = bundle.list_requirements().splitlines()
    assert f"transformers=={version('transformers')}" in lines
    [torch] = [line for line in lines if line.startswith("torch==")]
    assert "+" not in torch and version("torch").startswith(torch.removeprefix("torch=="))
    assert not any("gradio" in line for line in lines)


def test_the_last_whole_checkpoint_goes_along(run, tmp_path):
    keep_checkpoint(run, 2)
    keep_checkpoint(run, 4)
    keep_checkpoint(run, 6, whole=False)
    (run.path / "reference.safetensors").write_bytes(b"scores")
    [packed] = bundle.find_runs(bundle.pack(run, tmp_path / "bundle"))
    assert [path.name for path in packed.list_checkpoints()] == ["checkpoint-4"]
    assert packed.last_checkpoint() == packed.checkpoints / "checkpoint-4"
    assert (packed.path / "reference.safetensors").read_bytes() == b"scores"


def test_a_base_that_is_a_folder_goes_along_only_when_that_is_said(run, tmp_path):
    base = DEMO_FOLDER / "weights"
    identity = folder_identity(base)
    config = json.loads(run.config_file.read_text())
    config["base"] = {"name": "my-model", "revision": identity.revision, "source": "my-model"}
    run.config_file.write_text(json.dumps(config))
    with pytest.raises(bundle.BaseStaysHere, match=r"my-model.* \(\d+\.\d MB\)"):
        bundle.pack(run, tmp_path / "bundle", base)
    assert not (tmp_path / "bundle").exists() and not list(tmp_path.glob(".pack-*"))
    folder = bundle.pack(run, tmp_path / "bundle", base, with_base=True)
    found = bundle.find_base_files(folder, config)
    assert folder_identity(found).revision == identity.revision
    assert bundle.find_base_files(folder, {"base": BASE}) is None


@pytest.mark.slow
def test_the_wheel_is_the_running_source_and_pip_installs_it(tmp_path):
    wheel = write_wheel(tmp_path)
    (tmp_path / "again").mkdir()
    assert write_wheel(tmp_path / "again").read_bytes() == wheel.read_bytes()
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        [record] = [name for name in names if name.endswith("/RECORD")]
        rows = list(csv.reader(file.read(record).decode().splitlines()))
        assert {row[0] for row in rows} == names
        for name in ("rlhfv/__init__.py", "rlhfv/models/demo/weights/model.safetensors"):
            assert file.read(name) == (Path(rlhfv.__file__).parents[1] / name).read_bytes()
        assert not any("__pycache__" in name for name in names)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target"]
    done = subprocess.run([*install, tmp_path / "site", wheel], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code = "import rlhfv, sys; from importlib.metadata import version; print(rlhfv.__file__, version('rlhfv'))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path / "site/rlhfv/__init__.py"), wheel.name.split("-")[1]]


@pytest.fixture
def work(monkeypatch):
    def choose(kind):
        monkeypatch.setattr(leash, "build_command", lambda _, folder, config=None: command(kind, folder))

    choose("quick")
    return choose


def test_a_bundle_is_trained_in_place_and_goes_on_from_its_checkpoint(run, tmp_path, work):
    keep_checkpoint(run, 2)
    folder = bundle.pack(run, tmp_path / "bundle")
    told = []
    [(trained, state)] = leash.work_folder(folder, told.append, 0.01)
    assert state == "done" and (trained.adapter / "adapter_model.safetensors").exists()
    assert [event["step"] for event in told if event["kind"] == "step"] == [3, 4]
    assert told == trained.read_events()[0]


def test_another_version_is_told_and_how_to_use_the_bundle_s(run, tmp_path, work):
    said = []
    folder = bundle.pack(run, tmp_path / "bundle")
    leash.work_folder(folder, said.append, 0.01)
    assert said and not any(event["kind"] == "warn" for event in said), "the same one needs no warning"
    folder = bundle.pack(run, tmp_path / "other")
    [wheel] = folder.glob("*.whl")
    other = wheel.rename(wheel.with_name("rlhfv-9.9+0123456789ab-py3-none-any.whl"))
    leash.work_folder(folder, said.append, 0.01)
    [warning] = [event for event in said if event["kind"] == "warn"]
    assert "sent with rlhfv 9.9+0123456789ab" in warning["what"]
    assert f"pip install -r other/requirements.txt other/{other.name}" in warning["fix"]


@pytest.mark.parametrize(("kind", "words"), [("error", "The rate is 5"), ("vanish", "about to vanish")])
def test_a_bundle_whose_training_fails_says_why(run, tmp_path, work, kind, words):
    work(kind)
    [(trained, state)] = leash.work_folder(bundle.pack(run, tmp_path / "bundle"), lambda event: None, 0.01)
    assert state == "failed"
    assert words in str(trained.read_events()[0][-1])


def test_the_trainer_ends_with_the_one_who_started_it(run, tmp_path):
    code = (
        "import os, sys; from rlhfv.run_folder import RunFolder; from rlhfv.runs import leash; "
        "from tests.runs.hub_worker import command; "
        "leash.build_command = lambda _, folder, config=None: command('slow', folder); "
        "leash.LeashedTrainer(RunFolder(sys.argv[1]), None, 0.2); print('on', flush=True); sys.stdin.read()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code, run.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout.readline() == "on\n"
    until = time.monotonic() + 20
    while not run.is_claimed() and time.monotonic() < until:
        time.sleep(0.02)
    assert run.is_claimed()
    starter.kill()
    starter.communicate()
    while run.is_claimed() and time.monotonic() < until:
        time.sleep(0.02)
    assert not run.is_claimed()
