"""A comparison as one page to share: a file that asks for nothing, runs no script, and prints.

What a model said and what a stamp holds are data: every text is escaped, and the page forbids itself all but its own
style and the pictures in it.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image, ImageOps

from rlhfv.corrections.images import MAX_PIXELS
from rlhfv.evaluation import sentences
from rlhfv.evaluation.bootstrap import Figure
from rlhfv.evaluation.comparison import BROKEN, MENDED, STILL_WRONG, Change, ComparedItem, Comparison, Piece, cut

SHOWN = {BROKEN: 12, MENDED: 12, STILL_WRONG: 6}
"""Items of each outcome on a page: enough to see what they are like."""
PICTURE_SIDE = 320
TITLES = {BROKEN: "What broke", MENDED: "What was mended", STILL_WRONG: "Still wrong"}
STYLE = """
:root { color-scheme: light dark; --ink: #0f172a; --paper: #fff; --line: #cbd5e1; --soft: #526077; --mark: #fef3c7;
  --bad: #b91c1c; --ok: #047857; --track: #e2e8f0; --first: #64748b; --second: #4338ca }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e2e8f0; --paper: #0f172a; --line: #334155; --soft: #a3b1c6; --mark: #453312; --bad: #fca5a5;
    --ok: #6ee7b7; --track: #1e293b; --first: #94a3b8; --second: #a5b4fc }
}
* { box-sizing: border-box }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 1000px; margin: 0 auto; padding: 20px; color: var(--ink);
  background: var(--paper); overflow-wrap: anywhere }
h1 { font-size: 1.35rem; margin: 0 0 4px } h2 { font-size: 1.05rem; margin: 28px 0 6px } h3 { font-size: 1rem }
p { margin: 0 0 6px } .by, small, th, footer { color: var(--soft); font-size: .875rem; font-weight: 400 }
.big { font-size: 1.2rem; font-weight: 600 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: 4px 10px 4px 0; vertical-align: top }
.figure th { color: var(--ink); font-weight: 600; padding-top: 10px; border-top: 1px solid var(--line) }
.plot { width: 42% } svg { display: block; width: 100%; height: 18px }
.stamp td, .stamp th { border-top: 1px solid var(--line) } .stamp .unlike td { font-weight: 600 }
article { border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; margin: 0 0 12px;
  break-inside: avoid }
.shown { display: grid; grid-template-columns: minmax(0, 1fr); gap: 12px }
.shown.with { grid-template-columns: minmax(0, 1fr) minmax(0, 3fr) }
img { max-width: 100%; border-radius: 6px; display: block }
.said { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 260px), 1fr)); gap: 12px }
.said p { white-space: pre-wrap }
mark { background: var(--mark); color: inherit; border-radius: 3px; border-bottom: 2px dotted currentcolor }
.fault { color: var(--bad); text-decoration: underline wavy 1.5px }
.badge { border: 1px solid currentcolor; border-radius: 99px; padding: 0 8px; font-size: .8rem }
.bad { color: var(--bad) } .ok { color: var(--ok) }
@media (max-width: 620px) { body { padding: 14px } .plot { display: none } .shown.with { grid-template-columns: 1fr }
  .shown.with img { max-height: 45vh } }
