"""What an evaluation found, as nodes of views: figures with their intervals drawn beside them, and examples."""

from collections.abc import Callable

from rlhfv.evaluation.sentences import NO_WIDTH
from rlhfv.studio.chat_view import thumb
from rlhfv.studio.view import Node, h

# Figure: (what it counts, whether it is a share, whether lower is better; None where neither is).
FIGURES = {
    "response_rate": ("Answers that name an absent object", True, True),
    "mention_rate": ("Named objects that are not there", True, True),
    "recall": ("Objects there that are named", True, False),
    "target_recall": ("The same, for objects of a habit", True, False),
    "words": ("Words per answer", False, None),
}
KINDS = {"any": "Answers with a false claim of any kind"}
OUTCOMES = {"mended": "ok", "broken": "bad", "still wrong": "bad", "right": ""}


def verdicts(results: dict) -> list[Node]:
    """One sentence per adapter: how much lower the rate is, and at what price."""
    return [h("ul.verdict-cards", *(_verdict(voice, results["voices"][0]) for voice in results["voices"][1:]))]


def _verdict(voice: dict, baseline: dict) -> Node:
    reduction = voice["paired"]["response_rate"]["relative_reduction"]
    recall = voice["paired"]["recall"]["difference"]
    words = voice["paired"]["words"]["difference"]
    clear = reduction["value"] is not None and (reduction["low"] > 0 or reduction["high"] < 0)
    certainty = ""
    if reduction["value"] is None:
        headline = "No rate to compare: the baseline named no absent object."
    else:
        change = f"{abs(reduction['value']):.0%} {'fewer' if reduction['value'] >= 0 else 'more'}".replace("%", " %")
        headline = f"{change} answers that name an absent object"
        if not clear:
            headline = f"No clear difference: {headline}"
            certainty = " More scenes may tell: with these, chance alone can explain the difference."
    return h(
        "li",
        h("strong.big", headline),
        h(
            "span.by",
            f"{voice['title']} against {baseline['title']}, paired by scene{_interval(reduction)}.{certainty}",
        ),
        h(
            "span.by",
            f"Price: recall {_points(recall)} points {_range(recall, share=True, sign=True)}, "
            f"{_signed(words['value'])} words an answer {_range(words, share=False, sign=True)}.",
        ),
    )


def figures(results: dict) -> list[Node]:
    """The table: each figure, each voice, its value, its interval, and the interval drawn."""
    voices = results["voices"]
    blocks = [
        _block(title, [(voice["title"], voice[name]) for voice in voices], share, better)
        for name, (title, share, better) in FIGURES.items()
    ]
    kinds = [
        _block(
            KINDS.get(kind, f"Answers with a false {kind}"),
            [(voice["title"], voice["kinds"][kind]) for voice in voices],
            True,
            True,
        )
        for kind in voices[0]["kinds"]
    ]
    scenes = [
        _block(
            f"{kind.replace('_', ' ').capitalize()}, {_scenes(found['scenes'])}: answers that name an absent object",
            [(voice["title"], voice["scene_types"][kind]["response_rate"]) for voice in voices],
            True,
            True,
        )
        for kind, found in voices[0]["scene_types"].items()
    ]
    return [
        _table(f"On {_scenes(results['scenes'], 'test scene')}", blocks),
        _table("By kind of error", kinds),
        _table("By scene", scenes),
    ]


def _table(caption: str, blocks: list[list[Node]]) -> Node:
    head = h("tr", *(h("th", name, scope="col") for name in ("Voice", "Value and 95 % interval", "")))
    return h(
        "div.scroll",
        h("table.figures", h("caption", caption), h("thead", head), *(h("tbody", *rows) for rows in blocks)),
    )


