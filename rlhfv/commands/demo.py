"""`demo build|scene|annotate|evaluate`: the demo model's own world, made, drawn, corrected and measured."""

import argparse
import tempfile
from pathlib import Path

from rlhfv.commands.terminal import progress, show, show_json, tell
from rlhfv.models.catalog import DEMO_FOLDER, Entry, find_entry
from rlhfv.settings import DEMO_MODEL, settings_from_arguments


def build(arguments: argparse.Namespace) -> None:
    from rlhfv.models.demo.build import build as build_model

    work_dir = arguments.work_dir or settings_from_arguments(arguments).data_dir / "build"
    figures = build_model(work_dir, arguments.output or DEMO_FOLDER / "weights", arguments.seed, tell)
    show_json(figures) if arguments.json else show(*(f"{name}: {value}" for name, value in figures.items()))


def scene(arguments: argparse.Namespace) -> None:
    from rlhfv.models.demo.world import DemoWorld

    world = DemoWorld()
    picture, source = world.draw(arguments.split, arguments.seed)
    truth = world.truth(source)
    if arguments.output:
        arguments.output.write_bytes(picture)
    if arguments.json:
        return show_json({"source": source, "truth": truth.to_dict(), "file": arguments.output})
    show(f"{source}: a {truth.scene_type}")
    show(*(f"  {placed.count} × {placed.name}, cell {placed.cell}" for placed in truth.objects))


def annotate(arguments: argparse.Namespace) -> None:
    from rlhfv.corrections.edits import MAX_ANSWER_CHARS, CorrectedAnswer, edits_to_rows, require_text
    from rlhfv.models.demo.world import DemoWorld

    require_text(arguments.answer, "answer", MAX_ANSWER_CHARS)
    world = DemoWorld()
    edits = world.annotate(arguments.source, arguments.question or world.questions[0], arguments.answer)
    corrected = CorrectedAnswer(arguments.answer, edits)
    if arguments.json:
        rows = edits_to_rows(arguments.answer, corrected.edits)
        return show_json({"source": arguments.source, "edits": rows, "corrected": corrected.corrected})
    show(*(f"{edit.kind}: {arguments.answer[edit.start : edit.end]!r} → {edit.replacement!r}" for edit in edits))
    show(corrected.corrected)


def evaluate(arguments: argparse.Namespace) -> None:
    from rlhfv.evaluation.demo_world import BASELINE, EvaluatedVoice, answer_scenes, read_answers, require_world
    from rlhfv.evaluation.report import build_results, render_table, shape_for_two
    from rlhfv.models.local import LocalModel

    entry = find_entry(DEMO_MODEL)
    world = require_world(entry)
    model = LocalModel.load(entry)
    title, source = (
        (Path(arguments.with_adapter).name, arguments.with_adapter) if arguments.with_adapter else _shipped(entry)
    )
    voices = [EvaluatedVoice(BASELINE, "Baseline"), EvaluatedVoice(model.attach(source), title)]
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "answers.jsonl"
        with progress("answering", None, "answers") as bar:
            for done, bar.total in answer_scenes(model, voices, world, arguments.scenes, answers):
                bar.update_to(done)
        results = build_results(world, voices, read_answers(answers), arguments.scenes)
    show_json(shape_for_two(results)) if arguments.json else show(render_table(results))


def _shipped(entry: Entry) -> tuple[str, str]:
    """Title and folder of the adapter that ships with the model."""
    return entry.adapters[0].title, entry.adapters[0].source
