"""`pairs accept|return|withdraw|choose|merge|undo|story|stats`: what happens to a correction until it counts."""

import argparse
import json
from dataclasses import asdict
from itertools import starmap
from typing import TYPE_CHECKING

from rlhfv.commands.terminal import count, open_services, show, show_json, tell
from rlhfv.corrections.edits import KINDS, edits_from_rows
from rlhfv.corrections.reviews import Review
from rlhfv.corrections.statistics import PAPER_CORRECTIONS, PAPER_WORDS, Figures
from rlhfv.errors import InvalidData

if TYPE_CHECKING:
    from rlhfv.evaluation.bootstrap import Figure
    from rlhfv.evaluation.comparison import Comparison
    from rlhfv.evaluation.score import Score


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


def add_flags(verb: argparse.ArgumentParser) -> None:
    """The flags of `stats`."""
    verb.add_argument(
        "--compare",
        nargs=2,
        metavar=("BEFORE", "AFTER"),
        help="how often two models hallucinate in the eyes of those who judged their answers to the same questions; "
        "models as `pairs stats` names them",
    )


def stats(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    if arguments.compare:
        return _compare(arguments, services.reviewing.human_comparison(actor, *arguments.compare))
    found = services.reviewing.statistics(actor)
    human = services.reviewing.human_scores(actor)
    if arguments.json:
        rates = {
            model: {"variant": score.variant, "judged": len(score.ids), **score.figures(), "notes": score.notes}
            for model, score in human.items()
        }
        paper = {"words": PAPER_WORDS, "corrections": PAPER_CORRECTIONS}
        return show_json(asdict(found) | {"hallucination": rates, "paper": paper})
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
    if human:
        show(
            "hallucinating answers in % (words of them were replaced or deleted)", *starmap(_rates_line, human.items())
        )


def _figures_line(row: Figures) -> str:
    return (
        f"  {row.name or 'nobody named':40.40} {row.answers:6} answers {row.corrections:7} corrections "
        f"{row.seconds_per_correction:5.0f} s each, wrong in {row.response_rates['any']:6.1%} of {row.judged}"
    )


def _compare(arguments: argparse.Namespace, found: "Comparison") -> None:
    changes = [*found.gains, *found.prices]
    if arguments.json:
        rows = {
            change.measure.name: {side: getattr(change, side).to_dict() for side in ("before", "after", "difference")}
            for change in changes
        }
        flips = {name: getattr(found.flips, name) for name in ("mended", "broken", "p")}
        return show_json({"prompts": len(found.rows), "variant": found.variant, "measures": rows, "flips": flips})
    tell(f"{count(len(found.rows), 'question')} of which both models had an answer judged; intervals hold 95 %")
    for change in changes:
        before, after, difference = (_value(one) for one in (change.before, change.after, change.difference))
        show(f"{change.measure.title:48}  {before} → {after}  ({difference})")
    show(f"mended {found.flips.mended}, broken {found.flips.broken} (McNemar p = {found.flips.p:.3g})")


def _value(figure: "Figure") -> str:
    if figure.value is None:
        return "not defined"
    return f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}]"


def _rates_line(model: str, score: "Score") -> str:
    figures = score.figures()
    kinds = ", ".join(f"{kind} {figures[kind]}" for kind in KINDS if figures[kind])
    return f"  {model:40.40} {figures['any']:5} of {len(score.ids)} judged{f': {kinds}' if kinds else ''}"


def _tell(arguments: argparse.Namespace, reviews: list[Review]) -> None:
    if arguments.json:
        return show_json([asdict(review) for review in reviews])
    for review in reviews:
        tell(f"{review.pair}: {review.action}, now {review.after or 'not in the list'}")


def _tell_pair(arguments: argparse.Namespace, pair, sentence: str) -> None:
    if arguments.json:
        return show_json(pair.to_row())
    tell(sentence)
