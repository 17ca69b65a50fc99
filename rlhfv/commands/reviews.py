"""`pairs accept|return|withdraw|choose|merge|undo|story|stats`: what happens to a correction until it counts."""

import argparse
import json
from dataclasses import asdict

from rlhfv.commands.terminal import count, open_services, show, show_json, tell
from rlhfv.corrections.edits import edits_from_rows
from rlhfv.corrections.reviews import Review
from rlhfv.corrections.statistics import PAPER_CORRECTIONS, PAPER_WORDS, Figures
from rlhfv.errors import InvalidData


def accept(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    _tell(arguments, [services.reviewing.accept(actor, id) for id in arguments.id])


def send_back(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    _tell(arguments, [services.reviewing.send_back(actor, arguments.id, arguments.comment)])


def withdraw(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    _tell(arguments, [services.reviewing.withdraw(actor, arguments.id)])


def undo(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    _tell(arguments, [services.reviewing.undo(actor, arguments.id)])


def choose(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    pair = services.reviewing.choose(actor, arguments.id, arguments.other)
    _tell_pair(arguments, pair, f"{pair.id} is accepted, {arguments.other} superseded")


def merge(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    edits = None
    if arguments.edits is not None:
        try:
            rows = json.loads(arguments.edits.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InvalidData(
                f"{arguments.edits.name} is not JSON.", f"{error}.", "Give a list of edits as in an export."
            ) from error
        original = services.corrections.pair(actor, arguments.id).rejected
        edits = edits_from_rows(rows, original)
    pair = services.reviewing.merge(actor, arguments.id, arguments.other, edits)
    _tell_pair(arguments, pair, f"{pair.id} is accepted with {count(len(pair.edits), 'correction')}")


def story(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    lines = services.reviewing.story(actor, arguments.id)
    if arguments.json:
        return show_json([asdict(line) for line in lines])
    for line in lines:
        show(f"{line.when[:16].replace('T', ' '):16}  {line.text}")


def stats(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    found = services.reviewing.statistics(actor)
    if arguments.json:
        return show_json(asdict(found) | {"paper": {"words": PAPER_WORDS, "corrections": PAPER_CORRECTIONS}})
    total = found.total
    states = ", ".join(f"{number} {state}" for state, number in sorted(found.states.items()))
    show(
        f"corrected answers  {total.answers}{f' ({states})' if states else ''}",
        f"words an answer    {total.words_per_answer:.1f} (RLHF-V: {PAPER_WORDS})",
        f"corrections each   {total.corrections_per_answer:.2f} (RLHF-V: {PAPER_CORRECTIONS})",
        f"seconds an answer  {total.seconds_per_answer:.0f}, {total.seconds_per_correction:.0f} a correction",
        f"nothing wrong in   {total.nothing_wrong:.1%} of {total.judged} judged answers",
        f"preferred pairs    {found.preferred}",
    )
    for kind, number in total.kinds.items():
        share = number / total.corrections if total.corrections else 0
        show(f"  {kind:10} {number:7} ({share:6.1%}), in {total.response_rates[kind]:6.1%} of the judged answers")
    for title, rows in (("by annotator", found.annotators), ("by model", found.models)):
        show(title, *map(_figures_line, rows))


def _figures_line(row: Figures) -> str:
    return (
        f"  {row.name or 'nobody named':40.40} {row.answers:6} answers {row.corrections:7} corrections "
        f"{row.seconds_per_correction:5.0f} s each, wrong in {row.response_rates['any']:6.1%} of {row.judged}"
    )


def _tell(arguments: argparse.Namespace, reviews: list[Review]) -> None:
    if arguments.json:
        return show_json([asdict(review) for review in reviews])
    for review in reviews:
        tell(f"{review.pair}: {review.action}, now {review.after or 'not in the list'}")


def _tell_pair(arguments: argparse.Namespace, pair, sentence: str) -> None:
    if arguments.json:
        return show_json(pair.to_row())
    tell(sentence)
