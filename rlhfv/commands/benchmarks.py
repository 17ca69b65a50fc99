"""`benchmark list|answer|sets|import|score|compare|export`: the field's benchmarks, on the user's own files."""

import argparse
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.commands.chat import find_voice, interrupt_stops
from rlhfv.commands.judges import add_judge_flags, judge_of
from rlhfv.commands.terminal import count, one_line, open_services, progress, show, show_json, tell
from rlhfv.models.decoding import DECODINGS
from rlhfv.settings import (
    add_adapter_argument,
    add_bases_arguments,
    add_benchmarks_argument,
    add_data_argument,
    add_model_arguments,
    add_remote_arguments,
)

if TYPE_CHECKING:
    from rlhfv.evaluation.answer_sets import AnswerSet
    from rlhfv.evaluation.comparison import Comparison
    from rlhfv.evaluation.judge import Judge
    from rlhfv.evaluation.score import Score
    from rlhfv.services import Actor, Services
    from rlhfv.services.benchmarking import Progress

FOLDERS = (add_data_argument, add_benchmarks_argument)
VOICES = (
    *FOLDERS,
    *(add_model_arguments, add_adapter_argument, add_bases_arguments, add_remote_arguments),
)
TOLD = 10
"""Failures that are printed; the others are counted."""


# ---- flags


