"""How well hints find what is wrong, where the truth is known: `python -m benchmarks.hints [--scenes 200]`.

The demo base describes scenes, greedily and sampled; a content word counts as wrong when it lies in a span that the
oracle corrects. AUROC is the chance that a wrong word gets a higher score than a right one (0.5: no better than dice).
Weights and thresholds are fitted on validation scenes and printed beside those in rlhfv/models/hints.py; the table is
of scenes from the split "pairs" that neither this fit nor the shipped adapter has seen.
"""

import argparse
import datetime
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch

from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.corrections.edits import Edit, normalise_generated
from rlhfv.evaluation.oracle_pairs import GREEDY, SAMPLED, SCENES_AT_ONCE, keep_picture
from rlhfv.models.catalog import find_entry
from rlhfv.models.demo.world import DemoWorld
from rlhfv.models.hints import SOURCES, THRESHOLDS, WEIGHTS, find_hints, find_words, read_answer, weigh_words
from rlhfv.models.local import LocalModel

FIT, TEST = ("validation", 0), ("pairs", 200_000)
SUBSETS = tuple(WEIGHTS)
RIDGE = 1e-3
DRAWS = 400
NOISE = 0.02


@dataclass(frozen=True)
class Case:
    """One answer: `evidence` [words, sources] and `wrong` [words] of its content words, its hints and its edits."""

    decoding: str
    answer: str
    evidence: np.ndarray
    wrong: np.ndarray
    hints: list
    edits: tuple[Edit, ...]


def collect(model: LocalModel, voice: str, world: DemoWorld, split: str, first: int, scenes: int) -> list[Case]:
    cases = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = [world.draw(split, seed) for seed in range(first, first + scenes)]
        prompts = [Prompt(world.description_question, (keep_picture(picture, folder),)) for picture, _ in drawn]
        for decoding, sampling in (("greedy", GREEDY), ("sampled", Sampling(**{**vars(SAMPLED), "seed": first}))):
            texts = model.answer_many(prompts, None, sampling, folder.joinpath, SCENES_AT_ONCE)
            for (_, source), prompt, text in zip(drawn, prompts, map(normalise_generated, texts), strict=True):
                edits = world.annotate(source, prompt.question, text)
                reading, rows = read_answer(model, prompt, text, None, voice, folder.joinpath)
                content = find_words(text, reading.offsets)
                evidence = weigh_words(content, reading, rows)
                wrong = [any(edit.start < word.end and edit.end > word.start for edit in edits) for word in content]
                cases.append(
                    Case(
                        decoding,
                        text,
                        np.array([evidence[source] for source in SOURCES]).T,
                        np.array(wrong),
                        find_hints(text, reading, rows),
                        edits,
                    )
                )
    return cases


def auroc(scores: np.ndarray, wrong: np.ndarray) -> float:
    """The Mann-Whitney statistic by mean ranks, so that ties count one half."""
    _, place, times = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(times) - (times - 1) / 2)[place]
    count = wrong.sum()
    return float((ranks[wrong].sum() - count * (count + 1) / 2) / (count * (len(wrong) - count)))


def interval(cases: Sequence[Case], scores: Sequence[np.ndarray]) -> tuple[float, float]:
    """95 % of the AUROC over resampled answers."""
    generator = np.random.default_rng(0)
    values = []
    for _ in range(DRAWS):
        chosen = generator.integers(0, len(cases), len(cases))
        wrong = np.concatenate([cases[number].wrong for number in chosen])
        values.append(auroc(np.concatenate([scores[number] for number in chosen]), wrong))
    return tuple(np.quantile(values, [0.025, 0.975]))


def squash(evidence: np.ndarray, sources: tuple[str, ...]) -> np.ndarray:
    return np.tanh(evidence[:, [SOURCES.index(source) for source in sources]] / 2)


