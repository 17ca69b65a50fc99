"""The figures of the Statistics tab, as nodes of views."""

from rlhfv.corrections.statistics import PAPER_CORRECTIONS, PAPER_WORDS, Figures, Statistics
from rlhfv.studio.pairs_view import short
from rlhfv.studio.view import Node, empty, h
from rlhfv.units import human_seconds

STATES = {
    "accepted": "accepted",
    "submitted": "wait for a review",
    "returned": "sent back",
    "superseded": "set aside",
    "gold": "of gold items",
}


def statistics(found: Statistics, of_everybody: bool) -> list[Node]:
    total = found.total
    if not total.judged and not total.answers:
        return [
            empty(
                "Nothing was judged yet.",
                "What is corrected in Correct, or found faithful, is counted here: by kind, annotator and model.",
            )
        ]
    states = [(number, STATES[state]) for state, number in sorted(found.states.items()) if state in STATES and number]
    return [
        h("p.hint", "Over everybody's work." if of_everybody else "Over your own work."),
        h(
            "ul.verdict-cards",
            _card(
                f"{total.answers:,}", "corrected answers", ", ".join(f"{number:,} {what}" for number, what in states)
            ),
            _card(
                f"{total.corrections_per_answer:.2f}",
                "corrections an answer",
                f"{PAPER_CORRECTIONS} in the paper's data",
            ),
            _card(f"{total.words_per_answer:.1f}", "words an answer", f"{PAPER_WORDS} in the paper's data"),
            _card(*_pace(total)),
            _card(_percent(total.nothing_wrong), "nothing wrong", f"of {total.judged:,} judged answers"),
            _card(
                _percent(total.response_rates["any"]),
                "of the judged answers hallucinate",
                "at least one correction of any kind",
            ),
        ),
        _kinds(total),
        *_table("By annotator", found.annotators, lambda name: name or "no name given"),
        *_table("By model", found.models, lambda name: short(name) or "unknown"),
    ]


def _card(figure: str, what: str, beside: str) -> Node:
    return h("li", h("strong.big", figure), h("span", what), h("span.by", beside))


def _pace(figures: Figures) -> tuple[str, str, str]:
    if not figures.seconds_per_answer:
        return "–", "active time", "measured while somebody corrects in the studio"
    each = human_seconds(figures.seconds_per_correction)
    return each, "active time a correction", f"{human_seconds(figures.seconds_per_answer)} an answer"


def _kinds(total: Figures) -> Node:
    """How often each kind was corrected, and in how many of the judged answers."""
    most = max(total.kinds.values(), default=0) or 1
    rows = [
        h(
            "tr",
            h("th", h(f"span.kind.{kind}", kind), scope="row"),
            h("td", f"{number:,}"),
            h("td", _percent(number / total.corrections if total.corrections else 0)),
            h(
                "td.plot",
                h("div.bar.kinds", h("div.fill", style=f"width:{100 * number / most:.1f}%"), aria_hidden="true"),
            ),
            h("td", _percent(total.response_rates[kind]) if total.judged else "–"),
        )
        for kind, number in total.kinds.items()
    ]
    names = ("Kind", "Corrections", "Share", "", "Of the judged answers have one")
    return _titled("By kind", names, rows)


def _table(title: str, figures: tuple[Figures, ...], call) -> list[Node]:
    if not figures:
        return []
    rows = [
        h(
            "tr",
            h("th", call(each.name), scope="row", dir="auto", title=each.name),
            h("td", f"{each.answers:,}"),
            h("td", f"{each.corrections:,}"),
            h("td", f"{each.corrections_per_answer:.2f}"),
            h("td", f"{each.words_per_answer:.1f}"),
            h("td", human_seconds(each.seconds_per_correction) if each.seconds_per_correction else "–"),
            h("td", f"{each.judged:,}"),
            h("td", _percent(each.nothing_wrong) if each.judged else "–"),
            h("td", _percent(each.response_rates["any"]) if each.judged else "–"),
        )
        for each in figures
    ]
    names = ("", "Corrected", "Corrections", "Each", "Words", "Time each", "Judged", "Nothing wrong", "Hallucinate")
    return [_titled(title, names, rows)]


def _titled(title: str, names: tuple[str, ...], rows: list[Node]) -> Node:
    head = h("tr", *(h("th", name, scope="col") for name in names))
    return h(
        "section.statistics",
        h("h3", title),
        h("div.scroll", h("table.plain.numbers", h("thead", head), h("tbody", *rows))),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
