"""Who was measured: the identity and the name of whoever gave a set of answers, and what an evaluation on drawn scenes
found of each voice."""

from collections.abc import Iterator

from rlhfv.evaluation.answer_sets import AnswerSet
from rlhfv.evaluation.bootstrap import Figure
from rlhfv.evaluation.leaderboard import Finding
from rlhfv.evaluation.scene_score import BENCHMARK as DEMO_WORLD
from rlhfv.evaluation.scene_score import MEASURES as SCENE_MEASURES
from rlhfv.evaluation.scene_score import VARIANT as SCENE_VARIANT
from rlhfv.evaluation.stamp import UNKNOWN
from rlhfv.remote_voices import served_name
from rlhfv.runs.state import Run

_SCENE_KINDS = {"any_rate": "any", "number_rate": "number", "position_rate": "position"}


def sets_are(number: int, title: str = "") -> str:
    """ "1 set of answers to POPE is"."""
    answers = f"answers to {title}" if title else "answers"
    return f"1 set of {answers} is" if number == 1 else f"{number:,} sets of {answers} are"


def voice_of(one: AnswerSet) -> str:
    """The identity of who gave a set of answers; one by an unknown model is a voice of its own."""
    model = one.stamp.model
    if model.name == UNKNOWN:
        return f"answers:{one.id}"
    return model.adapter or (model.base if model.revision else model.name)


def name_of(one: AnswerSet) -> str:
    """How the voice of a set is called: by its model; where that is not known, by the set."""
    model = one.stamp.model
    if model.name == UNKNOWN:
        return one.title
    if model.adapter:
        return model.adapter.partition("@")[0]
    if not model.revision:
        return model.name
    name = served_name(model.name)
    on_server = one.stamp.architecture == f"on {model.revision}"
    return f"{name} on {model.revision}" if on_server else f"Baseline of {name}"


def base_of(config: dict) -> str:
    return f"{config['base']['name']}@{config['base']['revision']}"


def scene_findings(run: Run, results: dict) -> list[Finding]:
    asked = {"prompt": results.get("question"), "decoding": "greedy"}
    return [
        Finding(
            *(voice["id"] or base_of(run.config), DEMO_WORLD, SCENE_VARIANT, asked, results["scenes"]),
            *(tuple(_scene_figures(voice)), run.id, run.created),
        )
        for voice in results.get("voices", ())
    ]


def _scene_figures(voice: dict) -> Iterator[tuple]:
    for measure in SCENE_MEASURES:
        kind = _SCENE_KINDS.get(measure.name)
        found = voice["kinds"].get(kind) if kind else voice.get(measure.name)
        if found:
            scale = 100 if measure.unit == "percent" else 1
            yield measure, Figure(*(None if found[part] is None else scale * found[part] for part in _PARTS))


_PARTS = ("value", "low", "high")
