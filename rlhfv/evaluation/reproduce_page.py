"""The plan of an experiment in words, and the page of what its cells found: figures as JSON, verdicts, tables.

A plan hands over its cells, its claims, the arms of every benchmark and the tables it wants (`Table`); what is not
done yet is said to be missing, so that the page can be written at any time.
"""

import importlib.metadata
import os
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rlhfv.evaluation import claims as rules
from rlhfv.evaluation.bootstrap import DRAWS, Figure
from rlhfv.evaluation.claims import Claim, Finding, Seeds, draw_resamples
from rlhfv.evaluation.reproduce import Cell, Timing, write_json
from rlhfv.evaluation.score import Measure
from rlhfv.evaluation.seeds import Arm, count_drawn
from rlhfv.units import human_seconds

PARALLEL = 2
"""Processes that the second figure of an estimate is for; they may share a work folder."""


@dataclass(frozen=True)
class Table:
    """A table of arms: `rows` are (label, name of the arm), `measures` the names of the columns."""

    title: str
    text: str
    benchmark: str
    rows: tuple[tuple[str, str], ...]
    measures: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What a page is made of. `about` are its first lines as (what, words), `chosen` paragraphs on what was chosen and
    why, `not_tested` claims that nothing here can decide. `baselines` are the arms that no seed changes."""

    title: str
    about: Sequence[tuple[str, str]]
    chosen: Sequence[str]
    cells: Sequence[Cell]
    findings: Sequence[Finding]
    tables: Sequence[Table]
    arms: Mapping[str, Mapping[str, Seeds]]
    baselines: Collection[str]
    not_tested: Sequence[str] = ()


# ---- the plan


def render_plan(cells: Sequence[Cell], work: Path, timing: Timing) -> list[str]:
    """One line a cell, then what is left and how long it takes here."""
    missing = [cell for cell in cells if not cell.is_done(work)]
    lines = [f"{len(cells)} cells, {len(cells) - len(missing)} of them done:"]
    name, what = (max((len(getattr(cell, part)) for cell in cells), default=0) for part in ("name", "what"))
    for cell in cells:
        state = "done" if cell.is_done(work) else human_seconds(timing.of(cell))
        lines.append(f"  {','.join(cell.parts):<10}{cell.name:<{name}}  {cell.what:<{what}}  {state}")
    each = ", ".join(f"{seconds:.3g} s {unit}" for unit, seconds in timing.seconds.items())
    left = timing.total(missing)
    lines.append(f"Measured on this machine: {each}.")
    alone, together = human_seconds(left), human_seconds(left / PARALLEL)
    lines.append(
        f"Left: {len(missing)} cells, about {alone} in one process, {together} in {PARALLEL} (start the command again"
        " beside the first). Stop and start it at any time."
    )
    return lines


def plan_row(cells: Sequence[Cell], work: Path, timing: Timing) -> dict:
    return {
        "cells": [
            {
                "name": cell.name,
                "key": cell.key,
                "parts": list(cell.parts),
                "what": cell.what,
                "needs": list(cell.needs),
                "done": cell.is_done(work),
                "seconds": round(timing.of(cell), 1),
            }
            for cell in cells
        ],
        "timing": dict(timing.seconds),
        "seconds_left": round(timing.total(cell for cell in cells if not cell.is_done(work)), 1),
    }


def describe_machine() -> str:
    """Model of the processor, cores that may be used, system; no host name."""
    model = platform.machine()
    if Path("/proc/cpuinfo").is_file():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, {platform.system()}, Python {platform.python_version()}"


def describe_versions() -> str:
    names = ("rlhfv", "torch", "transformers", "peft", "accelerate", "numpy")
    return ", ".join(f"{name} {_version(name)}" for name in names)


def _version(name: str) -> str:
    if name == "rlhfv":
        from rlhfv import __version__

        return __version__
    return importlib.metadata.version(name)


# ---- the page


def write_report(report: Report, work: Path, page: Path) -> dict:
    """Writes the page (Markdown) and its figures (JSON, beside it with the same name); returns the figures."""
    figures = report_row(report, work)
    write_json(page.with_suffix(".json"), figures)
    page.write_text(render_page(report, figures), encoding="utf-8")
    return figures


def report_row(report: Report, work: Path) -> dict:
    """All figures of a report as JSON data: {"value", "low", "high"} each, in the unit of its measure."""
    tables = []
    for table in report.tables:
        arms = report.arms.get(table.benchmark, {})
        rows = []
        for label, name in table.rows:
            arm = tuple(arms.get(name, {}).values())
            values = {one: value_of(arm, one, name in report.baselines).to_dict() for one in table.measures if arm}
            seeds = {one: [value_of((score,), one, True).value for score in arm] for one in table.measures}
            rows.append({"label": label, "arm": name, "seeds": len(arm), "figures": values, "each": seeds})
        tables.append({"title": table.title, "benchmark": table.benchmark, "rows": rows})
    return {
        "v": 1,
        "title": report.title,
        "date": datetime.now(UTC).date().isoformat(),
        "about": dict(report.about),
        "cells": {
            "done": [cell.name for cell in report.cells if cell.is_done(work)],
            "missing": [cell.name for cell in report.cells if not cell.is_done(work)],
            "seconds": round(sum(cell.seconds_taken(work) or 0 for cell in report.cells), 1),
        },
        "findings": [
            {**finding_row(finding), "seeds_planned": count_planned(finding.claim, report.cells)}
            for finding in report.findings
        ],
        "tables": tables,
    }


def count_planned(claim: Claim, cells: Sequence[Cell]) -> int:
    """How many seeds the plan has for what a claim compares."""
    return max(len({cell.seed for cell in cells if cell.arm == arm}) for arm in (claim.before, claim.after))


def finding_row(finding: Finding) -> dict:
    figures = {name: getattr(finding, name) for name in ("before", "after", "change")}
    return {
        **asdict(finding.claim),
        "verdict": finding.verdict,
        "why": finding.why,
        **{name: figure and figure.to_dict() for name, figure in figures.items()},
        "seeds": list(finding.seeds),
    }


def value_of(arm: Arm, name: str, fixed: bool) -> Figure:
    """A measure of an arm with its interval; `fixed` says that no seed changes it."""
    measure = measure_of(arm, name)
    return draw_resamples(count_drawn(arm[0]), 1 if fixed else len(arm)).value(arm, measure)


def measure_of(arm: Arm, name: str) -> Measure:
    return next(one for one in arm[0].measures if one.name == name)


def render_page(report: Report, figures: dict) -> str:
    cells = figures["cells"]
    lines = [f"# {report.title}", ""]
    lines += [f"- **{what}**: {words}" for what, words in [("Date", figures["date"]), *report.about]]
    taken = human_seconds(cells["seconds"])
    lines.append(f"- **Cells**: {len(cells['done'])} of {len(report.cells)} done, {taken} of one process in sum")
    if cells["missing"]:
        lines += ["", f"**Not done yet, and missing below:** {describe_missing(report.cells, cells['missing'])}."]
    lines += ["", "## What held here and what did not", "", *_verdict_counts(report), ""]
    lines += _rules()
    heads = ["claim", "where", "theirs", "ours, before → after", "gain", "each seed", "verdict"]
    lines += ["", _row(heads), "|" + "---|" * len(heads)]
    lines += [_claim_line(finding, report) for finding in report.findings]
    if report.not_tested:
        lines += ["", "Not decided by anything here:", "", *(f"- {text}" for text in report.not_tested)]
    lines += ["", "## What was run, and why so", "", *report.chosen]
    for table, rows in zip(report.tables, figures["tables"], strict=True):
        lines += ["", f"## {table.title}", "", table.text, "", *_table_lines(table, rows["rows"], report)]
    return "\n".join(lines) + "\n"


def describe_missing(cells: Sequence[Cell], missing: Sequence[str]) -> str:
    """Their names where they are few, else how many of each part."""
    if len(missing) <= 12:
        return ", ".join(missing)
    parts = sorted({part for cell in cells for part in cell.parts})
    counted = [(part, sum(part in cell.parts and cell.name in missing for cell in cells)) for part in parts]
    return f"{len(missing)} cells ({', '.join(f'{number} of ({part})' for part, number in counted if number)})"


def _verdict_counts(report: Report) -> list[str]:
    verdicts = [finding.verdict for finding in report.findings]
    counted = [f"{number} {one}" for one in rules.VERDICTS if (number := verdicts.count(one))]
    told = [f"Of {len(verdicts)} claims: {'; '.join(counted)}. The verdicts are computed, none is written by hand."]
    early = sum(bool(_so_far(finding, report)) for finding in report.findings)
    if early:
        told.append(f"{early} of them rest on some of the planned seeds only and may change with the others.")
    if mirrored := count_mirrored([finding.claim for finding in report.findings]):
        told.append(
            f"{mirrored} ask the opposite of another claim, of the same arms and the same measure: read the two as one"
            f" experiment, so that there are {len(verdicts) - mirrored} experiments."
        )
    return [" ".join(told)]


def count_mirrored(claims: Sequence[Claim]) -> int:
    """How many claims are another one with its arms exchanged, each two counted once."""
    asked = {(one.benchmark, one.measure, one.rule, one.before, one.after) for one in claims}
    return sum((*what, after, before) in asked for *what, before, after in asked) // 2


def _so_far(finding: Finding, report: Report) -> str:
    """How many of the planned seeds a verdict is of, "" where it is of all."""
    planned = count_planned(finding.claim, report.cells)
    return f"{len(finding.seeds)} of {planned} seeds" if 0 < len(finding.seeds) < planned else ""


def _rules() -> list[str]:
    return [
        f"Intervals are made to hold 95 %: {DRAWS:,} resamples of the items, the same for all arms (of images with all"
        " of their questions, where several are about one), and, where an arm has n seeds, t · s / √n on top: s is the"
        " standard deviation between the seeds' own values, and t is drawn from Student's distribution with n − 1"
        " degrees of freedom, 95 % of which lie within ±4.3 for three seeds and within ±12.7 for two. Such intervals"
        " are wide: two seeds seldom decide anything, three only what is plain. In a simulation of three runs on 500"
        " items they held 99.6, 98.6, 96.5 and 94.7 % where runs differed by a standard deviation of 0, 2, 4 and 10"
        " points. With one seed an interval is of the items only: it says nothing of what another training would give."
        " They end where their unit does: a rate at 0 and 100 %, a difference of two rates at −100 and 100 points."
        " A gain is the difference turned so that positive is what the claim says, in the unit of the measure.",
        "",
        "- *better*: held when the interval of the gain lies above 0 and every seed gains; held, too small to matter,"
        " when it lies below the margin as well, the smallest gain that would matter; not held when it lies below the"
        " margin and is not held.",
        "- *no worse*: held when the interval lies above −margin; not held when it lies below it.",
        "- *at least*: held when the interval of the relative reduction lies at or above the margin; not held when it"
        " lies below.",
        "- undecided: everything else, and a claim that something is lowered where it is not there to begin with.",
    ]


def _claim_line(finding: Finding, report: Report) -> str:
    claim = finding.claim
    said = claim.said + (f" ({claim.note})" if claim.note else "")
    start = [said, claim.where, claim.theirs]
    if finding.change is None:
        return _row([*start, "–", "–", "–", f"*{finding.verdict}*"])
    measure = measure_of(tuple(report.arms[claim.benchmark][claim.before].values()), claim.measure)
    both = f"{measure.title}: {render(finding.before, measure)} → {render(finding.after, measure)}"
    if claim.rule == rules.AT_LEAST:
        unit, margin = " %", f"{100 * claim.margin:.1f} %"
        form = _share
    else:
        unit, margin = "", f"{claim.margin:g}"
        form = _signed
    gain, each = _interval(finding.change, form, unit), ", ".join(map(form, finding.seeds))
    so_far = _so_far(finding, report)
    verdict = (
        f"**{finding.verdict}**" + (f", {so_far}" if so_far else "") + (f": {finding.why}" if finding.why else "")
    )
    return _row([*start, both, f"{gain} ({claim.rule}, margin {margin})", each, verdict])


def _table_lines(table: Table, rows: Sequence[dict], report: Report) -> list[str]:
    arms = report.arms.get(table.benchmark, {})
    any_arm = tuple(next(iter(arms.values()), {}).values())
    if not any_arm:
        return ["Nothing of it is done yet."]
    measures = [measure_of(any_arm, name) for name in table.measures]
    lines = [_row(["", "seeds", *(measure.title for measure in measures)]), "|" + "---|" * (len(measures) + 2)]
    for row in rows:
        shown = [
            render(Figure(**row["figures"][one.name]), one) if one.name in row["figures"] else "–" for one in measures
        ]
        seeds = "–" if row["arm"] in report.baselines else str(row["seeds"] or "–")
        lines.append(_row([row["label"], seeds, *shown]))
    return lines


def render(figure: Figure, measure: Measure) -> str:
    """A figure with its interval, in the digits of its measure."""
    return _interval(figure, lambda value: f"{value:.{measure.decimals}f}", " %" if measure.unit == "percent" else "")


def _interval(figure: Figure, form: Callable[[float], str], unit: str = "") -> str:
    if figure.value is None:
        return "not defined"
    return f"{form(figure.value)}{unit} [{form(figure.low)}, {form(figure.high)}]"


def _share(value: float) -> str:
    return f"{100 * value:.1f}"


def _signed(value: float) -> str:
    return f"{value:+.1f}"


def _row(parts: Sequence[str]) -> str:
    return "| " + " | ".join(part.replace("|", "\\|").replace("\n", " ") for part in parts) + " |"
