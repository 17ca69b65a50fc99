"""A Space gets exactly the files that `spaces/deploy.py` lists, and they are enough."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from huggingface_hub import SpaceHardware
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests.apps import ROOT

DEPLOY = ROOT / "spaces" / "deploy.py"
# https://huggingface.co/docs/hub/spaces-zerogpu, August 2026: 2.8.0 to 2.11.0, on Python 3.12.12 and 3.10.13.
ZERO_GPU = {"torch": ("2.8.0", "2.9.0", "2.10.0", "2.11.0"), "python": ("3.12", "3.10")}


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


def read_card(text: str) -> dict:
    opening, block, _ = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    assert opening == ""
    return yaml.safe_load(block)


def ranges(file: Path) -> dict[str, SpecifierSet]:
    lines = [Requirement(line) for line in file.read_text().splitlines()]
    return {one.name: one.specifier for one in lines}


def test_the_card_says_what_a_space_is_built_from():
    card = read_card((ROOT / "spaces" / "README.md").read_text())
    own = ranges(ROOT / "requirements.txt")
    assert (card["sdk"], card["app_file"], card["license"]) == ("gradio", "app.py", "apache-2.0")
    assert card["sdk_version"] in own["gradio"], "pinned, within what the project takes"
    assert card["python_version"] in ZERO_GPU["python"], "ZeroGPU has it"
    assert Version(card["python_version"]) >= Version("3.11"), "transformers takes no older one"
    assert card["hf_oauth"] is True and card["hf_oauth_scopes"] == ["contribute-repos", "jobs"], "and nothing more"
    assert card["suggested_hardware"] in [flavor.value for flavor in SpaceHardware]
    assert card["startup_duration_timeout"] == "1h" and card["datasets"] == ["openbmb/RLHF-V-Dataset"]
    assert len(card["short_description"]) <= 60, "the Hub takes no more"
    assert "models" not in card and "preload_from_hub" not in card, "deploy.py names those that the flags name"


def test_a_space_installs_the_projects_ranges_and_zerogpus_torch():
    own, space = ranges(ROOT / "requirements.txt"), ranges(ROOT / "spaces" / "requirements.txt")
    assert own.keys() - space.keys() == {"gradio", "pytest"}, "the sdk brings gradio"
    assert space.keys() - own.keys() == {"spaces"}
    assert {name for name in own.keys() & space.keys() if own[name] != space[name]} == {"torch"}
    releases = [f"2.{minor}.0" for minor in range(4, 20)]
    taken = [release for release in releases if release in space["torch"]]
    assert taken == list(ZERO_GPU["torch"]) and all(release in own["torch"] for release in taken)


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
        assert done.returncode == 2 and "is not an empty folder" in done.stderr and "Traceback" not in done.stderr
    subprocess.run([sys.executable, DEPLOY, "--folder", tmp_path / "new"], check=True)
    laid = {path.relative_to(tmp_path / "new").as_posix() for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert laid == set(list_targets())
    assert (tmp_path / "new" / "README.md").read_bytes() == (ROOT / "spaces" / "README.md").read_bytes()
