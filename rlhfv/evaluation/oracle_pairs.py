"""Preference pairs that nobody has to make: a world whose truth is known corrects or ranks a model's own answers.

Everything follows from the base's weights, the world and the numbers given here, so a pool is made once and kept:

    <folder>/answers/<first>.json   the answers about scenes first … first + 63 of the split "pairs"
    <folder>/pairs.jsonl, images/   the pairs, as they are exported everywhere
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.corrections.edits import CorrectedAnswer, normalise_generated
from rlhfv.corrections.exchange import export_pairs
from rlhfv.corrections.pairs import PreferencePair, Provenance, load_pairs
from rlhfv.models.catalog import World

if TYPE_CHECKING:
    from rlhfv.models.local import LocalModel

SPLIT = "pairs"
GREEDY = Sampling(max_new_tokens=160)
SAMPLED = Sampling(temperature=0.8, top_p=0.95, max_new_tokens=160)
SCENES_AT_ONCE = 64
_RANKED_FROM = (10_000_000, 20_000_000)
"""First sampling seeds of the two answers that are ranked: apart from each other and from those that are corrected."""


def oracle_pairs(
    model: "LocalModel", world: World, count: int, folder: Path, progress: Callable[[int, int], None] | None = None
) -> list[PreferencePair]:
    """The first `count` corrections: each scene answered greedily and once sampled, both corrected by the oracle.
    They are kept in `folder` and made again only for another base or a larger count; stopped on the way, what was
    answered is not asked again. `progress(done, count)`."""
    return _kept_pairs(model, count, folder, lambda: _corrections(model, world, folder), progress)


def ranking_pairs(
    model: "LocalModel", world: World, count: int, folder: Path, progress: Callable[[int, int], None] | None = None
) -> list[PreferencePair]:
    """The first `count` rankings, outcome `preferred`: two sampled answers to one question, of which the one with
    fewer false claims is chosen, then the one that names more of what is there; equal ones are left out. Kept like
    `oracle_pairs`."""
    return _kept_pairs(model, count, folder, lambda: _rankings(model, world, folder), progress)


def _kept_pairs(model, count, folder: Path, make: Callable[[], Iterator[PreferencePair]], progress) -> list:
    if (folder / "pairs.jsonl").is_file():
        kept = load_pairs(folder)
        if len(kept) >= count and kept[0].provenance.model == model.identity:
            return kept[:count]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    pairs = []
    for pair in make():
        pairs.append(pair)
        if progress:
            progress(len(pairs), count)
        if len(pairs) == count:
            break
    export_pairs(pairs, folder, (folder / "images").joinpath)
    return pairs


def _corrections(model, world: World, folder: Path) -> Iterator[PreferencePair]:
    for source, prompt, said in _answered(model, world, (GREEDY, SAMPLED), folder):
        for text, sampling in dict(reversed(said)).items():
            edits = world.annotate(source, prompt.question, text)
            if edits:
                corrected = CorrectedAnswer(text, tuple(edits))
                provenance = _provenance(model, source, sampling)
                yield PreferencePair(
                    _identity(source, text),
                    prompt,
                    corrected.corrected,
                    text,
                    corrected.edits,
                    "corrected",
                    provenance,
                )


def _rankings(model, world: World, folder: Path) -> Iterator[PreferencePair]:
    samplings = [replace(SAMPLED, seed=seed) for seed in _RANKED_FROM]
    for source, prompt, said in _answered(model, world, samplings, folder):
        (first, _), (second, _) = said
        merits = [merit(world, source, prompt.question, text) for text in (first, second)]
        if merits[0] == merits[1]:
            continue
        better = max((0, 1), key=lambda place: merits[place])
        (chosen, _), (rejected, sampling) = said[better], said[1 - better]
        provenance = replace(_provenance(model, source, sampling), chosen_model=model.identity)
        yield PreferencePair(
            _identity(source, f"{chosen}\n{rejected}"), prompt, chosen, rejected, (), "preferred", provenance
        )


def merit(world: World, source: str, question: str, answer: str) -> tuple[int, int]:
    """What the oracle ranks by, more is better: minus the number of false claims, then the kinds of things in the
    picture that are named."""
    false = sum(not finding.is_true for finding in world.review(source, question, answer))
    [measured] = world.measure([(source, answer)])
    return -false, measured.recalled


def _answered(
    model, world: World, samplings: Sequence[Sampling], folder: Path
) -> Iterator[tuple[str, Prompt, list[tuple[str, Sampling]]]]:
    """Scene after scene: its source, the prompt, and an answer for each sampling (whose seed counts on by scene)."""
    first, question, images = 0, world.description_question, folder / "images"
    while True:
        seeds = range(first, first + SCENES_AT_ONCE)
        drawn = [world.draw(SPLIT, seed) for seed in seeds]
        prompts = [Prompt(question, (keep_picture(picture, images),)) for picture, _ in drawn]
        shifted = [one if one == GREEDY else replace(one, seed=one.seed + first) for one in samplings]
        texts = _block(model, prompts, shifted, images, folder / "answers" / f"{first}.json")
        for (_, source), prompt, said in zip(drawn, prompts, zip(*texts, strict=True), strict=True):
            yield source, prompt, list(zip(said, shifted, strict=True))
        first += SCENES_AT_ONCE


def _block(model, prompts: list[Prompt], samplings: list[Sampling], images: Path, file: Path) -> list[list[str]]:
    """The answers of one block of scenes, a list for each sampling: kept, or asked for now."""
    asked = {"model": vars(model.identity), "samplings": [vars(sampling) for sampling in samplings]}
    if file.is_file():
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            if kept["asked"] == json.loads(json.dumps(asked)):
                return kept["texts"]
        except (ValueError, KeyError, TypeError):
            pass  # damaged: they are asked for again
    texts = [
        [
            normalise_generated(text)
            for text in model.answer_many(prompts, None, sampling, images.joinpath, SCENES_AT_ONCE)
        ]
        for sampling in samplings
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    building = file.with_name(f".{file.name}")
    building.write_text(json.dumps({"asked": asked, "texts": texts}), encoding="utf-8")
    os.replace(building, file)
    return texts


def _identity(source: str, text: str) -> str:
    return sha256(f"{source}\n{text}".encode()).hexdigest()[:32]


def _provenance(model, source: str, sampling: Sampling) -> Provenance:
    return Provenance(
        model=model.identity,
        sampling=sampling,
        row_layout=("baseline",),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        annotator="oracle",
        licence="CC0-1.0",
        consent=True,
        source=source,
    )


def keep_picture(picture: bytes, folder: Path) -> str:
    """The name under which the picture is kept in `folder`, by its content."""
    name = f"{sha256(picture).hexdigest()}.png"
    if not (folder / name).exists():
        (folder / name).write_bytes(picture)
    return name
