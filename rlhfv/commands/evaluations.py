"""`evaluate`: adapters beside their baseline, on drawn scenes as a run or on the field's benchmarks."""

import argparse
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.commands import benchmarks
from rlhfv.commands.benchmarks import add_answering, judging, page_of, score_row, show_comparison, show_score
from rlhfv.commands.chat import find_voice, interrupt_stops
from rlhfv.commands.judges import add_judge_flags
from rlhfv.commands.runs import add_run_flags, started
from rlhfv.commands.terminal import open_services, show, show_json, tell, tell_error
from rlhfv.errors import InvalidData, StudioError
from rlhfv.evaluation.demo_world import MAX_SCENES
from rlhfv.models.decoding import find_decoding
from rlhfv.services.asking import refuse_search

if TYPE_CHECKING:
    from rlhfv.services import Actor, Services
    from rlhfv.services.model_host import Voice


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--voice", action="append", default=[], help="an adapter by id or title (default: all on offer)"
    )
    scenes = parser.add_argument_group("on drawn scenes", "whose truth is known: for the demo model, as a run")
    scenes.add_argument("--scenes", type=int, help=f"how many test scenes (default: {MAX_SCENES})")
    add_run_flags(scenes)
    field = parser.add_argument_group(
        "on the field's benchmarks",
        "any model: baseline and voices answer, each voice is compared with its baseline item by item; again: goes on "
        "where it was",
    )
    field.add_argument(
        "--benchmark",
        action="append",
        default=[],
        metavar="NAME",
        help="as `benchmark list` prints it; may be repeated",
    )
    add_answering(field)
    field.add_argument("--pages", type=Path, metavar="FOLDER", help="write each comparison as an HTML page to share")
    add_judge_flags(parser)


def evaluate(arguments: argparse.Namespace) -> int:
    if arguments.benchmark:
        return _measure(arguments)
    _refuse_unused(arguments)
    services, actor = open_services(arguments)
    offered = services.host.world_adapters(actor)
    voices = [find_voice(offered, voice) for voice in arguments.voice] or [voice.id for voice in offered]
    scenes = MAX_SCENES if arguments.scenes is None else arguments.scenes
    run_id = services.evaluation.start(actor, voices, scenes, arguments.title)
    return started(arguments, services, services.evaluation, actor, run_id)


def _refuse_unused(arguments: argparse.Namespace) -> None:
    names = ("remote", "decoding", "batch_size", "pages")
    names += ("judge", "judge_key_env", "judge_key_file", "judge_prompt", "judge_again")
    given = ["--" + name.replace("_", "-") for name in names if getattr(arguments, name)]
    if given:
        raise InvalidData(
            f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} for the field's benchmarks.",
            "Drawn scenes are for the demo model and its adapters: their run knows no servers, judges or pages, and "
            "answers in its own way.",
            f"Leave {'it' if len(given) == 1 else 'them'} out, or name a benchmark with --benchmark.",
        )


def _measure(arguments: argparse.Namespace) -> int:
    """Every benchmark asked of every voice and its baseline, then counted and compared."""
    if arguments.scenes is not None or arguments.title or arguments.detach:
        raise InvalidData(
            "--scenes, --title and --detach are for drawn scenes.",
            "A benchmark is answered in this terminal, whole, into a set of answers that carries its own name.",
            "Leave them out, or leave out --benchmark.",
        )
    services, actor = open_services(arguments)
    names = list(dict.fromkeys(arguments.benchmark))
    with judging(arguments) as judge:
        for name in names:
            services.benchmarking.refuse_uncounted(actor, name, judge is not None)
        if arguments.pages:
            arguments.pages.mkdir(parents=True, exist_ok=True)
        benchmarks.tell_unasked(arguments, names)
        pairs = _choose(services, actor, arguments.voice)
        for voice in dict.fromkeys(each for pair in pairs for each in pair if each and each.server):
            refuse_search(voice, find_decoding(arguments.decoding or "greedy"))
        stop, code, sets = threading.Event(), 0, {}
        with interrupt_stops(stop):
            for name in names:
                for voice in dict.fromkeys(each for pair in pairs for each in pair if each):
                    try:
                        state = benchmarks.ask(
                            services, actor, name, voice.id, arguments, stop, f"{name}, {voice.title}"
                        )
                    except StudioError as error:  # the other voices may do
                        tell_error(error)
                        code = 1
                        continue
                    if stop.is_set():
                        tell("Say it again to go on.")
                        return 130
                    sets[name, voice] = state.id
                    code = max(code, int(bool(state.failures)))
        found = []
        for name in names:
            for pair in pairs:
                ids = tuple(sets.get((name, voice)) for voice in pair if voice)
                if None in ids:
                    continue
                try:
                    found.append(_tell(services, actor, arguments, judge, ids))
                except StudioError as error:
                    tell_error(error)
                    code = 1
    if arguments.json:
        show_json(found)
    return code


def _choose(services: "Services", actor: "Actor", names: list[str]) -> "list[tuple[Voice, Voice | None]]":
    """(baseline, voice): all adapters on offer, or those that are named, each with the baseline of its base; what
    answers on a server stands beside the studio's first voice. A baseline that nothing stands beside is alone."""
    offered = services.host.voices(actor)
    by_id = {voice.id: voice for voice in offered}
    chosen = [by_id[find_voice(offered, name)] for name in names] or [voice for voice in offered if voice.adapter]
    pairs = [(offered[0] if voice.server else by_id[voice.base], voice) for voice in chosen or offered[:1]]
    compared = [pair for pair in pairs if pair[0] != pair[1]]
    alone = [before for before, after in pairs if before == after and before not in {each for each, _ in compared}]
    return list(dict.fromkeys([*compared, *((voice, None) for voice in alone)]))


def _tell(services: "Services", actor: "Actor", arguments: argparse.Namespace, judge, ids: tuple[str, ...]) -> dict:
    """Shows the figures of a set, or of two beside each other, and returns them."""
    if len(ids) == 1:
        (id,) = ids
        score, stamp = services.benchmarking.score(actor, id, judge=judge), services.benchmarking.answer_set(actor, id)
        if not arguments.json:
            show_score(score, stamp.stamp.lines)
        return {"id": id} | score_row(score)
    found = benchmarks.compared(services, actor, ids, "", judge)
    if arguments.pages:
        title = services.benchmarking.answer_set(actor, ids[1]).title
        page = arguments.pages / (re.sub(r"[^\w.-]+", "-", f"{title}-{ids[1]}") + ".html")
        page.write_text(page_of(services, actor, found, ids), encoding="utf-8")
        tell(f"Written to {page}.")
    if not arguments.json:
        show(f"== {found.benchmark}")
        show_comparison(services, actor, found, ids)
        show("")
    return {"before_id": ids[0], "after_id": ids[1]} | benchmarks.comparison_row(found)
