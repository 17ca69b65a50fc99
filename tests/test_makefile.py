"""What `make` would do: install what is missing once, and say what the machine lacks."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.browser.conftest import LONGEST as LONGEST_PAGES
from tests.conftest import LONGEST

ROOT = Path(__file__).resolve().parents[1]
INSTALL_CHROMIUM = ROOT / "tests" / "browser" / "install_chromium.sh"


@pytest.fixture
def project(tmp_path):
    """The files that the targets depend on, as a fresh clone has them."""
    for name in ("Makefile", "requirements.txt", "tests/requirements.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def plan(project, target):
    """The commands that `make TARGET` would run, in order."""
    return make(project, "-n", target).stdout.splitlines()


def make(project, *arguments):
    # This test may itself run below a make, whose own flags would be handed on.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(["make", *arguments], cwd=project, env=outside, capture_output=True, text=True, check=False)


def age(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    now = path.stat().st_mtime
    os.utime(path, (now - seconds, now - seconds))


def installs(commands):
    return [command.rpartition(" ")[2] for command in commands if "pip install" in command]


def test_a_fresh_clone_gets_an_environment_and_what_is_missing(project):
    commands = plan(project, "app")
    assert any("-m venv .venv" in command for command in commands)
    assert installs(commands) == ["requirements.txt"] and commands[-1].startswith(".venv/bin/python app.py --open")
    assert installs(plan(project, "test")) == ["tests/requirements.txt"]


def test_a_second_start_installs_nothing(project):
    for name in ("requirements.txt", "tests/requirements.txt"):
        age(project / name, 100)
    for name in ("bin/python", "app-ready", "test-ready"):
        age(project / ".venv" / name, 50)
    assert [command.split()[:2] for command in plan(project, "app")] == [[".venv/bin/python", "app.py"]]
    assert installs(plan(project, "test")) == [] and not any("venv .venv" in one for one in plan(project, "test"))
    age(project / "tests" / "requirements.txt", 0)
    assert installs(plan(project, "app")) == [] and installs(plan(project, "test")) == ["tests/requirements.txt"]
    age(project / "requirements.txt", 0)
    assert installs(plan(project, "app")) == ["requirements.txt"]


def test_what_drives_a_browser_lies_in_the_folder_that_make_test_runs_by_itself(project):
    """So that no worker imports what it does not run, and nothing is left out between two stages."""
    runs = [command.partition(" -m pytest ")[2] for command in plan(project, "test") if " -m pytest " in command]
    assert [run.partition(" -n ")[0].strip() for run in runs] == [
        '--ignore=tests/browser -m "not slow"',
        'tests/browser -m "not slow and not timed"',
        'tests/browser -m "timed and not slow"',
    ]
    mark = re.compile(r"pytest\.mark\.(browser|timed)\b")
    marked = {file for file in (ROOT / "tests").rglob("test_*.py") if mark.search(file.read_text(encoding="utf-8"))}
    assert marked == set((ROOT / "tests" / "browser").rglob("test_*.py"))


def test_what_is_begun_first_is_there():
    tests = ROOT / "tests"
    files = [tests / name for name in LONGEST] + [tests / "browser" / f"test_{name}.py" for name in LONGEST_PAGES]
    assert [file for file in files if not file.is_file()] == []


def test_a_python_that_is_too_old_is_told(project):
    old = project / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = make(project, f"PYTHON={old}", "app")
    assert done.returncode != 0 and "is older than Python 3.11" in done.stdout
    assert not (project / ".venv").exists()


@pytest.mark.parametrize(
    ("user", "debian", "there", "works", "asked"),
    [
        (0, True, False, True, ["update", "install"]),
        (0, True, False, False, ["update"]),
        (0, True, True, True, []),
        (0, False, False, True, []),
        (1000, True, False, True, []),
    ],
)
def test_chromium_is_installed_by_root_on_debian_when_it_is_missing(tmp_path, user, debian, there, works, asked):
    commands = {
        "id": f"echo {user}",
        "grep": f"exit {0 if debian else 1}",
        "dpkg": f"exit {0 if there else 1}",
        "apt-get": f'echo "$1" >> "{tmp_path}/asked"; exit {0 if works else 100}',
    }
    for name, code in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{code}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", INSTALL_CHROMIUM], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, "without it the tests decide what its absence means"
    assert ("could not be installed" in done.stderr) == (not works)
    log = tmp_path / "asked"
    assert (log.read_text().split() if log.exists() else []) == asked
