"""What two sets of answers to a benchmark show beside each other, as nodes of views."""

from rlhfv.evaluation import sentences
from rlhfv.evaluation.answer_sets import AnswerSet
from rlhfv.evaluation.bootstrap import Figure
from rlhfv.evaluation.comparison import (
    BROKEN,
    MENDED,
    OUTCOMES,
    RIGHT,
    STILL_WRONG,
    Change,
    ComparedItem,
    Comparison,
    Piece,
    cut,
)
from rlhfv.evaluation.leaderboard import Column, Leaderboard, Lineage, Row
from rlhfv.evaluation.page import Side, span_of
from rlhfv.evaluation.stamp import UNKNOWN
from rlhfv.studio.pairs_view import day, short
from rlhfv.studio.view import Node, button, empty, h

PAGE = 25
SHOWN_WORDS = 4
ALL = ""
FILTERS = {ALL: "All", BROKEN: "What broke", MENDED: "Mended", STILL_WRONG: "Still wrong"}
TONES = {MENDED: ".ok", BROKEN: ".bad", STILL_WRONG: ".bad", RIGHT: ""}
NOT_YET = empty(
    "Nothing compared yet.",
    "Choose two sets of answers to one benchmark and compare them: figures with their intervals, what it cost, and "
    "every item that broke or was mended.",
)
MANAGE = button("Delete answers …", "ask", kind="quiet")
TAKE_IN_OR_ASK = "Let voices answer one, or take in a file of answers that were made elsewhere."
TAKE_IN = "Take in a file of answers; here only who manages this studio lets voices answer."


def no_sets(may_answer: bool) -> list[Node]:
    return [empty("No answers to a benchmark yet.", TAKE_IN_OR_ASK if may_answer else TAKE_IN)]


def gone() -> list[Node]:
    """What was compared is not there any more."""
    return [
        h(
            "div.warning",
            h("strong", "These answers are not here any more. "),
            "One of the two sets was deleted, in another tab or by somebody else. Choose two from the lists.",
            role="alert",
        )
    ]


def ask_to_delete(sets: list[AnswerSet]) -> list[Node]:
    if not sets:
        return [MANAGE, h("p.hint", "No answers are chosen.")]
    return [
        h(
            "div.warning.ask",
            h("p", "Delete these answers with all that was counted in them?"),
            h(
                "p.facts",
                *(button(f"Delete {one.title!r}", "delete", one.id, "danger") for one in sets),
                button("Keep them", "keep"),
            ),
            role="alert",
        )
    ]


def verdict(comparison: Comparison, sides: tuple[Side, Side]) -> list[Node]:
    before, after = (side.title for side in sides)
    return [
        h(
            "ul.verdict-cards",
            h(
                "li",
                h("strong.big", sentences.headline(comparison)),
                h("span.by", sentences.certainty(comparison, before, after)),
                h("span.by", f"{sentences.flipped(comparison.flips)}."),
                h("span.by", sentences.price(comparison)),
                dir="auto",
            ),
        ),
    ]


def figures(comparison: Comparison, sides: tuple[Side, Side]) -> list[Node]:
    """What is to improve first, then what it must not cost, then how both were asked."""
    tables = [
        _table(f"On {len(comparison.rows):,} items, counted as: {comparison.variant}", comparison.gains, sides),
        _table("What it must not cost", comparison.prices, sides),
        *(_table(f"Beside it: {title}", (change,), sides) for title, change in comparison.general),
    ]
    notes = [h("ul.reasons", *(h("li", note) for note in comparison.notes))] if comparison.notes else []
    return [
        *(table for table in tables if table),
        *notes,
        h("details", h("summary", "How both were asked"), _stamps(sides)),
    ]


def _table(caption: str, changes: tuple[Change, ...], sides: tuple[Side, Side]) -> Node | None:
    if not changes:
        return None
    head = h("tr", *(h("th", name, scope="col") for name in ("Answers", "Value and 95 % interval", "")))
    rows = [h("tbody", *_rows(change, sides)) for change in changes]
    return h("div.scroll", h("table.figures", h("caption", caption), h("thead", head), *rows))


def _rows(change: Change, sides: tuple[Side, Side]) -> list[Node]:
    measure = change.measure
    span, aim = span_of(change), sentences.show_aim(measure)
    rows = [
        h(
            "tr.figure-title",
            h("th", measure.title, h("small", aim) if aim else None, scope="rowgroup", colspan="3"),
        )
    ]
    for number, (side, figure) in enumerate(zip(sides, (change.before, change.after), strict=True)):
        told = h("small", sentences.show_range(measure, figure))
        rows.append(
            h(
                "tr",
                h("th", side.title, scope="row", dir="auto"),
                h("td.number", sentences.show_value(measure, figure), " ", told),
                h("td.plot", _whisker(figure, span, number)),
            )
        )
    tone = {True: ".better", False: ".worse", None: ""}[change.better if change.clear else None]
    sure = "" if change.clear or change.difference.value is None else "no clear difference"
    rows.append(
        h(
            "tr",
            h("th", "difference", scope="row"),
            h(f"td.number{tone}", sentences.show_difference(change), colspan="2"),
            title=sure or None,
        )
    )
    return rows


