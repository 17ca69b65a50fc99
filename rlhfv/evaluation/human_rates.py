"""How often answers hallucinate in the eyes of those who corrected them: the labels of RLHF-V's MHumanEval (T. Yu et
al., "RLHF-V", 2023), here straight from span corrections.

Counted are answers of one model that a person judged: corrected, or found faithful. An answer hallucinates where a
correction takes away or replaces at least one word of it; one that only adds words, or changes no more than
punctuation, mends an omission or the wording. Answers that were skipped are in no figure.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import regex

from rlhfv.corrections.agreement import word_spans
from rlhfv.corrections.conversation import fingerprint
from rlhfv.corrections.diff import changed_blocks
from rlhfv.corrections.edits import KINDS, Edit
from rlhfv.corrections.verdicts import Verdict
from rlhfv.errors import NotFound
from rlhfv.evaluation.score import Fault, Item, Measure, Score, per_cent, share

BENCHMARK = "human"
PAPER_OTHER = ("attribute", "action", "other")
"""What MHumanEval calls "other"; objects, positions and numbers it has as we do."""
_WORD = regex.compile(r"[\p{L}\p{N}]")


def by_model(verdicts: Iterable[Verdict]) -> dict[str, list[Verdict]]:
    """The verdicts on each model's answers, by its identity; the model with most answers judged first."""
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(str(verdict.answer.model), []).append(verdict)
    judged = {model: sum(one.outcome != "skipped" for one in those) for model, those in found.items()}
    return dict(sorted(found.items(), key=lambda pair: (-judged[pair[0]], pair[0])))


def score(verdicts: Sequence[Verdict], model: str) -> Score:
    """The rates of one model's answers. An item is a prompt (pictures, earlier turns and question), so that two
    models' answers to it meet; further answers of the same model to it are items of their own, "…-2" and so on.

    Raises NotFound where nothing of that model was judged.
    """
    those = by_model(verdicts).get(model, [])
    judged = [(id, one) for id, one in _named(those) if one.outcome != "skipped"]
    if not judged:
        raise NotFound(
            f"No answer of {model!r:.200} was judged.",
            "Rates are of answers that a person corrected or found faithful.",
            "Correct some of its answers first, or mark those in which nothing is wrong.",
        )
    wrong = [
        sorted((edit for edit in one.edits if takes_words(one.answer.text, edit)), key=lambda edit: edit.start)
        for _, one in judged
    ]
    kinds = [{edit.kind for edit in edits} for edits in wrong]
    counts = {
        "answers": np.ones(len(judged)),
        "spans": np.array([len(edits) for edits in wrong], float),
        "any": np.array([bool(edits) for edits in wrong], float),
        "words": np.array([len(word_spans(one.answer.text)) for _, one in judged], float),
        "paper_other": np.array([not found.isdisjoint(PAPER_OTHER) for found in kinds], float),
        **{kind: np.array([kind in found for found in kinds], float) for kind in KINDS},
    }
    return Score(
        benchmark=BENCHMARK,
        variant="human, spans that replace or delete words, by kind",
        ids=tuple(id for id, _ in judged),
        counts=counts,
        measures=MEASURES,
        wrong=counts["any"].astype(bool),
        faults=tuple(tuple(Fault(edit.start, edit.end, edit.kind) for edit in edits) for edits in wrong),
        notes=(f"Answers of {model}.", *_notes(those, wrong)),
    )


def read_items(verdicts: Sequence[Verdict], model: str) -> list[Item]:
    """The prompts of the judged answers as `score` names them; `image` is the first picture's stored name."""
    prompts = [(id, one.answer.prompt) for id, one in _named(by_model(verdicts).get(model, []))]
    return [Item(id, prompt.question, next(iter(prompt.all_images), "")) for id, prompt in prompts]


def answers(verdicts: Sequence[Verdict], model: str) -> dict[str, str]:
    """Item id → the answer that was judged."""
    return {id: one.answer.text for id, one in _named(by_model(verdicts).get(model, []))}


def takes_words(text: str, edit: Edit) -> bool:
    """Whether an edit takes away or replaces a letter or digit of `text`. What the replacement repeats is not taken:
    "cup" → "cup and saucer" only adds.
    """
    span = text[edit.start : edit.end]
    return any(_WORD.search(span[start:end]) for start, end, _ in changed_blocks(span, edit.replacement))


def _named(verdicts: Sequence[Verdict]) -> list[tuple[str, Verdict]]:
    """Each verdict with the id of its item. Skipped answers have none."""
    seen: Counter = Counter()
    named = []
    for verdict in verdicts:
        if verdict.outcome == "skipped":
            continue
        id = fingerprint(verdict.answer.prompt)
        seen[id] += 1
        named.append((id if seen[id] == 1 else f"{id}-{seen[id]}", verdict))
    return named


def _notes(verdicts: Sequence[Verdict], wrong: Sequence[list[Edit]]) -> tuple[str, ...]:
    judged = [one for one in verdicts if one.outcome != "skipped"]
    corrected = sum(one.outcome == "corrected" for one in judged)
    skipped, added = len(verdicts) - len(judged), corrected - sum(map(bool, wrong))
    told = [
        f"Of {len(judged):,} answers that a person judged, {corrected:,} were corrected and "
        f"{len(judged) - corrected:,} found faithful."
    ]
    if skipped:
        told.append(f"{skipped:,} more were skipped and are in no figure.")
    if added:
        told.append(f"In {added:,} of the corrected ones words were only added: they count as not hallucinating.")
    if omitted := sum(one.omission for one in judged):
        told.append(f"{omitted:,} were marked as leaving something out, which is not counted as hallucination.")
    if several := sum(one.people > 1 for one in judged):
        told.append(f"{several:,} were judged by more than one person: the newest verdict counts.")
    told.append("Published figures are of MHumanEval's 146 prompts, these of the prompts that were judged here.")
    return tuple(told)


def _rate(name: str) -> Callable:
    return lambda sums: per_cent(sums[name], sums["answers"])


MEASURES = (
    Measure("any", "Answers with a hallucination", "percent", "lower", _rate("any")),
    *(Measure(kind, f"Answers with one of kind {kind}", "percent", "lower", _rate(kind)) for kind in KINDS),
    Measure(
        *("paper_other", "Answers with one that MHumanEval calls other", "percent", "lower", _rate("paper_other"))
    ),
    Measure(
        *("spans", "Wrong spans an answer", "count", "lower"), lambda sums: share(sums["spans"], sums["answers"]), 2
    ),
    Measure("words", "Words an answer", "words", "", lambda sums: share(sums["words"], sums["answers"])),
)
