"""`pairs list|show|export|import`: the corrections made so far."""

import argparse

from rlhfv.commands.terminal import open_services, show, show_json, tell


def list_pairs(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    page = services.corrections.find(
        actor,
        text=arguments.text,
        kind=arguments.kind,
        annotator=arguments.annotator,
        model=arguments.by_model,
        outcome=arguments.outcome,
        offset=arguments.offset,
        limit=arguments.limit,
    )
    if arguments.json:
        return show_json({"total": page.total, "pairs": [pair.to_row() for pair in page.pairs]})
    for pair in page.pairs:
        kinds = ", ".join(sorted({edit.kind for edit in pair.edits})) or pair.outcome
        show(f"{pair.id}  {pair.provenance.annotator or '-':12.12}  {kinds:20.20}  {pair.prompt.question:.60}")
    tell(f"{len(page.pairs)} of {page.total} pairs")


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
    show(f"question  {pair.prompt.question}", f"rejected  {pair.rejected}", f"chosen    {pair.chosen}")
    for edit in pair.edits:
        show(f"  {edit.kind}: {pair.rejected[edit.start : edit.end]!r} → {edit.replacement!r}")
    show(f"by {pair.provenance.annotator or 'nobody named'}, {pair.provenance.model}, revision {pair.revision}")


def export(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    write = services.corrections.export_datasets if arguments.datasets else services.corrections.export_jsonl
    count = write(actor, arguments.folder)
    if arguments.json:
        return show_json({"pairs": count, "folder": str(arguments.folder)})
    tell(f"{count} pairs in {arguments.folder}")


def take_in(arguments: argparse.Namespace) -> int:
    services, actor = open_services(arguments)
    report = services.corrections.import_jsonl(actor, arguments.path)
    if arguments.json:
        show_json({"imported": len(report.pairs), "problems": [str(problem) for problem in report.problems]})
    else:
        for problem in report.problems:
            tell(str(problem))
        tell(f"{len(report.pairs)} pairs imported, {len(report.problems)} rows left out")
    return 0 if report.pairs or not report.problems else 2
