"""`reproduce`: RLHF-V's own experiments as cells of resumable work, and the page of what held."""

import argparse
import signal
from pathlib import Path

from rlhfv.commands import reproduce_model
from rlhfv.commands.terminal import show, show_json, tell
from rlhfv.settings import DEMO_MODEL, settings_from_arguments


def add_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--quick", action="store_true", help="the same with few scenes and pairs, one seed: minutes")
    verb.add_argument("--work", type=Path, help="folder of the cells (default: reproduce/ in the data folder)")
    verb.add_argument(
        "--only", nargs="+", default=[], metavar="CELL", help="parts (a to e), names, or their beginnings"
    )
    verb.add_argument("--plan", action="store_true", help="print the plan with its estimate, and do nothing")
    verb.add_argument("--page", type=Path, nargs="?", const=Path(), help="only write the page, here or in the folder")
    reproduce_model.add_flags(verb)


def reproduce(arguments: argparse.Namespace) -> int:
    if reproduce_model.is_asked(arguments):
        return reproduce_model.reproduce(arguments)
    reproduce_model.refuse_flags(arguments)
    import torch

    from rlhfv.evaluation.demo_report import build_report
    from rlhfv.evaluation.reproduce import choose_cells, kept_timing, run_cells
    from rlhfv.evaluation.reproduce_demo import FULL, QUICK, DemoWork, base_of, measure_seconds, plan_cells
    from rlhfv.evaluation.reproduce_page import describe_machine, plan_row, render_plan, write_report
    from rlhfv.models.catalog import find_entry

    torch.set_num_threads(
        1
    )  # so small a model gains nothing by more, and two processes must not get in each other's way
    entry, sizes = find_entry(DEMO_MODEL), QUICK if arguments.quick else FULL
    name = "quick" if arguments.quick else "full"
    work = arguments.work or settings_from_arguments(arguments).data_dir / "reproduce" / name
    base = base_of(entry)
    every = plan_cells(sizes, base)
    cells = choose_cells(every, arguments.only)
    if arguments.page is None:
        if not (work / "timing.json").is_file():
            tell("Timing this machine with a few short runs.")
        timing = kept_timing(work, {"machine": describe_machine(), "base": base}, lambda: measure_seconds(entry))
        missing = [cell for cell in cells if not cell.is_done(work)]
        if arguments.plan and arguments.json:
            show_json(plan_row(cells, work, timing))
            return 0
        (show if arguments.plan else tell)(*render_plan(cells, work, timing))
        if arguments.plan:
            return 0
        asked = _listen()
        do = DemoWork(entry, work, every, lambda: bool(asked))
        try:
            failed = run_cells(cells, work, do, tell, lambda: bool(asked))
        finally:
            do.close()
        missing = [cell for cell in cells if not cell.is_done(work)]
    page = work / "page.md" if arguments.page in (None, Path()) else arguments.page
    figures = write_report(build_report(every, sizes, work, entry, base), work, page)
    show_json(figures) if arguments.json else show(page.read_text(encoding="utf-8"))
    return 0 if arguments.page is not None or not missing else 1 if failed else 130


def _listen() -> list[int]:
    """Filled with a signal's number once it asks to stop; a run that trains listens for itself meanwhile."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda seen, _: asked.append(seen))
    return asked
