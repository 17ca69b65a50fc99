"""What the README says is run."""

import re
from pathlib import Path

from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.edits import CorrectedAnswer, Edit
from rlhfv.corrections.exchange import export_pairs
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import PreferencePair, Provenance
from rlhfv.models.demo.world import DemoWorld

README = Path(__file__).parents[1] / "README.md"


def test_the_python_api_runs_as_printed(tmp_path, monkeypatch, capsys):
    world, shelf = DemoWorld(), ImageShelf(tmp_path / "shelf")
    pairs = []
    for seed in range(8):
        image = shelf.intake(world.draw("pairs", seed)[0])
        original = "The picture shows a kitchen. In the middle is a cup."
        answer = CorrectedAnswer(original, (Edit(48, 51, "pizza", "object"),))
        pairs.append(
            PreferencePair(
                id=f"pair-{seed}",
                prompt=Prompt(world.questions[0], (image.name,)),
                chosen=answer.corrected,
                rejected=original,
                edits=answer.edits,
                outcome="corrected",
                provenance=Provenance(),
            )
        )
    export_pairs(pairs, tmp_path / "my-pairs", shelf.path)
    (tmp_path / "kitchen.png").write_bytes(world.draw("validation", 1)[0])
    monkeypatch.chdir(tmp_path)
    [code] = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out.strip().split("\n\n")[-1].splitlines()
    assert len(said) == 2 and all(line.startswith("The picture shows") for line in said)
    assert (tmp_path / "my-run" / "adapter" / "adapter_model.safetensors").is_file()


def test_the_readme_names_files_and_targets_that_exist():
    text = README.read_text(encoding="utf-8")
    root = README.parent
    for path in set(re.findall(r"`((?:rlhfv|tests|benchmarks|spaces)/[\w./-]+)`", text)):
        assert (root / path).exists(), path
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        assert (root / picture).is_file(), picture
    makefile = (root / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z-]+)", text)):
        assert f"\n{target}:" in makefile, target


def test_every_command_of_the_readme_parses():
    from rlhfv.cli import build_parser

    for line in re.findall(r"^python -m rlhfv (.+)$", README.read_text(encoding="utf-8"), re.MULTILINE):
        import shlex

        arguments = shlex.split(line, comments=True)
        if "--help" not in arguments:
            build_parser().parse_args(arguments)


def test_what_is_quoted_of_the_experiments_stands_on_their_page():
    text = README.read_text(encoding="utf-8")
    start = text.index("RLHF-V's own experiments on this world")
    said = text[start : text.index("Read with the page's own words", start)]
    page = (README.parent / "benchmarks" / "results" / "reproduce_demo.md").read_text(encoding="utf-8")
    rows = [line for line in said.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 6
    for row in rows:
        figures = re.findall(r"-?\d[\d.]*(?: %)? \[[^]]+\]", row)
        verdict = f"**{row.split('|')[3].split(':')[0].strip()}**"
        assert len(figures) == 2
        assert any(verdict in line and all(each in line for each in figures) for line in page.splitlines()), row
    counted = "of {} claims {} held, {} not held, {} undecided"
    found = re.search(r"Of (\d+) claims: (\d+) held; (\d+) not held; (\d+) undecided", page)
    assert counted.format(*found.groups()) in said and re.search(r"Cells\*\*: (\d+) of \1 done, 5 h 0 min", page)
