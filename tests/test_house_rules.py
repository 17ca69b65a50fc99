"""The rules of the house that a machine can hold: which way imports go, what is absent, what costs how much."""

import ast
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rlhfv"
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = {
    "rlhfv": 0,
    "errors": 0,
    "settings": 0,
    "run_folder": 0,
    "corrections": 1,
    "models": 2,
    "publishing": 2,
    "ddpo": 3,
    "evaluation": 4,
    "runs": 4,
    "services": 5,
    "cli": 6,
    "studio": 6,
}
ROOMS = dict.fromkeys(("errors", "settings", "judge_flags", "remote_voices", "run_folder", "units"), "ground")
ROOMS |= {"commands": "cli", "__main__": "cli"}
FLOORS["ground"] = 0
HEAVY = ("torch", "transformers", "gradio", "huggingface_hub", "peft", "datasets")


def module_of(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def known_modules():
    return {module_of(file) for file in FILES}


def room_of(module):
    """The room of a module: "rlhfv.models.demo.world" is in "models", "rlhfv" in "rlhfv"."""
    parts = module.split(".")
    room = parts[1] if len(parts) > 1 else "rlhfv"
    return ROOMS.get(room, room)


def imports_of(file, tree):
    """(line, name of the imported module, inside a function) of each import of a file; relative ones are resolved."""
    module = module_of(file)
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name, id(node) in inside
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [node.module])])
            for name in node.names:
                full = f"{base}.{name.name}"
                yield node.lineno, full if full in known_modules() else base, id(node) in inside


@cache
def trees():
    return [(file, ast.parse(file.read_text(encoding="utf-8"))) for file in FILES]


def misplaced(file, tree):
    """What imports of one file break the rule, as text."""
    room = room_of(module_of(file))
    if room not in FLOORS:
        yield f"{file.relative_to(ROOT)} is in no room of the house"
        return
    for line, name, lazy in imports_of(file, tree):
        if name.split(".")[0] != "rlhfv":
            continue
        target = room_of(name)
        down = FLOORS.get(target, 99) < FLOORS[room] or target == room
        if not down and not (target == "rlhfv" and FLOORS[room] == 0):
            yield f"{file.relative_to(ROOT)}:{line} {'lazily ' * lazy}imports {name}"


def test_imports_go_down():
    assert FILES, "no files were found"
    assert [problem for file, tree in trees() for problem in misplaced(file, tree)] == []


@pytest.mark.parametrize(
    ("path", "source", "problems"),
    [
        ("corrections/a.py", "from rlhfv.models import catalog", 1),
        ("corrections/a.py", "from ..models import catalog", 1),
        ("corrections/a.py", "from .. import studio", 1),
        ("models/demo/a.py", "from ...ddpo.config import RECIPES", 1),
        ("corrections/a.py", "def lazy():\n    import rlhfv.services", 1),
        ("runs/a.py", "import rlhfv.evaluation.report", 1),
        ("studio/a.py", "from rlhfv import cli", 1),
        ("attic/a.py", "import os", 1),
        ("runs/a.py", "from rlhfv.ddpo.config import TrainingConfig", 0),
        ("corrections/a.py", "from . import edits\nfrom ..errors import StudioError\nimport rlhfv", 0),
        ("commands/a.py", "from rlhfv.services import Services\nfrom rlhfv.commands import chat", 0),
        ("run_folder.py", "from rlhfv.errors import StudioError", 0),
    ],
)
def test_the_check_sees_every_way_to_import(path, source, problems):
    assert len(list(misplaced(PACKAGE / path, ast.parse(source)))) == problems


def test_only_the_studio_imports_gradio():
    importers = {
        str(file.relative_to(PACKAGE))
        for file, tree in trees()
        for _, name, _ in imports_of(file, tree)
        if name.split(".")[0] == "gradio"
    }
    assert {Path(name).parts[0] for name in importers} <= {"studio"}


def loaded_after(code):
    """Which heavy packages a fresh interpreter has loaded after `code`."""
    code += f"\nimport json, sys; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("room", ["corrections", "runs", "run_folder", "settings", "commands", "cli"])
def test_light_rooms_load_nothing_heavy(room):
    modules = [module_of(file) for file in FILES if file.relative_to(PACKAGE).with_suffix("").parts[0] == room]
    assert modules and loaded_after("\n".join(f"import {module}" for module in modules)) == []


def test_listing_runs_and_pairs_loads_nothing_heavy(tmp_path):
    for verb in ("runs", "pairs"):
        code = f"from rlhfv.cli import main; main(['{verb}', 'list', '--data-dir', {str(tmp_path)!r}])"
        assert loaded_after(code) == [], verb