def _whisker(figure: Figure, span: tuple[float, float], number: int) -> Node:
    if figure.value is None:
        return h("div.track", aria_hidden="true")
    low, value, high = (100 * (end - span[0]) / (span[1] - span[0]) for end in (figure.low, figure.value, figure.high))
    return h(
        "div.track",
        h("div.whisker", style=f"left:{low:.2f}%;width:{max(high - low, 0.3):.2f}%"),
        h("div.dot", style=f"left:{value:.2f}%"),
        class_="first" if number == 0 else "",
        aria_hidden="true",
    )


def _stamps(sides: tuple[Side, Side]) -> Node:
    rows = []
    for name in dict.fromkeys(name for side in sides for name in side.stamp):
        values = [str(side.stamp.get(name, "")) or sentences.NOTHING for side in sides]
        weight = "strong" if values[0] != values[1] else "span"
        rows.append(h("tr", h("th", name, scope="row"), *(h("td", h(weight, value, dir="auto")) for value in values)))
    head = h("tr", h("td", ""), *(h("th", side.title, scope="col", dir="auto") for side in sides))
    return h("div.scroll", h("table.plain", h("thead", head), h("tbody", *rows)))


def filters(comparison: Comparison) -> list[tuple[str, str]]:
    """The choices of the filter, each with how many items it leaves."""
    counts = {**comparison.outcomes, ALL: len(comparison.rows)}
    return [(f"{title} ({counts[outcome]:,})", outcome) for outcome, title in FILTERS.items()]


def chosen_rows(comparison: Comparison, outcome: str) -> list[ComparedItem]:
    """The items of an outcome in the benchmark's order; of all of them what broke comes first."""
    if outcome:
        return [row for row in comparison.rows if row.outcome == outcome]
    return sorted(comparison.rows, key=lambda row: OUTCOMES.index(row.outcome))


def listing(rows: list[ComparedItem], chosen: str, outcome: str) -> list[Node]:
    """A page of items; `chosen` is the id of the one that is open."""
    if not rows:
        return [empty("No item.", f"There is none in {FILTERS.get(outcome, 'it')!r}.")]
    return [h("ul.pairs", *(_item(row, row.item.id == chosen) for row in rows))]


def _item(row: ComparedItem, chosen: bool) -> Node:
    said = " ".join(row.answers[1].split())[:160]
    return h(
        "li",
        h(
            "button.pair-item",
            h(
                "span.pair-text",
                h("strong", row.item.question or row.item.id, dir="auto"),
                h("span.edits", said or "no answer", dir="auto"),
                h(
                    "span.facts",
                    h(f"span.badge{TONES[row.outcome]}", row.outcome),
                    h("strong", wrong, dir="auto") if (wrong := _wrong_words(row)) else None,
                    h("span.by", _name(row)),
                ),
            ),
            type="button",
            act="open",
            ref=row.item.id,
            aria_current="true" if chosen else None,
        ),
        data_key=row.item.id,
    )


def _wrong_words(row: ComparedItem) -> str:
    """What is wrong now, or what was where it was mended: the first few words of it."""
    side = 0 if row.outcome == MENDED else 1
    text, faults = row.answers[side], row.faults[side]
    words = list(dict.fromkeys(text[fault.start : fault.end] for fault in faults))
    more = f" and {len(words) - SHOWN_WORDS} more" if len(words) > SHOWN_WORDS else ""
    return ", ".join(words[:SHOWN_WORDS]) + more


def _name(row: ComparedItem) -> str:
    return " · ".join(filter(None, (row.item.id, row.item.group)))


def opened(row: ComparedItem, sides: tuple[Side, Side], pictured: bool) -> list[Node]:
    """One item: its question, and both answers with what differs and what is wrong."""
    missing = row.item.image if row.item.image and not pictured else ""
    said = [
        h(
            "div.compare",
            h("span.label", side.title, dir="auto"),
            h("p.answer-text", *(_pieces(pieces) or ["no answer"]), dir="auto"),
        )
        for side, pieces in zip(sides, cut(row.answers, row.faults), strict=True)
    ]
    return [
        h(
            "div.subject",
            h("p.asked", h("span.label", "Question"), h("strong", row.item.question or row.item.id, dir="auto")),
            h("p.facts", h(f"span.badge{TONES[row.outcome]}", row.outcome), h("span.by", _name(row))),
        ),
        h("div.compared", *said),
        h("p.hint", "Dotted: words that only this answer has. Red line: what the benchmark found wrong."),
        *([h("p.hint", f"Its picture, {missing}, is not in the benchmark folder.")] if missing else []),
    ]


