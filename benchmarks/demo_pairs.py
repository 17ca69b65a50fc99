"""What the benchmarks of training share: oracle pairs of the demo base's own answers, and its figures on validation
scenes. Everything follows from the base's weights and the numbers given here."""

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.corrections.edits import CorrectedAnswer, normalise_generated
from rlhfv.corrections.exchange import export_pairs
from rlhfv.corrections.pairs import PreferencePair, Provenance, load_pairs
from rlhfv.models.demo.world import DemoWorld, summarise
from rlhfv.models.local import LocalModel

GREEDY = Sampling(max_new_tokens=160)
SAMPLED = Sampling(temperature=0.8, top_p=0.95, max_new_tokens=160)
SCENES_AT_ONCE = 64


def oracle_pairs(model: LocalModel, world: DemoWorld, count: int, folder: Path) -> list[PreferencePair]:
    """The first `count` pairs from the split "pairs": each scene answered greedily and once sampled, both corrected by
    the oracle. They are kept in `folder` and made again only for another base or a larger count."""
    if (folder / "pairs.jsonl").is_file():
        kept = load_pairs(folder)
        if len(kept) >= count and kept[0].provenance.model == model.identity:
            return kept[:count]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    pairs = []
    for pair in _make_pairs(model, world, folder / "images"):
        pairs.append(pair)
        if len(pairs) == count:
            break
    export_pairs(pairs, folder, (folder / "images").joinpath)
    return pairs


def _make_pairs(model: LocalModel, world: DemoWorld, images: Path) -> Iterator[PreferencePair]:
    first, question = 0, world.description_question
    while True:
        seeds = range(first, first + SCENES_AT_ONCE)
        drawn = [world.draw("pairs", seed) for seed in seeds]
        names = [keep_picture(picture, images) for picture, _ in drawn]
        prompts = [Prompt(question, (name,)) for name in names]
        answers = []
        for sampling in (GREEDY, Sampling(**{**vars(SAMPLED), "seed": first})):
            texts = model.answer_many(prompts, None, sampling, images.joinpath, SCENES_AT_ONCE)
            answers.append([(normalise_generated(text), sampling) for text in texts])
        for (_, source), prompt, said in zip(drawn, prompts, zip(*answers, strict=True), strict=True):
            for text, sampling in dict(reversed(said)).items():
                edits = world.annotate(source, question, text)
                if edits:
                    yield _to_pair(model, source, prompt, text, sampling, edits)
        first += SCENES_AT_ONCE


def _to_pair(model, source, prompt, text, sampling, edits) -> PreferencePair:
    corrected = CorrectedAnswer(text, tuple(edits))
    provenance = Provenance(
        model=model.identity,
        sampling=sampling,
        row_layout=("baseline",),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        annotator="oracle",
        licence="CC0-1.0",
        consent=True,
        source=source,
    )
    identity = sha256(f"{source}\n{text}".encode()).hexdigest()[:32]
    return PreferencePair(identity, prompt, corrected.corrected, text, corrected.edits, "corrected", provenance)


def keep_picture(picture: bytes, folder: Path) -> str:
    name = f"{sha256(picture).hexdigest()}.png"
    if not (folder / name).exists():
        (folder / name).write_bytes(picture)
    return name


def validation_figures(model: LocalModel, world: DemoWorld, voice: str | None, scenes: int, folder: Path) -> dict:
    """Rates of greedy descriptions of the first validation scenes, which no shipped figure is measured on."""
    images = folder / "validation"
    images.mkdir(parents=True, exist_ok=True)
    drawn = [world.draw("validation", seed) for seed in range(scenes)]
    prompts = [Prompt(world.description_question, (keep_picture(picture, images),)) for picture, _ in drawn]
    texts = model.answer_many(prompts, voice, GREEDY, images.joinpath, SCENES_AT_ONCE)
    return summarise(world.measure(zip((source for _, source in drawn), texts, strict=True)))