@media print { body { max-width: none; padding: 0; font-size: 11pt } mark { print-color-adjust: exact } }
"""


@dataclass(frozen=True)
class Side:
    """One set of answers: what people call it, and its stamp as plain lines, name to text."""

    title: str
    stamp: Mapping[str, str]


def render(
    comparison: Comparison,
    sides: tuple[Side, Side],
    made: str = "",
    title: str = "",
    picture: Callable[[ComparedItem], bytes | None] = lambda row: None,
    with_pictures: bool = True,
) -> str:
    """The whole page as HTML.

    Args:
        made: when, as it is printed.
        title: what stands first; by default the benchmark with the two sets.
        picture: the JPEG bytes of an item's picture, see `small_picture`; None where there is none. Asked for the
            items that are shown only.
    """
    before, after = sides
    title = title or f"{comparison.benchmark}: {before.title} and {after.title}"
    body = [
        f'<h1 dir="auto">{escape(title)}</h1>',
        f'<p class="by">Counted as: {escape(comparison.variant)}</p>',
        f'<p class="big">{escape(sentences.headline(comparison))}</p>',
        f"<p>{escape(sentences.certainty(comparison, before.title, after.title))}</p>",
        f"<p>{escape(sentences.flipped(comparison.flips))}.</p>",
        f"<p>{escape(sentences.price(comparison))}</p>",
        "<h2>What is to improve</h2>",
        _table(comparison.gains, sides),
        "<h2>What it must not cost</h2>",
        _table(comparison.prices, sides),
        *_general(comparison, sides),
        "<h2>Item by item</h2>",
        _outcomes(comparison),
        *_items(comparison, sides, picture if with_pictures else lambda row: None),
        "<h2>What was compared</h2>",
        _stamps(sides),
        *_notes(comparison.notes),
        f"<footer>Made with the RLHF-V correction studio{', ' + escape(made) if made else ''}. Answers are those of "
        "models. 95 % bootstrap intervals over items, the same resamples for both sets.</footer>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">"
        '<meta name="viewport" content="width=device-width"><meta name="referrer" content="no-referrer">'
        f"<title>{escape(title[:120])}</title><style>{STYLE}</style></head><body><main>{''.join(body)}</main></body>"
        "</html>"
    )


def small_picture(file: Path | bytes) -> bytes | None:
    """A picture as a JPEG of at most `PICTURE_SIDE` pixels a side, without its metadata; None for what is none."""
    try:
        image = Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)
        if image.width * image.height > MAX_PIXELS:
            return None
        image.draft("RGB", (2 * PICTURE_SIDE, 2 * PICTURE_SIDE))
        image = ImageOps.exif_transpose(image).convert("RGB")
        image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=75, optimize=True)
    except Exception:  # Pillow's parsers raise many types, and the page is worth having without this picture
        return None
    return buffer.getvalue()


def _table(changes: Sequence[Change], sides: tuple[Side, Side]) -> str:
    if not changes:
        return '<p class="by">Nothing of the kind is measured by this benchmark.</p>'
    return f"<table>{''.join(_figure(change, sides) for change in changes)}</table>"


def _figure(change: Change, sides: tuple[Side, Side]) -> str:
    measure = change.measure
    span = span_of(change)
    rows = "".join(
        f'<tr><th scope="row">{escape(side.title)}</th><td>{escape(sentences.show_value(measure, figure))} '
        f'<small>{escape(sentences.show_range(measure, figure))}</small></td><td class="plot">'
        f"{_whisker(figure, span, number)}</td></tr>"
        for number, (side, figure) in enumerate(zip(sides, (change.before, change.after), strict=True))
    )
    tone = {True: "ok", False: "bad", None: ""}[change.better if change.clear else None]
    return (
        f'<tbody><tr class="figure"><th scope="rowgroup" colspan="3">{escape(measure.title)} '
        f"<small>{sentences.show_aim(measure)}</small></th></tr>{rows}"
        f'<tr><th scope="row">difference</th><td colspan="2" class="{tone}">'
        f"{escape(sentences.show_difference(change))}</td></tr></tbody>"
    )


def span_of(change: Change) -> tuple[float, float]:
    """From where to where the intervals of a measure are drawn: 0 to 100 for shares, else from 0 to the largest."""
    ends = [end for each in (change.before, change.after) if each.value is not None for end in (each.low, each.high)]
    if change.measure.unit == "percent":
        return min([0.0, *ends]), max([100.0, *ends])
    return min([0.0, *ends]), max([0.0, *ends]) * 1.1 or 1.0


def _whisker(figure: Figure, span: tuple[float, float], number: int) -> str:
    """The interval as a line, its value as a dot (a square for the first set), drawn so that it prints too."""
    colour = "var(--second)" if number else "var(--first)"
    track = '<rect x="0" y="7" width="100%" height="4" rx="2" fill="var(--track)"/>'
    if figure.value is None:
        return f'<svg aria-hidden="true">{track}</svg>'
    low, value, high = (
        100 * (part - span[0]) / (span[1] - span[0]) for part in (figure.low, figure.value, figure.high)
    )
    dot = (
        f'<circle cx="{value:.2f}%" cy="9" r="5" fill="{colour}"/>'
        if number
        else f'<rect x="{value:.2f}%" y="4" width="10" height="10" transform="translate(-5 0)" fill="{colour}"/>'
    )
    return (
        f'<svg aria-hidden="true">{track}<rect x="{low:.2f}%" y="7.5" width="{max(high - low, 0.3):.2f}%" height="3" '
        f'fill="{colour}"/>{dot}</svg>'
    )


def _general(comparison: Comparison, sides: tuple[Side, Side]) -> list[str]:
    return [
        part
        for title, change in comparison.general
        for part in (f"<h2>Beside it: {escape(title)}</h2>", _table([change], sides))
    ]


def _outcomes(comparison: Comparison) -> str:
    told = ", ".join(f"{count:,} {outcome}" for outcome, count in comparison.outcomes.items())
    return f"<p>{len(comparison.rows):,} items: {told}.</p>"


def _items(comparison: Comparison, sides: tuple[Side, Side], picture: Callable) -> list[str]:
    parts = []
    for outcome, most in SHOWN.items():
        rows = [row for row in comparison.rows if row.outcome == outcome]
        if not rows:
            continue
        more = f" <small>the first {most} of {len(rows):,}</small>" if len(rows) > most else ""
        parts.append(f"<h2>{TITLES[outcome]}{more}</h2>")
        parts += [_item(row, sides, picture(row)) for row in rows[:most]]
    if parts:
        parts.insert(0, '<p class="by">Highlighted: words that only this answer has. Wavy: what is wrong.</p>')
    return parts


def _item(row: ComparedItem, sides: tuple[Side, Side], picture: bytes | None) -> str:
    tone = "ok" if row.outcome == MENDED else "bad"
    group = f" {escape(row.item.group)}" if row.item.group else ""
    image = ""
    if picture:
        data = base64.b64encode(picture).decode()
        image = f'<img src="data:image/jpeg;base64,{data}" alt="The picture that was asked about">'
    said = "".join(
        f'<div><small>{escape(side.title)}</small><p dir="auto">{_pieces(pieces)}</p></div>'
        for side, pieces in zip(sides, cut(row.answers, row.faults), strict=True)
    )
    return (
        f'<article><p><span class="badge {tone}">{row.outcome}</span> <strong dir="auto">{escape(row.item.question)}'
        f"</strong> <small>{escape(row.item.id)}{group}</small></p>"
        f'<div class="shown{" with" if image else ""}">{image}<div class="said">{said}</div></div></article>'
    )


def _pieces(pieces: Sequence[Piece]) -> str:
    return "".join(map(_piece, pieces)) or "<small>no answer</small>"


def _piece(piece: Piece) -> str:
    words = piece.text.strip()
    if not words or not (piece.differs or piece.fault):
        return escape(piece.text)
    before, _, after = (escape(part) for part in piece.text.partition(words))
    text = escape(words)
    if piece.fault:
        text = f'<span class="fault" title="{escape(piece.fault)}">{text}</span>'
    return f"{before}<mark>{text}</mark>{after}" if piece.differs else f"{before}{text}{after}"


def _stamps(sides: tuple[Side, Side]) -> str:
    names = dict.fromkeys(name for side in sides for name in side.stamp)
    rows = ""
    for name in names:
        values = [side.stamp.get(name, "") for side in sides]
        unlike = ' class="unlike"' if values[0] != values[1] else ""
        cells = "".join(f"<td>{escape(str(value)) or sentences.NOTHING}</td>" for value in values)
        rows += f'<tr{unlike}><th scope="row">{escape(name)}</th>{cells}</tr>'
    head = "".join(f'<th scope="col">{escape(side.title)}</th>' for side in sides)
    return f'<table class="stamp"><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _notes(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    return ["<h2>Notes</h2><ul>", *(f"<li>{escape(note)}</li>" for note in notes), "</ul>"]
