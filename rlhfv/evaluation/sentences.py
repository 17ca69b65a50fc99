"""How a comparison is said: figures with their units and intervals, and the sentence that stands above it."""

from rlhfv.evaluation.bootstrap import LEVEL, Figure
from rlhfv.evaluation.comparison import FEWEST, Change, Comparison, Flips
from rlhfv.evaluation.score import Measure

NOTHING = "–"
NO_WIDTH = 1e-3
"""An interval narrower than this says only that the items asked are alike, not what others would give."""
MOST_PRICES = 3
"""Of the figures beside the gain, how many a sentence names; all stand in the table below it."""
_MARKS = {"percent": " %"}
_DIFFERENCES = {"percent": " points", "points": " points", "words": " words"}


def show_value(measure: Measure, figure: Figure) -> str:
    """ "42.5 %"."""
    return NOTHING if figure.value is None else _number(figure.value, measure) + _MARKS.get(measure.unit, "")


def has_interval(figure: Figure) -> bool:
    return figure.value is not None and figure.high - figure.low >= NO_WIDTH


def show_range(measure: Measure, figure: Figure, sign: bool = False) -> str:
    """ "[38.1, 46.9]"."""
    if figure.value is None:
        return ""
    if not has_interval(figure):
        return "[no interval: all items alike]"
    return f"[{_number(figure.low, measure, sign)}, {_number(figure.high, measure, sign)}]"


def show_difference(change: Change) -> str:
    """ "-25.0 points [-37.5, -12.5]"."""
    measure, figure = change.measure, change.difference
    if figure.value is None:
        return NOTHING
    unit = _DIFFERENCES.get(measure.unit, "")
    return f"{_number(figure.value, measure, True)}{unit} {show_range(measure, figure, True)}"


def show_aim(measure: Measure) -> str:
    return {"lower": "lower is better", "higher": "higher is better"}.get(measure.better, "")


def show_p(flips: Flips) -> str:
    """ "p = 0.013"; a tiny one is not rounded to 0."""
    return f"p = {flips.p:.2g}" if flips.p else "p < 1e-300"


def headline(comparison: Comparison) -> str:
    """What became of the first figure that is to improve, and whether that is sure."""
    change = comparison.gains[0] if comparison.gains else comparison.prices[0]
    measure, title = change.measure, change.measure.title
    if change.difference.value is None:
        return f"{title}: not defined in both sets, so there is nothing to compare"
    values = f"{show_value(measure, change.before)} → {show_value(measure, change.after)}"
    if not change.clear:
        return f"No clear difference. {title}: {values}"
    became = {True: "Better", False: "Worse", None: "Changed"}[change.better]
    if change.better and any(other.clear and other.better is False for other in comparison.changes):
        became = "Better, at a price"
    return f"{became}. {title}: {values}"


def certainty(comparison: Comparison, before: str, after: str) -> str:
    """What the headline stands on."""
    change = comparison.gains[0] if comparison.gains else comparison.prices[0]
    items, why = len(comparison.rows), ""
    if items < FEWEST:
        why = f" Below {FEWEST} items nothing is clear: were all to change alike, chance would still do so too often."
    elif change.beside_zero and not change.clear:
        why = f" Swapping the two at random makes as large a difference too often to be sure (p = {change.p:.2g})."
    interval = f", {LEVEL:.0%} interval".replace("%", " %") if has_interval(change.difference) else ""
    return (
        f"{after} against {before}, paired over {items:,} item{'' if items == 1 else 's'}: {show_difference(change)}"
        f"{interval}.{why}"
    )


def flipped(flips: Flips) -> str:
    """ "12 mended, 2 broken: McNemar's exact test p = 0.013"."""
    return f"{flips.mended:,} mended, {flips.broken:,} broken: McNemar's exact test, two-sided, {show_p(flips)}"


def price(comparison: Comparison) -> str:
    """What the gain was paid with, or that nothing of the kind was measured. What became clearly worse is always
    named, whichever figure it is; of the others the first ones."""
    paid = [change for change in comparison.changes[1:] if change.clear and change.better is False]
    others = [change for change in comparison.prices if change not in paid]
    room = max(0, MOST_PRICES - len(paid))
    named, more = [*paid, *others[:room]], len(others[room:])
    told = [f"{change.measure.title} {show_difference(change)}" for change in named]
    told += [f"{more} more figure{'' if more == 1 else 's'} below"] if more else []
    told += [f"{title}: {change.measure.title} {show_difference(change)}" for title, change in comparison.general]
    return f"Price: {'; '.join(told)}." if told else "Price: nothing was measured beside the gain."


def _number(value: float, measure: Measure, sign: bool = False) -> str:
    return format(value, f"{'+' if sign else ''},.{measure.decimals}f")
