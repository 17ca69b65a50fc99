"""A batch of a benchmark's questions put to a voice, and what a voice that is asked so is stamped with."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlhfv.corrections.conversation import ModelIdentity, Prompt
from rlhfv.corrections.edits import normalise_generated
from rlhfv.errors import GenerationFailed, InvalidData, InvalidImage, StudioError
from rlhfv.evaluation.benchmarks import Benchmark
from rlhfv.evaluation.score import Item
from rlhfv.evaluation.stamp import Stamp, describe_pictures, describe_weights
from rlhfv.models.decoding import Decoding
from rlhfv.models.generated import NOTHING, Generated
from rlhfv.services.model_host import Voice

MOST_PIXELS = 32 * 10**6
"""Of all pictures of a batch, which are open at once."""
NAMED = 5
_OF_THE_ITEM = (GenerationFailed, InvalidImage, InvalidData)
"""What may go wrong with one item and not with the next."""


@dataclass(frozen=True)
class Failure:
    """An item without an answer, and why; it is asked again the next time."""

    item: str
    error: StudioError


def refuse_search(voice: Voice, how: Decoding) -> None:
    """Raises `InvalidData` where a voice is on a server, which can only be asked for greedy answers."""
    if how.search.beams > 1 or how.search.repetition_penalty != 1:
        raise InvalidData(
            f"'{voice.title}' cannot be decoded as {how.name!r}.",
            f"It answers on {voice.server}, and OpenAI's protocol, which it speaks, has no beams.",
            "Choose greedy, or a voice whose weights are on this machine.",
        )


def stamp_of(what: Benchmark, questions: str, how: Decoding, voice: Voice, model) -> Stamp:
    """How a voice of `model` answers a benchmark whose question files have the sha256 `questions`."""
    known = {"benchmark": what.name, "questions": questions, "decoding": how.name, "values": how.values()}
    if voice.server:
        return Stamp(
            **known,
            transform=f"by the server {voice.server}, from the file as it is",
            architecture=f"on {voice.server}",
            model=ModelIdentity(model.voice.model, voice.server),
        )
    return Stamp(
        **known,
        transform=describe_pictures(model.processor),
        architecture=type(model.model).__name__,
        weights=describe_weights(model),
        model=replace(model.identity, adapter=voice.adapter),
    )


def find_missing(what: Benchmark, items: Sequence[Item], root: Path) -> dict[str, InvalidData]:
    """Items whose picture is not in the folder, each with the error that says so; raises where none is."""
    there = {image: (root / image).is_file() for image in {item.image for item in items if item.image}}
    gone = [item for item in items if item.image and not there[item.image]]
    if not gone:
        return {}
    names = list(dict.fromkeys(item.image for item in gone))
    source = next((file.source for file in what.wanted if file.path.endswith("/")), "where the benchmark says")
    fix = f"They come from {source}. Fetch them to those paths, or name another folder with --benchmarks."
    if not any(there.values()):
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        of = f"picture{'' if len(names) == 1 else 's'} of {what.title} is"
        none = f"The only {of} not" if len(names) == 1 else f"None of the {len(names):,} {of}"
        raise InvalidData(
            f"{none} in {root}: {', '.join(names[:NAMED])}{more}.",
            "Its questions are about them.",
            fix,
        )
    return {
        item.id: InvalidData(f"The picture {item.image} is not in {root}.", "The question is about it.", fix)
        for item in gone
    }


def in_batches(items: Sequence[Item], size: int, root: Path) -> Iterator[list[Item]]:
    """So many items, or fewer where their pictures are large. A picture's size is read when its turn comes."""
    from rlhfv.models.prompts import measure_image

    batch, pixels = [], 0
    for item in items:
        try:
            width, height = measure_image(root / item.image) if item.image else (0, 0)
        except InvalidImage:
            width, height = 0, 0  # it fails by itself when it is asked about
        if batch and (len(batch) == size or pixels + width * height > MOST_PIXELS):
            yield batch
            batch, pixels = [], 0
        batch.append(item)
        pixels += width * height
    if batch:
        yield batch


def ask(
    model, batch: Sequence[Item], voice: Voice, how: Decoding, root: Path, stop: threading.Event | None
) -> tuple[list[dict], list[Failure]]:
    """Rows of the answers to a batch, and what failed. Where a batch fails here, each item is asked alone, to know
    which one it is; a server is asked for each by itself in any case, and what it had answered before `stop` is kept:
    it is paid for."""
    prompts = [Prompt(item.question, (item.image,) if item.image else ()) for item in batch]
    if voice.server:
        outcomes = model.answer_each(prompts, how.sampling, root.joinpath, stop)
        if stop is not None and stop.is_set():
            ended = [(item, one) for item, one in zip(batch, outcomes, strict=True) if _has_ended(one)]
            return [_row(item, one.text, _of_server(one)) for item, one in ended], []
        failures = [one for one in outcomes if isinstance(one, StudioError)]
        if len(failures) == len(outcomes) > 1:
            raise failures[0]  # not one of them: it is the server
        texts = [one if isinstance(one, StudioError) else one.text for one in outcomes]
        more = [{} if isinstance(one, StudioError) else _of_server(one) for one in outcomes]
    else:
        texts, more = _ask_here(model, prompts, voice, how, root, stop), [{}] * len(batch)
    rows, failures = [], []
    for item, text, told in zip(batch, texts, more, strict=False):
        if isinstance(text, StudioError):
            failures.append(Failure(item.id, text))
        else:
            rows.append(_row(item, text, told))
    return rows, failures


def _row(item: Item, text: str, told: dict) -> dict:
    return {"id": item.id, "answer": normalise_generated(text), **told}


def _has_ended(outcome: Generated | StudioError) -> bool:
    return not isinstance(outcome, StudioError) and outcome is not NOTHING


def _ask_here(model, prompts: list[Prompt], voice: Voice, how: Decoding, root: Path, stop) -> list[str | StudioError]:
    def answer(part: list[Prompt]) -> list[str]:
        return model.answer_many(
            part, voice.adapter, how.sampling, root.joinpath, len(part), stop=stop, search=how.search
        )

    try:
        return answer(prompts)
    except _OF_THE_ITEM as error:
        if len(prompts) == 1:
            return [error]
    outcomes: list[str | StudioError] = []
    for prompt in prompts:
        try:
            outcomes += answer([prompt])
        except _OF_THE_ITEM as error:
            outcomes.append(error)
        if stop is not None and stop.is_set():
            return outcomes
    return outcomes


def _of_server(said) -> dict:
    """What is kept of an answer from a server: the name it gives its model, and settings that it does not take."""
    told = {"served": said.model.name} if said.model else {}
    return told | ({"left_out": said.extra["left_out"]} if said.extra.get("left_out") else {})