def add_verbs(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the verbs; `verb(name, act, help, *shared)` makes one with `--json` and the shared flags."""
    verb(
        "list", list_benchmarks, "what there is, which files each wants, where they come from, what is there", *FOLDERS
    )
    one = verb("answer", answer, "let a voice answer a benchmark; again: go on where it was", *VOICES)
    one.add_argument("benchmark", help="as `benchmark list` prints it")
    one.add_argument("--voice", help="an adapter or a voice on a server, by id or title (default: the first on offer)")
    add_answering(one)
    verb("sets", list_sets, "the sets of answers that are here, newest first", *FOLDERS)
    one = verb("import", take_in, "take in answers that were made elsewhere", *FOLDERS)
    one.add_argument("benchmark", help="as `benchmark list` prints it")
    one.add_argument(
        "file",
        type=Path,
        help="answers as AMBER, POPE, LLaVA, MMHal-Bench, captions, Object HalBench, lmms-eval or VLMEvalKit",
    )
    one.add_argument("--title", default="", help="what the set is called (default: the file's name)")
    one.add_argument("--format", default="", help="default: told by the columns")
    one.add_argument("--by", default="", metavar="MODEL", help="who answered, where you know it")
    one.add_argument(
        "--decoding",
        choices=list(DECODINGS),
        default="",
        help="say that the answers were made as the studio asks: the bare question, decoded so. Without it this is "
        "unknown, and unknown is compared with unknown only",
    )
    one = verb("score", score, "the figures of sets of answers", *FOLDERS)
    one.add_argument(
        "ids",
        metavar="id",
        nargs="+",
        help="as `benchmark sets` prints it; POPE's splits, or AMBER's parts, together too",
    )
    _add_counting(one)
    one = verb("compare", compare, "two sets of answers item by item, with intervals", *FOLDERS)
    one.add_argument("before", help="as `benchmark sets` prints it")
    one.add_argument("after", help="the same of the answers that are to be better")
    one.add_argument("--page", type=Path, metavar="FILE", help="write it all as one HTML page to share")
    _add_counting(one)
    one = verb("export", export, "write the answers of a set to a file", *FOLDERS)
    one.add_argument("id", help="as `benchmark sets` prints it")
    one.add_argument("file", type=Path, help="written anew")
    one.add_argument("--format", default="", help="default: the benchmark's own")


def add_answering(verb) -> None:
    verb.add_argument(
        "--decoding",
        choices=list(DECODINGS),
        help="greedy (default), or rlhfv: 3 beams, repetition penalty 1.1; both up to 1,024 new tokens",
    )
    verb.add_argument("--batch-size", type=_read_size, help="rows at once; a beam is a row (default: 16)")


def _add_counting(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--variant", default="", help="how it is counted (default: the first that `benchmark list` prints)"
    )
    verb.add_argument("--vectors", type=Path, metavar="FILE", help="word vectors, for AMBER's variant 'similar'")
    add_judge_flags(verb)


def _read_size(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 4096):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows from 1")
    return int(text)


# ---- verbs


def list_benchmarks(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    offered = services.benchmarking.benchmarks(actor)
    if arguments.json:
        return show_json(
            {
                "folder": str(services.benchmarking.root),
                "benchmarks": [
                    {
                        "name": one.benchmark.name,
                        "title": one.benchmark.title,
                        "ready": one.ready,
                        "variants": one.benchmark.variants,
                        "judged": sorted(one.benchmark.judged),
                        "files": [asdict(file.wanted) | {"there": file.there} for file in one.files],
                    }
                    for one in offered
                ],
            }
        )
    show(f"Files are looked for in {services.benchmarking.root}.")
    for one in offered:
        what = one.benchmark
        show("", f"{what.name}  {what.title}: {'ready' if one.ready else 'files are missing'}")
        judged = [f"{name} (needs a judge)" if name in what.judged else name for name in what.variants]
        show(f"  counted as {', '.join(judged)}")
        for file in one.files:
            state = "there  " if file.there else "MISSING" if file.wanted.required else "absent "
            show(f"  {state}  {file.wanted.path}: {file.wanted.what}; from {file.wanted.source}")


def answer(arguments: argparse.Namespace) -> int:
    services, actor = open_services(arguments)
    voice = find_voice(services.host.voices(actor), arguments.voice) if arguments.voice else ""
    stop = threading.Event()
    with interrupt_stops(stop):
        state = ask(services, actor, arguments.benchmark, voice, arguments, stop, arguments.benchmark)
    if state is None:
        tell("Stopped before the model was in memory. Say it again to go on.")
        return 130
    left = state.total - services.benchmarking.answer_set(actor, state.id).done
    if arguments.json:
        failed = [{"item": one.item, "error": str(one.error)} for one in state.failures]
        show_json({"id": state.id, "done": state.total - left, "total": state.total, "failed": failed})
    else:
        show(state.id)
        tell(f"{count(state.total - left, 'answer')} of {state.total}." + (" Say it again to go on." if left else ""))
    return 130 if stop.is_set() else 1 if state.failures else 0


def ask(
    services: "Services",
    actor: "Actor",
    benchmark: str,
    voice: str,
    arguments: argparse.Namespace,
    stop: threading.Event,
    title: str,
) -> "Progress | None":
    """Lets a voice answer as the flags say, behind a bar named `title`; tells what failed. None where it was stopped
    before the model was in memory."""
    from rlhfv.services.benchmarking import BATCH

    how = (arguments.decoding or "greedy", stop, arguments.batch_size or BATCH)
    states = services.benchmarking.answer(actor, benchmark, voice, *how)
    state = next(states, None)  # whatever is refused is refused before it
    if state is None:
        return None
    with progress(title, state.total, "answers") as bar:
        bar.update_to(state.done)
        for state in states:
            bar.update_to(state.done)
    for one in state.failures[:TOLD]:
        tell(f"Item {one.item}: {one.error}")
    if len(state.failures) > TOLD:
        tell(f"… and {count(len(state.failures) - TOLD, 'more item')} without an answer.")
    return state


def list_sets(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    found = services.benchmarking.answer_sets(actor)
    if arguments.json:
        return show_json([_set_row(one) for one in found])
    for one in found:
        show(f"{one.id}  {one.done} of {one.total}  {one_line(one.title)}")
    tell(count(len(found), "set"))


def take_in(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    id = services.benchmarking.take_in(
        actor,
        arguments.benchmark,
        arguments.file,
        arguments.title,
        arguments.format,
        arguments.decoding,
        arguments.by,
    )
    one = services.benchmarking.answer_set(actor, id)
    if arguments.json:
        return show_json(_set_row(one))
    tell(*one.notes, f"{count(one.done, 'answer')} of {one.total} items.")
    show(id)


def score(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    with judging(arguments) as judge:
        found = [
            services.benchmarking.score(actor, id, arguments.variant, judge, arguments.vectors) for id in arguments.ids
        ]
    stamps = [services.benchmarking.answer_set(actor, id).stamp for id in arguments.ids]
    tell_unasked(arguments, (stamp.benchmark for stamp in stamps), arguments.variant)
    from rlhfv.evaluation.parts import put_together

    whole = put_together(found, stamps)
    if arguments.json:
        rows = [score_row(one) | {"stamp": stamp.to_dict()} for one, stamp in zip(found, stamps, strict=True)]
        return show_json(rows[0] if len(rows) == 1 else [*rows, *map(score_row, whole)])
    for one, stamp in zip(found, stamps, strict=True):
        show_score(one, stamp.lines)
    for one in whole:
        show_score(one, {"benchmark": f"{one.benchmark}, all parts together"})


def show_score(found: "Score", lines: Mapping[str, str]) -> None:
    from rlhfv.evaluation.bootstrap import Resamples
    from rlhfv.evaluation.sentences import show_range, show_value

    show(*(f"{name}: {value}" for name, value in lines.items()), f"counted as: {found.variant}")
    show(f"items: {len(found.ids)}", "")
    resamples = Resamples(found.counts, clusters=found.clusters)
    width = max(len(measure.title) for measure in found.measures)
    for measure in found.measures:
        figure = resamples.measure(measure)
        show(f"{measure.title:{width}}  {show_value(measure, figure):>8} {show_range(measure, figure)}".rstrip())
    show("")
    tell(*found.notes)


def compare(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    ids = (arguments.before, arguments.after)
    with judging(arguments) as judge:
        found = compared(services, actor, ids, arguments.variant, judge, arguments.vectors)
    tell_unasked(arguments, [services.benchmarking.answer_set(actor, ids[0]).stamp.benchmark], arguments.variant)
    if arguments.page:
        arguments.page.write_text(page_of(services, actor, found, ids), encoding="utf-8")
        tell(f"Written to {arguments.page}.")
    if arguments.json:
        return show_json(comparison_row(found))
    show_comparison(services, actor, found, ids)


def compared(
    services: "Services", actor: "Actor", ids: tuple[str, str], variant: str, judge, vectors: Path | None = None
) -> "Comparison":
    if judge is None and vectors is None:
        return services.reporting.comparison(actor, *ids, variant)
    return services.benchmarking.compare(actor, *ids, variant, judge, vectors)


def show_comparison(services: "Services", actor: "Actor", found: "Comparison", ids: tuple[str, str]) -> None:
    from rlhfv.evaluation import sentences

    titles = [services.benchmarking.answer_set(actor, id).title for id in ids]
    show(sentences.headline(found), sentences.certainty(found, *titles), sentences.flipped(found.flips))
    show(sentences.price(found), "", f"counted as: {found.variant}", "")
    for change in found.changes:
        shown = [f"{sentences.show_value(change.measure, one):>8}" for one in (change.before, change.after)]
        show(f"{' → '.join(shown)}  {sentences.show_difference(change)}  {change.measure.title}")
    tell(*found.notes)


def export(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    written = services.benchmarking.export(actor, arguments.id, arguments.format, arguments.file)
    if arguments.json:
        return show_json({"written": written, "file": str(arguments.file)})
    tell(f"{count(written, 'answer')} written to {arguments.file}.")


# ---- inside


@contextmanager
def judging(arguments: argparse.Namespace) -> "Iterator[Callable[[Path], Judge] | None]":
    """The judge that the flags name as the service takes it, None without one; how far it is is shown."""
    if arguments.judge is None:
        yield judge_of(arguments)
        return
    bars = []
    with ExitStack() as shown:

        def move(done: int, total: int) -> None:
            if not bars:  # nothing may be asked at all
                bars.append(shown.enter_context(progress("judging", total, "replies")))
            bars[0].total = total
            bars[0].update_to(done)

        yield judge_of(arguments, move)


def tell_unasked(arguments: argparse.Namespace, names: Iterable[str], variant: str = "") -> None:
    """Says of each of these benchmarks where the judge that the flags name has nothing to do."""
    from rlhfv.evaluation.benchmarks import find_benchmark

    for what in map(find_benchmark, dict.fromkeys(names) if arguments.judge else ()):
        if what.variant(variant) not in what.judged:
            usual = ", ".join(one for one in what.variants if one in what.judged)
            more = f"; --variant {usual} needs one" if usual else ""
            tell(f"The judge is not asked: {what.title} is counted without one{more}.")


def page_of(services: "Services", actor: "Actor", found: "Comparison", ids: tuple[str, str]) -> str:
    from datetime import UTC, datetime

    from rlhfv.evaluation.page import render, small_picture

    def picture(row):
        path = services.benchmarking.picture(actor, row.item.image)
        return small_picture(path) if path else None

    made = datetime.now(UTC).strftime("%-d %B %Y")
    return render(found, services.reporting.sides(actor, *ids), made, "", picture)


def _set_row(one: "AnswerSet") -> dict:
    return asdict(one) | {"stamp": one.stamp.to_dict()}


def score_row(found: "Score") -> dict:
    from rlhfv.evaluation.bootstrap import Resamples

    resamples = Resamples(found.counts, clusters=found.clusters)
    return {
        "benchmark": found.benchmark,
        "variant": found.variant,
        "items": len(found.ids),
        "wrong": int(found.wrong.sum()),
        "figures": {measure.name: resamples.measure(measure).to_dict() for measure in found.measures},
        "notes": found.notes,
    }


def comparison_row(found: "Comparison") -> dict:
    return {
        "benchmark": found.benchmark,
        "variant": found.variant,
        "items": len(found.rows),
        "changes": {
            change.measure.name: {name: getattr(change, name).to_dict() for name in ("before", "after", "difference")}
            for change in found.changes
        },
        "general": {title: change.difference.to_dict() for title, change in found.general},
        "flips": asdict(found.flips),
        "outcomes": {row.item.id: row.outcome for row in found.rows},
        "notes": found.notes,
    }
