"""`requirements.txt` brings every package that the code imports, or a package that it lists does in any case."""

import ast
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
OWN = {"rlhfv", "benchmarks", "tests"}
IMPORTED_AS = {"PIL": "pillow", "yaml": "pyyaml"}
# `doctor` starts it as a process of its own where TRL is installed, and says so where it is not. ZeroGPU's package is
# imported on ZeroGPU only, where `spaces/requirements.txt` brings it.
OPTIONAL = {"rlhfv/ddpo/beside_trl.py imports trl", "rlhfv/models/zero.py imports spaces"}


def listed(name):
    """The packages that a requirements file names, with their ranges."""
    lines = (ROOT / name).read_text().splitlines()
    return {canonicalize_name(one.name): one for one in map(Requirement, filter(lambda line: line[0] != "-", lines))}


def hard_dependencies(package):
    """What installing a package installs in any case."""
    for text in metadata.requires(package) or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def statements(node):
    """Every statement inside a node, at any depth; expressions, which import nothing, are passed over."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, (ast.stmt, ast.excepthandler, ast.match_case)):
            yield inner
            yield from statements(inner)


def imported_packages(files):
    """The top-level modules from elsewhere that some files import, at any depth, each with one of these files."""
    found = {}
    for file in files:
        for node in statements(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {name.split(".")[0]: str(file.relative_to(ROOT)) for name in names}
    return {name: file for name, file in found.items() if name not in OWN | set(sys.stdlib_module_names)}


def missing(imported, packages):
    """Imports that nothing among `packages` brings."""
    brought = {*packages, *(found for package in packages for found in hard_dependencies(package))}
    for name, file in imported.items():
        if canonicalize_name(IMPORTED_AS.get(name, name)) not in brought:
            yield f"{file} imports {name}"


def test_the_app_imports_nothing_that_its_requirements_do_not_bring():
    files = [ROOT / "app.py", *(ROOT / "rlhfv").rglob("*.py"), *(ROOT / "spaces").rglob("*.py")]
    imported = imported_packages(files)
    assert {"regex", "numpy", "psutil", "starlette"} <= imported.keys(), "imports were not found"
    assert set(missing(imported, listed("requirements.txt"))) == OPTIONAL


def test_tests_and_benchmarks_import_nothing_that_theirs_do_not_bring():
    imported = imported_packages([*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])
    assert list(missing(imported, listed("requirements.txt") | listed("tests/requirements.txt"))) == []


def test_the_check_sees_a_package_that_nothing_brings(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "a.py").write_text("def lazy():\n    from playwright.sync_api import Page\n    import unheard.of\n")
    imported = imported_packages([tmp_path / "a.py"])
    assert list(missing(imported, ["gradio"])) == ["a.py imports playwright", "a.py imports unheard"]


@pytest.mark.parametrize("name", ["requirements.txt", "tests/requirements.txt"])
def test_what_is_tested_lies_in_the_ranges(name):
    outside = {
        package: metadata.version(package)
        for package, requirement in listed(name).items()
        if not requirement.specifier.contains(metadata.version(package), prereleases=True)
    }
    assert outside == {}
