"""`pairs list|show|export|import`: the corrections made so far."""

import argparse
from dataclasses import asdict
from pathlib import Path

from rlhfv.commands.terminal import count, one_line, open_services, progress, read_token, show, show_json, tell
from rlhfv.publishing.formats.source import HUB_ID

TOLD_PROBLEMS = 20


def list_pairs(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    page = services.corrections.find(
        actor,
        text=arguments.text,
        kind=arguments.kind,
        annotator=arguments.annotator,
        model=arguments.by_model,
        outcome=arguments.outcome,
        state=arguments.state,
        offset=arguments.offset,
        limit=arguments.limit,
    )
    if arguments.json:
        rows = [pair.to_row() | {"state": state} for pair, state in zip(page.pairs, page.states, strict=True)]
        return show_json({"total": page.total, "pairs": rows})
    for pair, state in zip(page.pairs, page.states, strict=True):
        kinds = ", ".join(sorted({edit.kind for edit in pair.edits})) or pair.outcome
        annotator, question = one_line(pair.provenance.annotator) or "-", one_line(pair.prompt.question)
        show(f"{pair.id}  {annotator:12.12}  {state:10}  {kinds:20.20}  {question:.60}")
    tell(f"{len(page.pairs)} of {count(page.total, 'pair')}")


def show_pair(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    pair = services.corrections.pair(actor, arguments.id)
    history = services.corrections.history(actor, arguments.id)
    if arguments.json:
        revisions = [
            {"number": one.number, "created": one.created, "annotator": one.annotator, "action": one.action}
            for one in history
        ]
        return show_json({**pair.to_row(), "revisions": revisions})
    for turn in pair.prompt.history:
        show(f"before    {turn.question}", f"          {turn.answer}")
    show(f"question  {pair.prompt.question}", f"rejected  {pair.rejected}", f"chosen    {pair.chosen}")
    for edit in pair.edits:
        show(f"  {edit.kind}: {pair.rejected[edit.start : edit.end]!r} → {edit.replacement!r}")
    show(*(f"picture   {name}" for name in pair.prompt.all_images), f"answer of {pair.provenance.model}")
    for revision in history:
        by = one_line(revision.annotator) or "nobody named"
        show(f"revision  {revision.number}, {revision.action} by {by}, {revision.created}")


def export(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    losses = []
    if arguments.datasets:
        exported = services.corrections.export_datasets(actor, arguments.folder)
    else:
        losses = services.corrections.losses(actor, arguments.format)
        tell(*(f"Not in {arguments.format}: {sentence}" for sentence in losses))
        total = services.corrections.find(actor, state="accepted", limit=1).total
        with progress("exporting", total, "pairs") as bar:
            exported = services.corrections.export_to(actor, arguments.folder, arguments.format, bar.update_to)
    if arguments.json:
        return show_json({"pairs": exported, "folder": str(arguments.folder), "losses": losses})
    tell(f"{count(exported, 'pair')} in {arguments.folder}")


def take_in(arguments: argparse.Namespace) -> int:
    services, actor = open_services(arguments)
    # A file or folder where there is one of that name, else a dataset on the Hub.
    on_hub = not Path(arguments.path).exists() and HUB_ID.fullmatch(arguments.path)
    source, token = (arguments.path, read_token(arguments) or False) if on_hub else (Path(arguments.path), False)
    with progress("importing", None, "rows") as bar:
        report = services.corrections.import_from(actor, source, arguments.format, token, bar.update_to)
    if report.told_by:
        tell(f"Read as {report.format}, told by {report.told_by}.")
    if arguments.json:
        problems = [asdict(problem) for problem in report.problems]
        shown = {"format": report.format, "imported": report.pairs, "changed": report.changed, "problems": problems}
        show_json(shown)
    else:
        tell(*(str(problem) for problem in report.problems[:TOLD_PROBLEMS]))
        if len(report.problems) > TOLD_PROBLEMS:
            tell(f"… and {len(report.problems) - TOLD_PROBLEMS:,} more; `--json` has them all")
        tell(f"{count(report.pairs, 'pair')} imported, {count(len(report.problems), 'row')} left out")
    return 0 if report.pairs or not report.problems else 2
