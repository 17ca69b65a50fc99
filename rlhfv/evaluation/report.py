"""Figures out of counted answers: rates with intervals, by kind of error and by scene type, and examples side by side.

Results are plain JSON data. For every voice, the baseline first:

    {"id", "title",
     "response_rate":  share of answers that name an object that is not there,
     "mention_rate":   share of the named objects that are not there,
     "recall":         share of the objects there that are named,
     "target_recall":  the same for objects that the model's habits make it name (and that are there),
     "words":          words per answer,
     "kinds":          {"object" (again), "number", "position", "any": share of answers with such a false claim},
     "scene_types":    {scene type: {"scenes": number, and the first five again}},
     "paired":         {name: {"difference", "relative_reduction"}} against the baseline; not for the baseline itself}

Each figure is {"value", "low", "high"}: a 95 % bootstrap interval over scenes (see `bootstrap`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlhfv.errors import InvalidData
from rlhfv.evaluation.bootstrap import Bootstrap
from rlhfv.evaluation.demo_world import BASELINE, EvaluatedVoice, SceneAnswer
from rlhfv.models.catalog import World

FIGURES = ("response_rate", "mention_rate", "recall", "target_recall", "words")
KINDS = ("object", "number", "position")
ANY = "any"
COUNTED = (
    "mentioned",
    "invented",
    "there",
    "recalled",
    "targets_there",
    "targets_recalled",
    "number_errors",
    "position_errors",
    "words",
)
EXAMPLES = {"mended": 6, "broken": 4, "still wrong": 4, "right": 2}
"""Scenes shown of each outcome: the baseline alone names absent objects, the voice alone, both, neither."""


@dataclass(frozen=True)
class _Counts:
    """The counts of one voice: name → array of shape (scenes,)."""

    voice: EvaluatedVoice
    answers: tuple[str, ...]
    by_name: dict[str, np.ndarray]

    def ratio_of(self, name: str, scenes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is divided by what for a figure; scenes outside the mask count nothing."""
        ones = np.ones(len(scenes))
        counts = self.by_name
        errors = {kind: counts["invented" if kind == "object" else f"{kind}_errors"] > 0 for kind in KINDS}
        above, below = {
            "response_rate": (errors["object"], ones),
            "mention_rate": (counts["invented"], counts["mentioned"]),
            "recall": (counts["recalled"], counts["there"]),
            "target_recall": (counts["targets_recalled"], counts["targets_there"]),
            "words": (counts["words"], ones),
            ANY: (errors["object"] | errors["number"] | errors["position"], ones),
            **{kind: (wrong, ones) for kind, wrong in errors.items()},
        }[name]
        return above * scenes, below * scenes


def build_results(
    world: World, voices: Sequence[EvaluatedVoice], answers: Sequence[SceneAnswer], scenes: int, seed: int = 0
) -> dict:
    """All figures of `voices` (baseline first) on the scenes that every one of them has answered.

    Raises:
        InvalidData: an answer is missing.
    """
    by_voice = {voice.id: {} for voice in voices}
    for answer in answers:
        if answer.voice in by_voice:
            by_voice[answer.voice][answer.scene] = answer.answer
    sources = list(by_voice[BASELINE])[:scenes]
    if len(sources) < scenes or any(source not in said for said in by_voice.values() for source in sources):
        raise InvalidData(
            "Answers are missing.", f"Every voice has to answer all {scenes} scenes.", "Resume the evaluation."
        )
    sources.sort(key=lambda source: (len(source), source))
    scene_types = np.array([world.truth(source).scene_type for source in sources])
    counted = [_count(world, voice, sources, by_voice[voice.id]) for voice in voices]
    bootstrap, everywhere = Bootstrap(scenes, seed), np.ones(scenes)
    results = []
    for counts in counted:
        figures = {
            "id": counts.voice.id,
            "title": counts.voice.title,
            **_rates(bootstrap, counts, FIGURES, everywhere),
        }
        figures["kinds"] = _rates(bootstrap, counts, (*KINDS, ANY), everywhere)
        figures["scene_types"] = {
            str(kind): {
                "scenes": int((scene_types == kind).sum()),
                **_rates(bootstrap, counts, FIGURES, scene_types == kind),
            }
            for kind in np.unique(scene_types)
        }
        if counts is not counted[0]:
            figures["paired"] = _compare(bootstrap, counted[0], counts)
        results.append(figures)
    return {
        "v": 1,
        "scenes": scenes,
        "question": world.questions[0],
        "voices": results,
        "outcomes": {counts.voice.id: _outcome_counts(counted[0], counts) for counts in counted[1:]},
        "examples": _choose_examples(world, sources, counted),
    }


