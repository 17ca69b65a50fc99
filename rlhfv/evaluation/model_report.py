"""The plan and the page of `reproduce_model`: figures beside published ones, what it cost, and who wins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlhfv.ddpo.config import find_recipe
from rlhfv.evaluation import published
from rlhfv.evaluation.benchmarks import find_benchmark
from rlhfv.evaluation.claims import check_claims
from rlhfv.evaluation.model_claims import RULE, hold_contests, list_claims
from rlhfv.evaluation.reproduce import Cell, Timing, write_json
from rlhfv.evaluation.reproduce_model import (
    BASE,
    EXACT_YES_NO,
    PLAIN,
    USED,
    Cost,
    Experiment,
    count_pairs,
    read_arms,
    read_cost,
)
from rlhfv.evaluation.reproduce_page import (
    Report,
    Table,
    describe_versions,
    measure_of,
    render,
    render_page,
    report_row,
    value_of,
)
from rlhfv.units import human_seconds

_SHOWN = {
    "object-halbench": ("response_rate", "mention_rate", "recall", "words"),
    "chair": ("response_rate", "mention_rate", "recall", "words"),
    "amber-generative": ("chair", "cover", "hal", "cog", "words"),
    "amber-discriminative": ("accuracy", "precision", "recall", "f1"),
    EXACT_YES_NO: ("accuracy", "precision", "recall", "f1"),
    "pope": ("accuracy", "f1", "yes_ratio", "random_f1", "popular_f1", "adversarial_f1"),
}
_LABELS = {
    "object-halbench": "Object HalBench, lexical",
    "amber-generative": "AMBER, generative, exact words",
    "amber-discriminative": "AMBER, discriminative, lenient reading",
    EXACT_YES_NO: "AMBER, discriminative, AMBER's own reading",
    "pope": "POPE, mean of three splits",
}
_POPE = {name for name in USED if name.startswith("pope-")}
_SPLIT = ("accuracy", "precision", "recall", "f1", "yes_ratio")


@dataclass(frozen=True)
class Made:
    """What the page says of how it came about. `pictures` is how the model's processor prepares them, "" while no
    answer is there, `left_out` benchmarks that the user left out, `price` dollars an hour of the machine, `saving`
    settings of all trainings that save memory."""

    experiment: Experiment
    title: str
    pictures: str = ""
    left_out: tuple[str, ...] = ()
    price: float | None = None
    saving: Mapping[str, int | bool] = field(default_factory=dict)


# ---- the plan


def render_model_plan(
    cells: Sequence[Cell], work: Path, timing: Timing, memory: Mapping[str, float], told: Sequence[str]
) -> list[str]:
    """One line a cell, then what is left and how long it takes here. `memory` is the estimated peak in bytes of a
    training by its recipe, `told` what the estimate was made of."""
    missing = [cell for cell in cells if not cell.is_done(work)]
    lines = [f"{len(cells)} cells, {len(cells) - len(missing)} of them done:"]
    name, what = (max((len(getattr(cell, part)) for cell in cells), default=0) for part in ("name", "what"))
    for cell in cells:
        state = "done" if cell.is_done(work) else f"about {human_seconds(timing.of(cell))}"
        peak = memory.get(cell.arm) if cell.settings["kind"] == "training" and not cell.is_done(work) else None
        lines.append(f"  {cell.name:<{name}}  {cell.what:<{what}}  {state}{f', {peak / 1e9:.1f} GB' if peak else ''}")
    lines += told
    left = human_seconds(timing.total(missing))
    lines.append(f"Left: {len(missing)} cells, about {left} on one device. Stop and start it at any time.")
    return lines


# ---- the page


def write_model_report(cells: Sequence[Cell], made: Made, work: Path, root: Path, page: Path) -> dict:
    """Writes the page (Markdown) and its figures (JSON beside it); returns the figures."""
    arms = read_arms(cells, work, root)
    report, contests = build_report(cells, made, work, arms)
    costs = list_costs(cells, work, made.price)
    figures = {
        **report_row(report, work),
        "contests": [{**vars(one)} for one in contests],
        "costs": costs,
        "published": [{**vars(one)} for one in published.FIGURES],
        "left_out": list(made.left_out),
    }
    lines = [
        render_page(report, figures).rstrip("\n"),
        "",
        "## Beside published figures",
        "",
        *_published(made, arms),
        "",
        "## What it cost",
        "",
        *_costs(costs, made.price),
    ]
    write_json(page.with_suffix(".json"), figures)
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return figures


def build_report(cells: Sequence[Cell], made: Made, work: Path, arms: Mapping) -> tuple[Report, list]:
    experiment = made.experiment
    expected = {*experiment.questions} | ({"pope"} if experiment.questions.keys() >= _POPE else set())
    findings = check_claims(list_claims(experiment.recipes, expected), arms, (BASE,))
    contests = hold_contests(findings, len(experiment.seeds))
    machines = sorted({cost.machine for cell in cells if (cost := read_cost(cell.folder(work)))})
    told = count_pairs(work, cells)
    data = experiment.data
    if told:
        left = f", {told['problems']:,} rows left out" if told["problems"] else ""
        data += f": {told['pairs']:,} pairs{left}"
    about = [
        ("DDPO against DPO", "; ".join(map(str, contests)) or "not compared: that takes `dpo` and another recipe"),
        ("Model", f"{experiment.base}; pictures: {made.pictures or 'not prepared yet'}"),
        ("Corrections", data),
        ("Machine", "; ".join(machines) or "nothing has run yet"),
        ("Versions", describe_versions()),
        ("Seeds", f"{', '.join(map(str, experiment.seeds))}: order of the pairs, held-out part, start of the adapter"),
        ("Answers", f"the benchmarks' bare questions, decoded {experiment.decoding.name} ({_values(experiment)})"),
    ]
    if made.left_out:
        about.append(("Left out, as was asked for", ", ".join(made.left_out)))
    rows = ((BASE, BASE), *((recipe, recipe) for recipe in experiment.recipes))
    report = Report(
        title=made.title,
        about=about,
        chosen=_chosen(made),
        cells=cells,
        findings=findings,
        tables=[_table(name, arms[name], rows) for name in _order(arms)],
        arms=arms,
        baselines=(BASE,),
    )
    return report, contests


def _values(experiment: Experiment) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in experiment.decoding.values().items())


def _order(arms: Mapping) -> list[str]:
    wanted = [name for each in USED for name in (each, EXACT_YES_NO if each == "amber-discriminative" else "")]
    return [name for name in (*wanted, "pope") if name in arms]


def _table(name: str, arms: Mapping, rows: tuple) -> Table:
    scores = [score for arm in arms.values() for score in arm.values()]
    known = {measure.name for measure in scores[0].measures}
    title = _LABELS.get(name) or find_benchmark(name).title
    text = " ".join([f"Counted as: {scores[0].variant}. {len(scores[0].ids):,} answers a voice.", *_notes(arms)])
    return Table(title, text, name, rows, tuple(one for one in _SHOWN.get(name, _SPLIT) if one in known))


def _notes(arms: Mapping) -> list[str]:
    """What the benchmark says of the answers: once where it is so of all, else with whose they are."""
    voices: dict[str, list[str]] = {}
    for arm, scores in arms.items():
        for seed, score in scores.items():
            for note in score.notes:
                voices.setdefault(note, []).append(BASE if arm == BASE else f"{arm}-s{seed}")
    every = sum(map(len, arms.values()))
    return [note if len(whose) == every else f"{', '.join(whose)}: {note}" for note, whose in voices.items()]


def _chosen(made: Made) -> list[str]:
    experiment = made.experiment
    lines = [RULE, "", "The recipes are taken as published, with their learning rates, batches and epochs:", ""]
    lines += [f"- `{recipe}`: {find_recipe(recipe).source}" for recipe in experiment.recipes]
    lines += [
        "",
        "Every recipe gets all pairs. Published pairs have no spans, so that corrected words are those that a diff"
        " finds. All runs start from the same weights; nothing was chosen by its result.",
    ]
    if made.saving:
        told = ", ".join(f"{name} {value}" for name, value in made.saving.items())
        lines += ["", f"To save memory, which changes nothing that is learnt: {told}."]
    return lines


# ---- published figures, and the price


def _published(made: Made, arms: Mapping) -> list[str]:
    lines = [
        "Published tables differ from ours and from each other in prompts, decoding, judges and training; two points"
        " apart is nothing. They were taken from notes on the papers, not from the papers: look there before you"
        " quote one.",
        "",
    ]
    if not made.experiment.base.startswith(f"{published.MODEL}@"):
        lines += [f"They are of {published.MODEL}, ours of {made.experiment.base}: not the same model.", ""]
    heads = ["whose", "our benchmark: measure", "published", "source; counted there by", "ours"]
    lines += [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for one in published.FIGURES:
        ours = [text for name in _arms_like(one, made.experiment) if (text := _ours(arms, one, name))]
        source = f"{one.source}; {one.counted}"
        known = next(iter(arms.get(one.benchmark, {}).values()), None)
        title = measure_of(tuple(known.values()), one.measure).title if known else one.measure.replace("_", " ")
        where = f"{_LABELS.get(one.benchmark) or find_benchmark(one.benchmark).title}: {title}"
        cells = [one.row, where, f"{one.value:g}", source, "; ".join(ours) or "–"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _arms_like(one: published.Published, experiment: Experiment) -> tuple[str, ...]:
    if one.of == published.BASE:
        return (BASE,)
    plain = tuple(recipe for recipe in experiment.recipes if recipe == PLAIN)
    return plain if one.of == published.DPO else tuple(one for one in experiment.recipes if one != PLAIN)


def _ours(arms: Mapping, one: published.Published, name: str) -> str:
    arm = tuple(arms.get(one.benchmark, {}).get(name, {}).values())
    if not arm:
        return ""
    return f"`{name}` {render(value_of(arm, one.measure, name == BASE), measure_of(arm, one.measure))}"


def list_costs(cells: Sequence[Cell], work: Path, price: float | None) -> list[dict]:
    """What each voice took: its training, its answers, and dollars where the hour has a price."""
    rows: dict[tuple[str, int], dict] = {}
    for cell in cells:
        cost = read_cost(cell.folder(work))
        if cost is None or not cell.arm:
            continue
        row = rows.setdefault((cell.arm, cell.seed), _empty_row(cell))
        if cell.settings["kind"] == "training":
            row |= _training_row(cost)
        else:
            row["answering_seconds"] = round(row["answering_seconds"] + cost.seconds, 3)
            row["machine"] = row["machine"] or cost.machine
        row["all_seconds"] = round(row["all_seconds"] + max(cost.seconds, cell.seconds_taken(work) or 0.0), 1)
    for row in rows.values():
        row["dollars"] = None if price is None else round(row["all_seconds"] / 3600 * price, 4)
    return list(rows.values())


def _empty_row(cell: Cell) -> dict:
    names = ("training_seconds", "pairs_per_second", "memory", "estimated_seconds", "estimated_memory")
    return {
        "arm": cell.arm,
        "seed": cell.seed,
        "machine": "",
        "answering_seconds": 0.0,
        "all_seconds": 0.0,
        "warnings": [],
    } | dict.fromkeys(names)


def _training_row(cost: Cost) -> dict:
    return {
        "training_seconds": cost.seconds,
        "pairs_per_second": cost.pairs_per_second,
        "memory": cost.memory,
        "on_gpu": cost.on_gpu,
        "estimated_seconds": cost.estimated_seconds,
        "estimated_memory": cost.estimated_memory,
        "warnings": list(cost.warnings),
        "machine": cost.machine,
    }


def _costs(rows: Sequence[Mapping], price: float | None) -> list[str]:
    if not rows:
        return ["Nothing has come to its end yet."]
    on_gpu = any(row.get("on_gpu") for row in rows)
    lines = [
        "Measured by the runs themselves, all attempts together: time of training from loading the base to the"
        " adapter, pairs seen a second in that time (reference pass and checks included),"
        f" the peak of {'one GPU' if on_gpu else 'the process, libraries included'}, and time of answering all"
        " benchmarks, without loading. In brackets: what the run had estimated at its start.",
        "",
        "The whole time, and the dollars of it, hold starting and loading too, one cell after the other. "
        + (f"An hour costs {price:g} dollars." if price is not None else "No price was given (`--price-per-hour`)."),
        "",
        "| voice | training | pairs/s | peak memory | answers | whole time | dollars | warned of |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        voice = BASE if row["arm"] == BASE else f"{row['arm']}, seed {row['seed']}"
        trained = row["training_seconds"] is not None
        cells = [
            voice,
            _with(row["training_seconds"], row["estimated_seconds"], human_seconds),
            f"{row['pairs_per_second']:.2f}" if row["pairs_per_second"] else "–",
            _with(row["memory"], row["estimated_memory"], lambda value: f"{value / 1e9:.2f} GB"),
            human_seconds(row["answering_seconds"]),
            human_seconds(row["all_seconds"]),
            _dollars(row["dollars"]),
            ", ".join(row["warnings"]) or ("nothing" if trained else "–"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    total = sum(row["all_seconds"] for row in rows)
    whole = None if price is None else sum(row["dollars"] for row in rows)
    lines += ["", f"In all {human_seconds(total)}" + (f", {_dollars(whole)}." if price is not None else ".")]
    return lines


def _with(value: float | None, estimated: float | None, form) -> str:
    if value is None:
        return "–"
    return form(value) + (f" [{form(estimated)}]" if estimated else "")


def _dollars(value: float | None) -> str:
    return "–" if value is None else f"${value:,.2f}" if value >= 0.01 else f"${value:.4f}"
