"""`reproduce --model … --data …`: DDPO against plain DPO on a real model, from its pairs to the page."""

import argparse
import re
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.commands.terminal import read_token, show, show_json, tell
from rlhfv.errors import InvalidData
from rlhfv.models.decoding import DECODINGS, find_decoding
from rlhfv.settings import add_benchmarks_argument, add_model_arguments, settings_from_arguments

SEEDS = 3

if TYPE_CHECKING:
    from rlhfv.evaluation.reproduce_model import Experiment
    from rlhfv.models.catalog import Entry


def add_flags(verb: argparse.ArgumentParser) -> None:
    real = verb.add_argument_group("a real model", "with --data: DDPO against plain DPO on it, and the benchmarks")
    real.add_argument(
        "--data", help="corrections: a data set of the Hub with its commit (owner/name@commit), a file or a folder"
    )
    add_model_arguments(real)
    add_benchmarks_argument(real)
    real.add_argument("--recipes", nargs="+", metavar="RECIPE", help="default: dpo paper rlhfv-2024")
    real.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"runs of each recipe (default: {SEEDS})")
    real.add_argument(
        "--leave-out",
        nargs="+",
        default=[],
        metavar="BENCHMARK",
        help="benchmarks to do without, or how their names begin; the page says so",
    )
    real.add_argument("--decoding", choices=list(DECODINGS), default="greedy", help="of the answers (default: greedy)")
    real.add_argument(
        "--accelerate-config", type=Path, metavar="FILE", help="how trainings run (default: as `train` does here)"
    )
    real.add_argument(
        "--gradient-checkpointing",
        type=int,
        default=0,
        metavar="N",
        help="in trainings: compute every n-th layer's activations again, to save memory (default: 0, none)",
    )
    real.add_argument(
        "--split-weights", action="store_true", help="in trainings: share the base out among the devices (FSDP2)"
    )
    real.add_argument("--price-per-hour", type=float, metavar="DOLLARS", help="of this machine, for the costs")
    token = real.add_mutually_exclusive_group()
    token.add_argument("--token-env", default="HF_TOKEN", metavar="NAME", help="variable with a token of the Hub")
    token.add_argument("--login", action="store_true", help="the token that `hf auth login` saved on this machine")


def reproduce(arguments: argparse.Namespace) -> int:
    from rlhfv.evaluation.model_estimate import estimate as estimate_cells
    from rlhfv.evaluation.model_report import Made, render_model_plan, write_model_report
    from rlhfv.evaluation.reproduce import choose_cells, run_cells
    from rlhfv.evaluation.reproduce_model import plan_cells
    from rlhfv.evaluation.reproduce_page import plan_row
    from rlhfv.models.catalog import find_entry
    from rlhfv.services.benchmarking import BATCH
    from rlhfv.services.reproduce_source import find_source
    from rlhfv.services.reproducing import (
        ModelWork,
        check_benchmarks,
        describe_base_pictures,
        doubt_pictures,
    )

    _check(arguments)
    settings, source = settings_from_arguments(arguments), find_source(arguments.data)
    entry = find_entry(settings.model, settings.revision)
    folder = re.sub(r"[^\w.-]+", "--", f"{entry.id}--{source.name}")
    work = arguments.work or settings.data_dir / "reproduce" / folder
    root = settings.benchmarks or settings.data_dir / "benchmarks"
    names, left_out = _choose_benchmarks(arguments.leave_out)
    questions, lacking = check_benchmarks(root, names)
    _tell_benchmarks(root, questions, lacking)
    if lacking and arguments.plan:
        tell(f"The plan leaves out {', '.join(lacking)}.")
    elif lacking:
        raise InvalidData(
            f"{len(lacking)} of {len(names)} benchmarks lack files in {root}: {', '.join(lacking)}.",
            "What each lacks, and where it comes from, stands above; nothing has begun.",
            f"Fetch it, or do without them: --leave-out {' '.join(lacking)}.",
        )
    entry, base = _pin_base(entry, work)
    if doubt := doubt_pictures(entry):
        tell(doubt)
    experiment = _experiment(arguments, base.base, source, questions, work)
    every = plan_cells(experiment)
    cells = choose_cells(every, arguments.only)
    saving = {"gradient_checkpointing": arguments.gradient_checkpointing, "split_weights": arguments.split_weights}
    saving, failed = {name: value for name, value in saving.items() if value}, {}
    if arguments.page is None:
        tell("Estimating …")
        estimate = estimate_cells(entry, experiment, every, work, BATCH, saving)
        if arguments.plan and arguments.json:
            show_json({**plan_row(cells, work, estimate.timing), "memory": estimate.memory, "told": estimate.told})
            return 0
        plan = render_model_plan(cells, work, estimate.timing, estimate.memory, estimate.told)
        (show if arguments.plan else tell)(*plan)
        if arguments.plan:
            return 0
        stop = _listen()
        token = read_token(arguments) or False
        do = ModelWork(entry, base, source, work, root, every, stop, tell, token, arguments.accelerate_config, saving)
        try:
            failed = run_cells(cells, work, do, tell, stop.is_set)
        finally:
            do.close()
    missing = [cell for cell in cells if not cell.is_done(work)]
    made = Made(
        experiment,
        f"DDPO against DPO on {base.name}",
        ". ".join(filter(None, (describe_base_pictures(work, every), doubt))),
        left_out,
        arguments.price_per_hour,
        saving,
    )
    page = work / "page.md" if arguments.page in (None, Path()) else arguments.page
    page.parent.mkdir(parents=True, exist_ok=True)
    figures = write_model_report(every, made, work, root, page)
    show_json(figures) if arguments.json else show(page.read_text(encoding="utf-8"))
    return 0 if arguments.page is not None or not missing else 1 if failed else 130


