"""The demo model's world as the catalogue hands it on: scenes to draw, their truth, and how answers fare against it.

Real models have none: the fields of their catalogue entry that would hold it are empty.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from rlhfv.corrections.edits import Edit
from rlhfv.models.demo.language import DETAILED_PROMPT, SUGGESTED_QUESTIONS
from rlhfv.models.demo.objects import CLASS_NAMES, RULE_TARGETS, RULES
from rlhfv.models.demo.oracle import annotate
from rlhfv.models.demo.reading import Finding, find_mentions, review
from rlhfv.models.demo.scenes import SPLITS, Scene, draw_scene, render, scene_from_source, scene_source


@dataclass(frozen=True)
class Measurement:
    """How one description fares against the truth; sums over answers give rates, so they can be bootstrapped.

    mentioned: kinds of things named; invented: those of them that are absent (`invented_names`); there: kinds that are
    in the picture; recalled: those of them that are named; targets_there, targets_recalled: the same for the targets
    of the co-occurrence rules; number_errors, position_errors: false claims about things that are there; words: words
    of the answer.
    """

    source: str
    scene_type: str
    mentioned: int
    invented: int
    invented_names: tuple[str, ...]
    there: int
    recalled: int
    targets_there: int
    targets_recalled: int
    number_errors: int
    position_errors: int
    words: int


class DemoWorld:
    """Scenes by their source ("demo:test/17"). Every method raises InvalidData for a source that names none."""

    questions = SUGGESTED_QUESTIONS
    description_question = DETAILED_PROMPT
    habits = RULES
    first_scene = "demo:validation/10"

    def fresh_seed(self, split: str) -> int:
        """A seed of the split drawn at random, for `draw`."""
        return secrets.randbelow(SPLITS[split][1])

    def draw(self, split: str, seed: int) -> tuple[bytes, str]:
        """A scene's picture as PNG bytes, and its source."""
        scene = draw_scene(split, seed)
        return self.picture(scene_source(scene)), scene_source(scene)

    def picture(self, source: str) -> bytes:
        """The picture of a source as PNG bytes: the same bytes each time."""
        buffer = io.BytesIO()
        render(scene_from_source(source)).save(buffer, "PNG")
        return buffer.getvalue()

    def truth(self, source: str) -> Scene:
        """What is in the picture."""
        return scene_from_source(source)

    def annotate(self, source: str, question: str, answer: str) -> tuple[Edit, ...]:
        """The oracle's corrections of an answer; empty when nothing in it is false."""
        return annotate(scene_from_source(source), question, answer)

    def review(self, source: str, question: str, answer: str) -> list[Finding]:
        """Every claim of an answer with its truth."""
        return review(scene_from_source(source), question, answer)

    def example_sources(self, count: int = 6) -> tuple[str, ...]:
        """Sources of example pictures, from the split that no figure is measured on."""
        return tuple(f"demo:validation/{seed}" for seed in range(count))

    def classes(self) -> tuple[str, ...]:
        """The kinds of things that the model knows."""
        return CLASS_NAMES

    def named(self, answer: str) -> set[str]:
        """The kinds of things that an answer names and does not deny."""
        return {mention.name for mention in find_mentions(answer) if not mention.negated}

    def measure(self, answers: Iterable[tuple[str, str]]) -> list[Measurement]:
        """One measurement for each (source, description), in order."""
        return [measure_description(scene_from_source(source), answer) for source, answer in answers]


def measure_description(scene: Scene, answer: str) -> Measurement:
    """Compare one detailed description with its scene."""
    named = {mention.name for mention in find_mentions(answer) if not mention.negated}
    there = set(scene.counts())
    targets = there & RULE_TARGETS
    invented = tuple(sorted(named - there))
    false = [finding.kind for finding in review(scene, DETAILED_PROMPT, answer) if not finding.is_true]
    return Measurement(
        source=scene_source(scene),
        scene_type=scene.scene_type,
        mentioned=len(named),
        invented=len(invented),
        invented_names=invented,
        there=len(there),
        recalled=len(named & there),
        targets_there=len(targets),
        targets_recalled=len(targets & named),
        number_errors=false.count("number"),
        position_errors=false.count("position"),
        words=len(answer.split()),
    )


def summarise(measurements: list[Measurement]) -> dict[str, float]:
    """The rates over all answers, each a share in 0..1 except `words` (mean).

    `response_rate` is the share of answers that name an absent thing, `mention_rate` the share of named kinds that are
    absent.
    """
    answers = max(1, len(measurements))

    def total(field: str) -> int:
        return sum(getattr(one, field) for one in measurements)

    def share(part: str, whole: str) -> float:
        return round(total(part) / max(1, total(whole)), 4)

    return {
        "response_rate": round(sum(one.invented > 0 for one in measurements) / answers, 4),
        "mention_rate": share("invented", "mentioned"),
        "recall": share("recalled", "there"),
        "target_recall": share("targets_recalled", "targets_there"),
        "number_error_rate": round(sum(one.number_errors > 0 for one in measurements) / answers, 4),
        "position_error_rate": round(sum(one.position_errors > 0 for one in measurements) / answers, 4),
        "words": round(total("words") / answers, 2),
    }