def _count(world: World, voice: EvaluatedVoice, sources: list[str], said: dict[str, str]) -> _Counts:
    texts = tuple(said[source] for source in sources)
    measured = world.measure(list(zip(sources, texts, strict=True)))
    return _Counts(voice, texts, {name: np.array([getattr(one, name) for one in measured]) for name in COUNTED})


def _rates(bootstrap: Bootstrap, counts: _Counts, names: Sequence[str], scenes: np.ndarray) -> dict[str, dict]:
    return {name: bootstrap.ratio(*counts.ratio_of(name, scenes)).to_dict() for name in names}


def _compare(bootstrap: Bootstrap, before: _Counts, after: _Counts) -> dict[str, dict]:
    paired = {}
    for name in (*FIGURES, *KINDS[1:], ANY):
        ratios = [counts.ratio_of(name, np.ones(bootstrap.scenes)) for counts in (before, after)]
        paired[name] = {
            "difference": bootstrap.difference(*ratios).to_dict(),
            "relative_reduction": bootstrap.relative_reduction(*ratios).to_dict(),
        }
    return paired


def _outcomes(before: _Counts, after: _Counts) -> list[str]:
    names = {(1, 0): "mended", (0, 1): "broken", (1, 1): "still wrong", (0, 0): "right"}
    wrong = [counts.by_name["invented"] > 0 for counts in (before, after)]
    return [names[int(first), int(second)] for first, second in zip(*wrong, strict=True)]


def _outcome_counts(before: _Counts, after: _Counts) -> dict[str, int]:
    outcomes = _outcomes(before, after)
    return {name: outcomes.count(name) for name in EXAMPLES}


def _choose_examples(world: World, sources: list[str], counted: list[_Counts]) -> list[dict]:
    """The first scenes of each outcome between the baseline and the last voice, with the claims of every answer."""
    outcomes = _outcomes(counted[0], counted[-1])
    chosen = []
    for outcome, limit in EXAMPLES.items():
        rows = [row for row, one in enumerate(outcomes) if one == outcome][:limit]
        chosen += [
            {
                "scene": sources[row],
                "scene_type": world.truth(sources[row]).scene_type,
                "outcome": outcome,
                "answers": [_marked(world, sources[row], counts, row) for counts in counted],
            }
            for row in rows
        ]
    return chosen


def _marked(world: World, source: str, counts: _Counts, row: int) -> dict:
    """An answer with its false claims as half-open code point spans."""
    answer = counts.answers[row]
    claims = world.review(source, world.questions[0], answer)
    return {
        "voice": counts.voice.id,
        "text": answer,
        "false": [
            {"start": claim.start, "end": claim.end, "kind": claim.kind} for claim in claims if not claim.is_true
        ],
    }


def shape_for_two(results: dict) -> dict:
    """`{"baseline": M, "aligned": M}` of an evaluation of one adapter, with its counts of scenes."""
    baseline, aligned = results["voices"]
    return {"baseline": baseline, "aligned": aligned, "scenes": results["scenes"]}


def render_table(results: dict) -> str:
    """The figures as a table of plain text, rates in per cent with their intervals."""
    names = {
        "response_rate": "answers that name an absent object",
        "mention_rate": "named objects that are absent",
        "recall": "objects there that are named",
        "target_recall": "the same for objects of a habit",
        "words": "words per answer",
    }
    kinds = {
        "number": "answers with a false number",
        "position": "answers with a false position",
        ANY: "answers with anything false",
    }
    rows = [[f"{results['scenes']} test scenes", *(voice["title"] for voice in results["voices"])]]
    rows += [[title, *(_render(voice[name], name) for voice in results["voices"])] for name, title in names.items()]
    rows += [
        [title, *(_render(voice["kinds"][kind], kind) for voice in results["voices"])] for kind, title in kinds.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    for voice in results["voices"][1:]:
        rate, recall = voice["paired"]["response_rate"], voice["paired"]["recall"]
        lines.append("")
        lines.append(f"{voice['title']} against {results['voices'][0]['title']}, paired by scene:")
        lower = _render(rate["relative_reduction"], "share")
        lines.append(f"  answers that name an absent object: lower by {lower} of the baseline's rate")
        lines.append(f"  objects there that are named: {_render(recall['difference'], 'share', sign=True)} points")
    return "\n".join(lines)


def _render(figure: dict, name: str, sign: bool = False) -> str:
    if figure["value"] is None:
        return "-"
    scale, mark = (1, "") if name == "words" else (100, "" if sign else " %")
    plus = "+" if sign else ""
    value, low, high = (format(figure[part] * scale, f"{plus}.1f") for part in ("value", "low", "high"))
    return f"{value}{mark} [{low}, {high}]"