def refuse_flags(arguments: argparse.Namespace) -> None:
    """Raises InvalidData for flags of a real model, where none is named."""
    usual = {"revision": None, "benchmarks": None, "recipes": None, "seeds": SEEDS, "leave_out": []}
    usual |= {"decoding": "greedy", "accelerate_config": None, "gradient_checkpointing": 0, "split_weights": False}
    usual |= {"price_per_hour": None, "token_env": "HF_TOKEN", "login": False}
    given = [f"--{name.replace('_', '-')}" for name, value in usual.items() if getattr(arguments, name) != value]
    if given:
        raise InvalidData(
            f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} for a real model.",
            "Without --model and --data the demo's own experiments run, and they take no such flag.",
            f"Leave {'it' if len(given) == 1 else 'them'} out, or name a model and data.",
        )


def is_asked(arguments: argparse.Namespace) -> bool:
    """Whether the flags name a model or data of one's own."""
    return bool(arguments.data or arguments.model)


def _check(arguments: argparse.Namespace) -> None:
    if not (arguments.data and arguments.model) or arguments.quick:
        lacks = "--quick" if arguments.quick else "--model alone" if arguments.model else "--data alone"
        raise InvalidData(
            f"The flags have {lacks}.",
            "On a real model it is --model and --data together, in full; the demo's own experiments take neither.",
            "Write --model llava-hf/llava-1.5-7b-hf --data openbmb/RLHF-V-Dataset@COMMIT, or leave both out.",
        )
    if arguments.seeds < 1:
        raise InvalidData(f"--seeds is {arguments.seeds}.", "Every recipe runs at least once.", "Give 1 or more.")
    price = arguments.price_per_hour
    if price is not None and not 0 <= price < float("inf"):
        raise InvalidData(f"--price-per-hour is {price}.", "It is what an hour of this machine costs.", "Correct it.")
    file = arguments.accelerate_config
    if file is not None and not file.is_file():
        raise InvalidData(
            f"There is no file {file}.", "It was named as accelerate's configuration.", "Check the path."
        )


def _choose_benchmarks(left_out: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The benchmarks that are used, and those that are not."""
    from rlhfv.evaluation.reproduce_model import USED

    gone = set()
    for text in left_out:
        found = {name for name in USED if name.startswith(text)}
        if not found:
            raise InvalidData(
                f"There is no benchmark {text!r} to leave out.", f"There are {', '.join(USED)}.", "Correct the name."
            )
        gone |= found
    names = [name for name in USED if name not in gone]
    if not names:
        raise InvalidData("Every benchmark was left out.", "Then nothing would be measured.", "Keep at least one.")
    return names, tuple(name for name in USED if name in gone)


def _tell_benchmarks(root: Path, questions: dict, lacking: dict) -> None:
    tell(f"Benchmarks in {root}:")
    for name, (_, items) in questions.items():
        tell(f"  {name:<22}{items:,} questions, all files here")
    for name, lines in lacking.items():
        tell(f"  {name:<22}lacks:", *(f"    {line}" for line in lines))


def _pin_base(entry: "Entry", work: Path):
    """The base with the commit that this work folder was begun with, and its identity."""
    from dataclasses import replace

    from rlhfv.evaluation.reproduce import read_kept, write_json
    from rlhfv.services.reproducing import identify_base

    file = work / "base.json"
    known = read_kept(file, dict) if file.is_file() else {}
    base = identify_base(entry, known.get("revision") if known.get("name") == entry.source else None)
    if not entry.is_local:
        entry = replace(entry, revision=base.revision)
        write_json(file, {"name": base.name, "revision": base.revision})
    return entry, base


def _experiment(arguments: argparse.Namespace, base: str, source, questions: dict, work: Path) -> "Experiment":
    from dataclasses import replace

    from rlhfv.ddpo.config import find_recipe
    from rlhfv.evaluation import published
    from rlhfv.evaluation.reproduce_model import RECIPES, Experiment, count_pairs, plan_cells
    from rlhfv.services.reproduce_source import expected_pairs

    recipes = tuple(dict.fromkeys(arguments.recipes or RECIPES))
    for recipe in recipes:
        find_recipe(recipe)
    experiment = Experiment(
        base,
        source.name,
        published.PAIRS,
        questions,
        find_decoding(arguments.decoding),
        recipes,
        tuple(range(1, arguments.seeds + 1)),
    )
    if known := count_pairs(work, plan_cells(experiment)):
        return replace(experiment, pairs=known["pairs"])
    expected = expected_pairs(source)
    if expected is None:
        tell(f"How many pairs {source.name} has is not known yet; the plan counts with {published.PAIRS:,}.")
    return replace(experiment, pairs=expected or published.PAIRS)


def _listen() -> threading.Event:
    """Set once a signal asks to stop."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
