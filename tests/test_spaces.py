"""A Space gets exactly the files that `spaces/deploy.py` lists, and they are enough."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.apps import ROOT, free_port, start_app, wait_until_ready

DEPLOY = ROOT / "spaces" / "deploy.py"


def list_targets() -> list[str]:
    listed = subprocess.run([sys.executable, DEPLOY, "--dry-run"], capture_output=True, text=True, check=True).stdout
    return [line.split()[-1] for line in listed.splitlines()[:-1]]


def test_the_list_holds_what_a_space_needs_and_nothing_else():
    targets = list_targets()
    assert {"app.py", "README.md", "requirements.txt", "LICENSE", "rlhfv/__init__.py"} <= set(targets)
    assert "rlhfv/models/demo/weights/model.safetensors" in targets
    assert not [
        name for name in targets if re.search(r"tests/|benchmarks/|\.git|__pycache__|\.pyi?c?i$|spaces/", name)
    ]


def test_the_card_and_the_requirements_agree_with_the_project():
    card = (ROOT / "spaces" / "README.md").read_text()
    assert card.startswith("---\n") and "sdk: gradio\n" in card and "app_file: app.py\n" in card
    own = set((ROOT / "requirements.txt").read_text().split())
    space = set((ROOT / "spaces" / "requirements.txt").read_text().split())
    assert space < own, "a Space installs the same ranges"
    assert {line.split(">")[0] for line in own - space} == {"gradio", "pytest"}, "the sdk brings gradio"
    version = re.search(r"sdk_version: ([\d.]+)", card)[1]
    low, high = re.search(r"gradio>=([\d.]+),<([\d.]+)", (ROOT / "requirements.txt").read_text()).groups()
    assert [int(part) for part in low.split(".")] <= [int(part) for part in version.split(".")]
    assert int(version.split(".")[0]) < int(high)


def test_no_package_hides_zerogpus_own():
    assert not (ROOT / "spaces" / "__init__.py").exists()
    assert "spaces" not in str(tomllib.loads((ROOT / "pyproject.toml").read_text()).get("project", {}))


def test_only_an_empty_folder_is_laid_out(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "old.py").write_text("old")
    for folder in ("file", "full"):
        done = subprocess.run(
            [sys.executable, DEPLOY, "--folder", tmp_path / folder], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1 and "is not an empty folder" in done.stderr and "Traceback" not in done.stderr
    subprocess.run([sys.executable, DEPLOY, "--folder", tmp_path / "new"], check=True)
    laid = {path.relative_to(tmp_path / "new").as_posix() for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert laid == set(list_targets())
    assert (tmp_path / "new" / "README.md").read_bytes() == (ROOT / "spaces" / "README.md").read_bytes()


@pytest.mark.slow
def test_the_app_boots_from_that_set_alone(tmp_path):
    space: Path = tmp_path / "space"
    subprocess.run([sys.executable, DEPLOY, "--folder", space], check=True)
    assert not (space / "tests").exists()
    port = free_port()
    process = start_app(tmp_path / "data", port, space)
    try:
        wait_until_ready(port, process)
    finally:
        process.terminate()
        process.wait(30)