def fit(evidence: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Weights and intercept of a logistic regression with a small ridge, by Newton's method; no weight below 0."""
    inputs = np.c_[evidence, np.ones(len(evidence))]
    ridge = np.diag([RIDGE] * evidence.shape[1] + [0.0])
    free = np.ones(inputs.shape[1], dtype=bool)
    while True:
        weights = np.zeros(inputs.shape[1])
        for _ in range(50):
            likely = 1 / (1 + np.exp(-inputs @ weights))
            slope = inputs.T @ (likely - wrong) / len(wrong) + ridge @ weights
            curve = (inputs * (likely * (1 - likely))[:, None]).T @ inputs / len(wrong) + ridge
            weights[free] -= np.linalg.solve(curve[np.ix_(free, free)], slope[free])
        below = (weights < 0) & free
        below[-1] = False
        if not below.any():
            return weights
        free &= ~below


def score(evidence: np.ndarray, sources: tuple[str, ...], weights: Sequence[float]) -> np.ndarray:
    *own, intercept = weights
    return 1 / (1 + np.exp(-squash(evidence, sources) @ np.array(own) - intercept))


def best_threshold(scores: np.ndarray, wrong: np.ndarray) -> float:
    """The lowest one whose F1 of the marked words is the best, give or take `NOISE`: to miss an error costs more than
    to glance at a right word.
    """
    order = np.argsort(-scores)
    both = 2 * np.cumsum(wrong[order]) / (np.arange(1, len(wrong) + 1) + wrong.sum())
    return float(scores[order][np.flatnonzero(both >= both.max() - NOISE)[-1]])


def precision_recall(marked: np.ndarray, wrong: np.ndarray) -> str:
    found = (marked & wrong).sum()
    precision, recall = found / max(1, marked.sum()), found / wrong.sum()
    return f"precision {precision:.2f}, recall {recall:.2f}"


def print_fit(cases: list[Case]) -> None:
    evidence, wrong = np.concatenate([case.evidence for case in cases]), np.concatenate([c.wrong for c in cases])
    print(f"\nFitted on {len(cases)} answers to validation scenes ({wrong.sum()} of {len(wrong)} words wrong):\n")
    print("| sources | fitted weights, intercept | threshold | in use |\n|---|---|---|---|")
    for sources in SUBSETS:
        weights = fit(squash(evidence, sources), wrong)
        threshold = best_threshold(score(evidence, sources, weights), wrong)
        used = ", ".join(f"{value:g}" for value in WEIGHTS[sources])
        print(
            f"| {', '.join(sources)} | {', '.join(f'{value:.2f}' for value in weights)} | {threshold:.2f} "
            f"| {used}; {THRESHOLDS[sources]:g} |"
        )


def print_table(cases: list[Case]) -> None:
    columns = {name: [SOURCES.index(name)] for name in SOURCES}
    ways = {name: [case.evidence[:, place[0]] for case in cases] for name, place in columns.items()}
    for sources in SUBSETS:
        if len(sources) > 1:
            name = " + ".join(sources)
            ways[name] = [score(case.evidence, sources, WEIGHTS[sources]) for case in cases]
    groups = {"greedy": [], "sampled": [], "both": list(range(len(cases)))}
    for number, case in enumerate(cases):
        groups[case.decoding].append(number)
    counts = {}
    for group, chosen in groups.items():
        wrong = np.concatenate([cases[number].wrong for number in chosen])
        counts[group] = f"{wrong.sum()} of {len(wrong)}"
    print("\n| source | greedy | sampled | both [95 % over answers] |\n|---|---|---|---|")
    for name, scores in ways.items():
        cells = []
        for chosen in groups.values():
            wrong = np.concatenate([cases[number].wrong for number in chosen])
            cells.append(f"{auroc(np.concatenate([scores[number] for number in chosen]), wrong):.3f}")
        low, high = interval(cases, scores)
        print(f"| {name} | {' | '.join(cells)} [{low:.3f}, {high:.3f}] |")
    print(f"| wrong words | {' | '.join(counts.values())} |")
    print_marks(cases)


def print_marks(cases: list[Case]) -> None:
    wrong = np.concatenate([case.wrong for case in cases])
    for sources in SUBSETS:
        scores = np.concatenate([score(case.evidence, sources, WEIGHTS[sources]) for case in cases])
        print(f"\nWords from {THRESHOLDS[sources]:g} on ({', '.join(sources)}): ", end="")
        print(precision_recall(scores >= THRESHOLDS[sources], wrong))
    hints = [(case, hint) for case in cases for hint in case.hints]
    right = sum(any(edit.start < hint.end and edit.end > hint.start for edit in case.edits) for case, hint in hints)
    found = sum(
        any(edit.start < hint.end and edit.end > hint.start for hint in case.hints)
        for case in cases
        for edit in case.edits
    )
    edits = sum(len(case.edits) for case in cases)
    print(
        f"\nMarks as the editor shows them: {len(hints)} on {len(cases)} answers, {right} of them on a span that the "
        f"oracle corrects; {found} of its {edits} spans are marked."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=200, help="scenes to fit on, and as many to measure on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    entry = find_entry("demo")
    model = LocalModel.load(entry)
    voice = model.attach(entry.adapters[0].source)
    print(
        f"{datetime.date.today()}: {platform.machine()}, {psutil.cpu_count()} cores (one used, load "
        f"{psutil.getloadavg()[0]:.1f}), {platform.system()}, Python {sys.version.split()[0]}, torch "
        f"{torch.__version__}; {options.scenes} scenes each, base {model.identity}, adapter {voice}"
    )
    print_fit(collect(model, voice, entry.world, *FIT, options.scenes))
    print_table(collect(model, voice, entry.world, *TEST, options.scenes))
    model.unload()


if __name__ == "__main__":
    main()
