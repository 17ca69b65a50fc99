"""`runs reask`: the corrected questions of a run once more, to its adapter or to any voice."""

import argparse
from collections import Counter
from dataclasses import asdict

from rlhfv.commands.chat import find_voice
from rlhfv.commands.terminal import one_line, open_services, progress, show, show_json, tell


def reask(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    voice = find_voice(services.host.voices(actor), arguments.voice) if arguments.voice else ""
    results = []
    with progress("asking again", None, "questions") as bar:
        for results, total in services.training.reask(actor, arguments.id, voice=voice):
            bar.total = total
            bar.update_to(len(results))
    if arguments.json:
        return show_json(
            [
                {
                    "pair": result.pair.id,
                    "answer": result.new_answer,
                    "judged_by": result.judged_by,
                    "verdicts": [asdict(verdict) for verdict in result.verdicts],
                }
                for result in results
            ]
        )
    for result in results:
        show(f"{result.pair.id}  {one_line(result.pair.prompt.question):.60}")
        for verdict in result.verdicts:
            show(f"  {verdict.verdict:20} {one_line(verdict.wrong)!r} → {one_line(verdict.right)!r}")
    counted = Counter(verdict.verdict for result in results for verdict in result.verdicts)
    tell(
        ", ".join(f"{number} {verdict}" for verdict, number in counted.most_common())
        or "Nothing was corrected by hand."
    )
