"""What the pages under rlhfv/docs say is run: every line of a block marked `sh`, page by page, in one folder.

The heavy parts are the small stand-ins of this folder's tests, except on the pages of `TRUE`, where the demo model
answers and learns. What needs other programs is marked `console` or `text`; of that, our own commands are parsed.
"""

import importlib.util
import io
import json
import re
import shlex
import subprocess
import sys

import pytest

from rlhfv.cli import build_parser, main
from rlhfv.models.demo.world import DemoWorld
from rlhfv.runs import hub_jobs, leash
from rlhfv.settings import parse_app_arguments
from tests.apps import ROOT, free_port, start_app, wait_until_ready
from tests.commands.conftest import WORKERS

DOCS = ROOT / "rlhfv" / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
OURS = "python -m rlhfv "


def blocks(page: str, kind: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page: str, kind: str) -> list[str]:
    text = "".join(blocks(page, kind)).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


class Shell:
    """One folder in which the lines of a page are run in turn, in this process. RUN and PAIR are the newest ones."""

    def __init__(self, capsys, monkeypatch):
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def run(self, line: str) -> None:
        words = shlex.split(line, comments=True)
        if words[0] == "echo":
            at = words.index("|")
            self.monkeypatch.setattr("sys.stdin", io.StringIO(" ".join(words[1:at]) + "\n"))
            words = words[at + 1 :]
        while re.fullmatch(r"[A-Z_]+=\S+", words[0]):
            words = words[1:]
        if words[:3] == ["python", "-m", "rlhfv"]:
            self.verb([self.newest(word) if word in ("RUN", "PAIR") else word for word in words[3:]], line)
        elif words[:2] == ["python", "app.py"]:
            parse_app_arguments(words[2:])
        elif words[:2] == ["python", "spaces/deploy.py"]:
            self.deploy(words[2:])
        elif words[0] == "make":
            assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(), line
        elif words[:3] == ["pip", "install", "-r"]:
            assert (ROOT / words[3]).is_file(), line
        else:
            raise AssertionError(f"nobody knows how to run {line!r}: mark its block as console or text")

    def verb(self, words: list[str], line: str = "") -> str:
        self.capsys.readouterr()
        code = main(words)
        out, err = self.capsys.readouterr()
        assert code == 0, f"{line or words}\n{out}\n{err}"
        return out

    def deploy(self, words: list[str]) -> None:
        spec = importlib.util.spec_from_file_location("deploy_of_docs", ROOT / "spaces" / "deploy.py")
        with self.monkeypatch.context() as patch:
            patch.setattr(sys, "path", list(sys.path))
            module = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, spec.name, module)
            spec.loader.exec_module(module)
            files = {name: path for name, path in module.list_files().items() if name.count("/") < 2}
            module.list_files = lambda: files
            code = module.run(lambda: module.main(module.make_parser().parse_args(words)))
        out, err = self.capsys.readouterr()
        assert code == 0, f"{words}\n{out}\n{err}"

    def newest(self, name: str) -> str:
        if name == "PAIR":
            return json.loads(self.verb(["pairs", "list", "--json"]))["pairs"][0]["id"]
        return max(json.loads(self.verb(["runs", "list", "--json"])), key=lambda run: run["id"])["id"]


@pytest.fixture
def shell(tmp_path, capsys, monkeypatch, data, picture, hub, connect):
    """A folder with what the pages speak of: pairs, photos, a token of the account `me`, who is an admin of `lab`."""
    connect(hub.user("me"))
    hub.organization("lab", me="admin")
    monkeypatch.setenv("RLHFV_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    # Of this scene the demo model and its adapter say different things.
    (tmp_path / "photo.jpg").write_bytes(DemoWorld().draw("validation", 10)[0])
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(picture.read_bytes())
    shell = Shell(capsys, monkeypatch)
    shell.verb(["pairs", "import", str(data)])
    shell.verb(["pairs", "export", "my-pairs"])
    return shell


@pytest.fixture
def small(scripted, worker, monkeypatch):
    """Models, trainers and jobs that take no time."""
    monkeypatch.setattr(
        leash, "build_command", lambda _, folder, config=None: [sys.executable, str(WORKERS), "quick", str(folder)]
    )
    monkeypatch.setattr(hub_jobs, "_COMMAND", "true")
    monkeypatch.setattr("rlhfv.services.backends.Backends._operations", lambda *_: (65e12 * 1500, 0.5))


TRUE = ("deploy.md", "models.md", "write_a_recipe.md")


@pytest.mark.parametrize("page", [page for page in PAGES if page not in TRUE])
def test_a_page_runs_as_printed(page, shell, small):
    for line in commands(page, "sh"):
        shell.run(line)


@pytest.mark.slow
@pytest.mark.parametrize("page", TRUE)
def test_a_page_runs_as_printed_with_the_true_trainer(page, shell):
    for line in commands(page, "sh"):
        shell.run(line)


@pytest.mark.slow
def test_the_api_answers_as_printed(tmp_path):
    """Both programs of the page, against the app as a person starts it."""
    port = free_port()
    process = start_app(tmp_path / "data", port)
    try:
        wait_until_ready(port, process)
        (tmp_path / "kitchen.png").write_bytes(DemoWorld().draw("validation", 1)[0])
        for kind, shell in (("python", [sys.executable, "-c"]), ("bash", ["bash", "-c"])):
            [program] = blocks("api.md", kind)
            done = subprocess.run(
                [*shell, program.replace("7860", str(port))], cwd=tmp_path, capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, done.stderr
        assert '"replacement": "This drawing"' in (tmp_path / "pairs.jsonl").read_text()
        assert done.stdout.count("event: complete") == 2 and "The picture shows" in done.stdout
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("page", PAGES)
def test_our_commands_inside_of_others_parse(page):
    for line in commands(page, "console"):
        for part in re.split(r"&&|[|;']", line):
            words = shlex.split(part.strip().removeprefix("HF_TOKEN=… "), comments=True)
            if " ".join(words).startswith(OURS):
                build_parser().parse_args(words[3:])
            elif words[:2] == ["python", "app.py"]:
                parse_app_arguments(words[2:])


@pytest.mark.parametrize("page", [*PAGES, "../../README.md"])
def test_links_between_pages_lead_somewhere(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    for target, place in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", text):
        file = (DOCS / page).parent / target if target else DOCS / page
        assert file.exists(), target
        if place:
            heads = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert place in [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads], place


def test_every_page_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page for page in PAGES if f"rlhfv/docs/{page}" not in readme] == []


def test_the_pages_are_short():
    assert {page: lines for page in PAGES if (lines := len((DOCS / page).read_text().splitlines())) > 130} == {}