def test_the_whole_command_line_needs_no_gradio():
    modules = [module_of(file) for file in FILES if room_of(module_of(file)) not in ("studio", "publishing")]
    modules = [module for module in modules if not module.endswith("__main__")]
    assert "gradio" not in loaded_after("\n".join(f"import {module}" for module in modules))


def quickest(limit, measure):
    """The least of up to ten measurements, none after the first under the limit: other work only ever adds."""
    seconds = []
    while len(seconds) < 10 and min(seconds, default=limit) >= limit:
        seconds.append(measure())
    return min(seconds)


def run_python(*command):
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_rlhfv_is_quick():
    code = "import time; began = time.perf_counter(); import rlhfv; print(time.perf_counter() - began)"
    assert quickest(0.2, lambda: float(run_python("-c", code))) < 0.2


@pytest.mark.parametrize("verb", [(), ("train",), ("chat",), ("runs", "list"), ("demo", "evaluate")])
def test_help_is_quick(verb):
    def measure():
        # Seconds of computing: what other programs of the machine take does not count.
        began = os.times()
        assert run_python("-m", "rlhfv", *verb, "--help").startswith("usage: python -m rlhfv")
        ended = os.times()
        return ended.children_user + ended.children_system - began.children_user - began.children_system

    assert quickest(1.0, measure) < 1.0


def names_in(node):
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.Attribute):
            yield inner.attr
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def asks_for_the_demo(tree):
    for node in ast.walk(tree):
        tests = [node.test] if isinstance(node, (ast.If, ast.IfExp, ast.While, ast.Assert)) else []
        tests += node.ifs if isinstance(node, ast.comprehension) else []
        tests += [node.subject, *node.cases] if isinstance(node, ast.Match) else []
        if any("demo" in name.lower() for test in tests for name in names_in(test)):
            yield node.lineno if hasattr(node, "lineno") else tests[0].lineno


def test_nothing_outside_the_demo_asks_for_the_demo():
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for file, tree in trees()
        if not file.is_relative_to(PACKAGE / "models" / "demo")
        for line in asks_for_the_demo(tree)
    ]
    assert found == []


@pytest.mark.parametrize(
    "source", ["if name == 'demo':\n    pass", "x = 1 if entry.is_demo else 2", "[x for x in y if x == DEMO_MODEL]"]
)
def test_the_check_sees_a_question_for_the_demo(source):
    assert list(asks_for_the_demo(ast.parse(source)))


def test_spaces_is_no_package():
    assert list((ROOT / "spaces").rglob("__init__.py")) == []


def templates(file, tree):
    """(line, text or None where it is not constant) of the template of each HTML component that a file makes."""
    for node in ast.walk(tree):
        owners = node.bases if isinstance(node, ast.ClassDef) else []
        makes_html = any(isinstance(base, (ast.Attribute, ast.Name)) and name_of(base) == "HTML" for base in owners)
        calls = [inner for inner in ast.walk(node) if is_super_init(inner)] if makes_html else []
        calls += [node] if isinstance(node, ast.Call) and name_of(node.func) == "HTML" else []
        for call in calls:
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            template = given.get("html_template")
            yield call.lineno, template.value if isinstance(template, ast.Constant) else None


def name_of(node):
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def is_super_init(node):
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "__init__"
        and isinstance(node.func.value, ast.Call)
        and name_of(node.func.value.func) == "super"
    )


def bad_templates(file, tree):
    for line, template in templates(file, tree):
        if template is None or "{{" in template or "${" in template:
            yield f"{file}:{line}"


def test_no_template_of_the_studio_holds_data():
    studio = [(file, tree) for file, tree in trees() if file.is_relative_to(PACKAGE / "studio")]
    assert sum(len(list(templates(file, tree))) for file, tree in studio) >= 3, "the components were not found"
    assert [bad for file, tree in studio for bad in bad_templates(file, tree)] == []


@pytest.mark.parametrize(
    "source",
    [
        "gr.HTML('<b>text</b>')",
        "gr.HTML(value=x, html_template='<p>{{value}}</p>')",
        "gr.HTML(html_template='${value}')",
        "gr.HTML(html_template=f'<p>{text}</p>')",
        "class A(gr.HTML):\n    def __init__(self):\n        super().__init__(html_template=make())",
    ],
)
def test_the_check_sees_a_template_with_data(source):
    assert list(bad_templates("a.py", ast.parse(source)))


def test_files_stay_small():
    long = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in FILES}
    assert {name: lines for name, lines in long.items() if lines >= 450} == {}
