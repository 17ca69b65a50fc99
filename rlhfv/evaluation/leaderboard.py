"""All voices with where they come from, beside the figures of every evaluation that is there.

What was asked in two ways never stands in one column: a column has one benchmark, one variant, one number of items and
one stamp, apart from the voice that answered.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from rlhfv.evaluation.bootstrap import Figure
from rlhfv.evaluation.score import Measure
from rlhfv.evaluation.sentences import NOTHING, show_range, show_value
from rlhfv.evaluation.stamp import UNKNOWN


@dataclass(frozen=True)
class Lineage:
    """Where a voice comes from. `id` is its identity, `parent` the run whose frozen pairs it was trained on again,
    `pairs` how many it was trained on and `held_out` how many were not; what is not known is "" or None."""

    id: str
    title: str
    base: str = ""
    recipe: str = ""
    pairs: int | None = None
    run: str = ""
    parent: str = ""
    made: str = ""
    held_out: int | None = None

    @property
    def used(self) -> str:
        """ "200", "15 of 17, 2 held out"; "" where it is not known."""
        if self.pairs is None:
            return ""
        if not self.held_out:
            return f"{self.pairs:,}"
        return f"{self.pairs:,} of {self.pairs + self.held_out:,}, {self.held_out:,} held out"


@dataclass(frozen=True)
class Finding:
    """What one evaluation found of one voice. `stamp` says how it was asked, without who was asked; `source` is the
    id of the evaluation, `made` when it was made, as an ISO time."""

    voice: str
    benchmark: str
    variant: str
    stamp: Mapping[str, str]
    items: int
    figures: tuple[tuple[Measure, Figure], ...]
    source: str = ""
    made: str = ""


@dataclass(frozen=True)
class Column:
    """One figure; `stamp` is what is alike in all of its evaluations, `key` the same as long as all of that is.
    `number` tells apart groups of evaluations that differ in what is not alike within them, the oldest first."""

    key: str
    benchmark: str
    variant: str
    stamp: Mapping[str, str]
    items: int
    measure: Measure
    number: int = 0

    @property
    def group(self) -> tuple:
        """The same for all figures of a group of evaluations."""
        return self.benchmark, self.variant, self.items, tuple(self.stamp.items()), self.number


@dataclass(frozen=True)
class Row:
    """A voice with its figures by the key of their columns; of several evaluations of one kind the newest counts, and
    `sets` is how many there are."""

    lineage: Lineage
    figures: Mapping[str, Figure]
    sets: Mapping[str, int] = field(default_factory=dict)

    def told(self, columns: Iterable[Column]) -> str:
        """ "newest of 2 sets" where figures of these columns are; "" where there is only one."""
        most = max((self.sets.get(column.key, 1) for column in columns), default=1)
        return f"newest of {most:,} sets" if most > 1 else ""


@dataclass(frozen=True)
class Leaderboard:
    """Best first by the column `sorted_by`; voices without that figure come last, the newest of them first. `notes`
    say which answers are not counted, and why."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    sorted_by: str = ""
    notes: tuple[str, ...] = ()


def same_stamp(first: Finding, second: Finding) -> bool:
    return dict(first.stamp) == dict(second.stamp)


def arrange(
    lineages: Iterable[Lineage],
    findings: Iterable[Finding],
    sort_by: str = "",
    alike: Callable[[Finding, Finding], bool] = same_stamp,
) -> Leaderboard:
    """Rows of all `lineages`, and of voices that only a finding names; columns of all `findings`.

    Args:
        sort_by: the key of a column; by default the first figure of the evaluation that most voices have.
        alike: whether two findings of one benchmark, variant and number of items were asked in the same way.
    """
    groups: list[list[Finding]] = []
    for finding in sorted(findings, key=lambda one: (one.made, one.source)):
        for group in groups:
            if all(_one_kind(finding, other) and alike(finding, other) for other in group):
                group.append(finding)
                break
        else:
            groups.append([finding])
    seen: Counter[tuple] = Counter()
    numbered = []
    for group in groups:
        stamp = _common_stamp(group)
        kind = (group[0].benchmark, group[0].variant, group[0].items, tuple(sorted(stamp.items())))
        numbered.append((group, _columns(group, stamp, seen[kind])))
        seen[kind] += 1
    numbered.sort(key=lambda one: -len({finding.voice for finding in one[0]}))
    columns, cells, sets = [], {}, {}
    for group, own in numbered:
        columns += own.values()
        several = Counter(finding.voice for finding in group)
        for voice, newest in {finding.voice: finding for finding in group}.items():  # they come oldest first
            figures = {own[measure.name].key: figure for measure, figure in newest.figures}
            cells.setdefault(voice, {}).update(figures)
            sets.setdefault(voice, {}).update(dict.fromkeys(figures, several[voice]))
    known = {lineage.id: lineage for lineage in lineages}
    known = {**{voice: Lineage(voice, voice) for voice in cells}, **known}
    rows = [Row(lineage, cells.get(lineage.id, {}), sets.get(lineage.id, {})) for lineage in known.values()]
    by = {column.key: column for column in columns}
    chosen = by.get(sort_by) or next(iter(columns), None)
    return Leaderboard(tuple(columns), tuple(_sort(rows, chosen)), chosen.key if chosen else "")