def _pieces(pieces: list[Piece]) -> list[Node]:
    nodes: list[Node] = []
    for piece in pieces:
        words = piece.text.strip()
        if not words or not (piece.differs or piece.fault):
            nodes.append(piece.text)
            continue
        before, _, after = piece.text.partition(words)
        node: Node = words
        if piece.fault:
            node = h("mark.false", node, title=piece.fault)
        if piece.differs:
            node = h("mark", node)
        nodes += [each for each in (before, node, after) if each]
    return nodes


def leaderboard(board: Leaderboard) -> list[Node]:
    """All voices with their lineage, then each evaluation's figures; a click on a figure sorts by it."""
    if not board.rows:
        return [
            empty(
                "No adapter yet.",
                "Train one in Train; here it stands beside the others with where it comes from and what it scored.",
            )
        ]
    groups: dict[tuple, list[Column]] = {}
    for column in board.columns:
        groups.setdefault(column.group, []).append(column)
    tables = [_group(board, kind, columns) for kind, columns in groups.items()]
    unmeasured = [row for row in board.rows if not row.figures]
    if unmeasured:
        tables.append(_unmeasured(unmeasured))
    return [
        h("p.hint", "Best first by the chosen figure. What was asked in two ways stands in two tables."),
        *([h("ul.reasons", *(h("li", note) for note in board.notes))] if board.notes else []),
        *tables,
    ]


def _group(board: Leaderboard, kind: tuple, columns: list[Column]) -> Node:
    benchmark, variant, items, stamp, _ = kind
    heads = []
    for column in columns:
        aim = {"lower": " ↓", "higher": " ↑"}.get(column.measure.better, "")
        title, sorted_by = column.measure.title, column.key == board.sorted_by
        heads.append(
            h(
                "th",
                button(
                    f"{title[:1].upper()}{title[1:]}{aim}", "sort", column.key, "primary" if sorted_by else "quiet"
                ),
                scope="col",
                aria_sort=("descending" if column.measure.better == "higher" else "ascending") if sorted_by else None,
            )
        )
    rows = [row for row in board.rows if any(column.key in row.figures for column in columns)]
    told = [h("li", f"{name}: {value}", dir="auto") for name, value in stamp if value]
    unknown = [name for name, value in stamp if value == UNKNOWN]
    return h(
        "section.board",
        h("h4", f"{benchmark}, {items:,} items"),
        h("p.by", f"Counted as: {variant}"),
        h("p.by", f"Not known of all: {', '.join(unknown)}. Whether they were asked alike in it cannot be told.")
        if unknown
        else None,
        h(
            "div.scroll",
            h(
                "table.plain.numbers",
                h("thead", h("tr", h("th", "Voice", scope="col"), *heads)),
                h("tbody", *(_voice(row, columns) for row in rows)),
            ),
        ),
        h("details", h("summary", "How it was asked"), h("ul.reasons", *told)) if told else None,
    )


def _voice(row: Row, columns: list[Column]) -> Node:
    cells = []
    for column in columns:
        figure = row.figures.get(column.key)
        if figure is None:
            cells.append(h("td", sentences.NOTHING))
            continue
        value, interval = (show(column.measure, figure) for show in (sentences.show_value, sentences.show_range))
        cells.append(h("td", value, " ", h("small", interval)))
    told = ", ".join(filter(None, (row.told(columns), lineage(row.lineage))))
    return h("tr", h("th", row.lineage.title, h("small.line", told), scope="row", dir="auto"), *cells)


def _unmeasured(rows: list[Row]) -> Node:
    items = [h("li", h("strong", row.lineage.title), " ", h("span.by", lineage(row.lineage))) for row in rows]
    return h("section.board", h("h4", "Not measured yet"), h("ul.statistics", *items))


def lineage(origin: Lineage) -> str:
    """ "on llava@0123, recipe paper, 15 of 17 pairs, 2 held out, repeats First run, 2026-11-22"."""
    used, comma, held_out = origin.used.partition(", ")
    pairs = f"{used} pair{'' if used == '1' else 's'}{comma}{held_out}" if used else ""
    parts = (
        f"on {short(origin.base)}" if origin.base else "",
        f"recipe {origin.recipe}" if origin.recipe else "",
        pairs,
        f"repeats {origin.parent}" if origin.parent else "",
        f"run {origin.run}" if origin.run else "",
        day(origin.made),
    )
    return ", ".join(filter(None, parts))