def _block(title: str, values: list[tuple[str, dict]], share: bool, lower: bool | None) -> list[Node]:
    most = 1.0 if share else max((figure["high"] or 0 for _, figure in values), default=1) * 1.1 or 1.0
    arrow = {True: "lower is better", False: "higher is better", None: ""}[lower]
    rows = [h("tr.figure-title", h("th", title, h("small", arrow) if arrow else None, scope="rowgroup", colspan="3"))]
    for number, (voice, figure) in enumerate(values):
        rows.append(
            h(
                "tr",
                h("th", voice, scope="row"),
                h("td.number", _value(figure, share), " ", h("small", _range(figure, share))),
                h("td.plot", _whisker(figure, most, number)),
            )
        )
    return rows


def _whisker(figure: dict, most: float, number: int) -> Node:
    """The interval as a line with its value as a dot, on a track from 0 to `most`."""
    if figure["value"] is None:
        return h("div.track", aria_hidden="true")
    low, value, high = (100 * min(max(figure[part] / most, 0), 1) for part in ("low", "value", "high"))
    return h(
        "div.track",
        h("div.whisker", style=f"left:{low:.2f}%;width:{max(high - low, 0.3):.2f}%"),
        h("div.dot", style=f"left:{value:.2f}%"),
        class_="first" if number == 0 else "",
        aria_hidden="true",
    )


def examples(results: dict, picture: Callable[[str], str]) -> list[Node]:
    """Scenes with every voice's answer; false claims are marked. `picture` names the stored picture of a scene."""
    titles = {voice["id"]: voice["title"] for voice in results["voices"]}
    items = []
    for example in results["examples"]:
        tone = OUTCOMES.get(example["outcome"], "")
        answers = [
            h(
                "div.compare",
                h("span.label", titles.get(answer["voice"], answer["voice"])),
                h("p.answer-text", *_marked(answer), dir="auto"),
            )
            for answer in example["answers"]
        ]
        items.append(
            h(
                "li",
                thumb(picture(example["scene"]), f"Scene {example['scene']}"),
                h(
                    "div",
                    h(
                        "p.facts",
                        h(f"span.badge{'.' + tone if tone else ''}", example["outcome"]),
                        h("span.by", f"{example['scene_type']} · {example['scene']}"),
                    ),
                    h("div.compared", *answers),
                ),
            )
        )
    if not items:
        return []
    return [
        h("h4", "Examples"),
        h("p.hint", "Underlined: claims that are false in that scene."),
        h("ul.examples", *items),
    ]


def _marked(answer: dict) -> list[Node]:
    nodes, position, text = [], 0, answer["text"]
    for claim in sorted(answer["false"], key=lambda claim: claim["start"]):
        nodes += [
            text[position : claim["start"]],
            h("mark.false", text[claim["start"] : claim["end"]], title=f"false: {claim['kind']}"),
        ]
        position = claim["end"]
    return [node for node in (*nodes, text[position:]) if node]


def _value(figure: dict, share: bool) -> str:
    if figure["value"] is None:
        return "–"
    return f"{figure['value']:.1%}".replace("%", " %") if share else f"{figure['value']:.1f}"


def _range(figure: dict, share: bool, sign: bool = False) -> str:
    if figure["value"] is None:
        return ""
    scale, plus = (100 if share else 1), "+" if sign else ""
    if (figure["high"] - figure["low"]) * scale < NO_WIDTH:
        return "[no interval: all scenes alike]"
    return f"[{figure['low'] * scale:{plus}.1f}, {figure['high'] * scale:{plus}.1f}]"


def _interval(reduction: dict) -> str:
    """What follows the names of two voices: the interval of how much lower the rate is."""
    if reduction["value"] is None:
        return ""
    shown = _range(reduction, share=True)
    return f" {shown}" if "no interval" in shown else f", 95 % interval {shown}"


def _scenes(number: int, one: str = "scene") -> str:
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def _points(figure: dict) -> str:
    return "–" if figure["value"] is None else f"{figure['value'] * 100:+.1f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f}"