def render_table(board: Leaderboard, shown: Callable[[str], str] = str) -> str:
    """The leaderboard as plain text: the voices with their lineage, then the figures of each evaluation. `shown` makes
    a text from elsewhere one that the terminal shows as wide as it is."""
    if not board.rows:
        return "There is no adapter yet."
    lines = _align(
        [
            ["voice", "base", "recipe", "pairs", "made", "repeats"],
            *(
                [
                    shown(lineage.title),
                    shown(_short(lineage.base)),
                    shown(lineage.recipe),
                    lineage.used,
                    lineage.made[:10],
                    shown(lineage.parent),
                ]
                for lineage in (row.lineage for row in board.rows)
            ),
        ]
    )
    groups: dict[tuple, list[Column]] = {}
    for column in board.columns:
        groups.setdefault(column.group, []).append(column)
    for (benchmark, variant, items, stamp, _), columns in groups.items():
        rows = [row for row in board.rows if any(column.key in row.figures for column in columns)]
        lines += ["", f"{benchmark}, {items:,} items, counted as: {shown(variant)}"]
        lines += [f"  {name}: {shown(value)}" for name, value in stamp if value]
        if UNKNOWN in dict(stamp).values():
            lines.append("  Whether they were asked alike in what is unknown cannot be told.")
        lines += _align(
            [
                ["voice", *(column.measure.title for column in columns)],
                *([_name(row, columns, shown), *(_cell(row, column) for column in columns)] for row in rows),
            ]
        )
    return "\n".join(lines)


def to_rows(board: Leaderboard) -> dict:
    """The leaderboard as plain JSON data."""
    return {
        "columns": [
            {
                "key": column.key,
                "benchmark": column.benchmark,
                "variant": column.variant,
                "items": column.items,
                "stamp": dict(column.stamp),
                "measure": column.measure.name,
                "unit": column.measure.unit,
                "better": column.measure.better,
            }
            for column in board.columns
        ],
        "voices": [
            {
                **vars(row.lineage),
                "figures": {key: figure.to_dict() for key, figure in row.figures.items()},
                "sets": dict(row.sets),
            }
            for row in board.rows
        ],
        "sorted_by": board.sorted_by,
        "notes": list(board.notes),
    }


def _one_kind(first: Finding, second: Finding) -> bool:
    kinds = [(one.benchmark, one.variant, one.items) for one in (first, second)]
    return kinds[0] == kinds[1]


def _common_stamp(group: Sequence[Finding]) -> dict[str, str]:
    return {
        name: value
        for name, value in group[0].stamp.items()
        if all(finding.stamp.get(name) == value for finding in group)
    }


def _columns(group: Sequence[Finding], stamp: Mapping[str, str], number: int) -> dict[str, Column]:
    benchmark, variant, items = group[0].benchmark, group[0].variant, group[0].items
    measures = {measure.name: measure for finding in group for measure, _ in finding.figures}

    def key(name: str) -> str:
        known = (benchmark, variant, items, sorted(stamp.items()), number, name)
        return sha256(repr(known).encode()).hexdigest()[:12]

    return {
        name: Column(key(name), benchmark, variant, stamp, items, measure, number)
        for name, measure in measures.items()
    }


def _sort(rows: list[Row], column: Column | None) -> list[Row]:
    rows = sorted(rows, key=lambda row: row.lineage.made, reverse=True)
    if column is None:
        return rows
    sign = -1 if column.measure.better == "higher" else 1

    def place(row: Row) -> tuple[bool, float]:
        figure = row.figures.get(column.key)
        missing = figure is None or figure.value is None
        return missing, 0.0 if missing else sign * figure.value

    return sorted(rows, key=place)


def _cell(row: Row, column: Column) -> str:
    figure = row.figures.get(column.key)
    if figure is None:
        return NOTHING
    return f"{show_value(column.measure, figure)} {show_range(column.measure, figure)}".rstrip()


def _short(base: str) -> str:
    """With the first twelve characters of its commit or hash, which still name it."""
    name, at, revision = base.rpartition("@")
    return f"{name}{at}{revision[:12]}" if at else base


def _name(row: Row, columns: Sequence[Column], shown: Callable[[str], str]) -> str:
    told = row.told(columns)
    return f"{shown(row.lineage.title)} ({told})" if told else shown(row.lineage.title)


def _align(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
