"""What voices and the baseline say about the first test scenes of a world whose truth is known."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.errors import InvalidData
from rlhfv.models.catalog import Entry, World

if TYPE_CHECKING:
    from rlhfv.models.local import LocalModel

SPLIT = "test"
MAX_SCENES = 500
BATCH = 25
BASELINE = ""
SAMPLING = Sampling(temperature=0.0, max_new_tokens=256)


@dataclass(frozen=True)
class EvaluatedVoice:
    """`id` is "" for the baseline, else the identity of an adapter that is attached to the model."""

    id: str
    title: str


@dataclass(frozen=True)
class SceneAnswer:
    """What one voice said about one scene; `scene` is its source, such as "demo:test/17"."""

    scene: str
    voice: str
    answer: str


def require_world(entry: Entry) -> World:
    """The world of a model, or InvalidData where pictures have no known truth."""
    if entry.world is None:
        raise InvalidData(
            f"{entry.title!r} cannot be evaluated here.",
            "This model has no world with a known truth, so nothing says which of its words are wrong.",
            "Evaluate an adapter of the demo model, or judge answers by hand in the chat.",
        )
    return entry.world


def check_scenes(scenes: int) -> int:
    """`scenes` if there are so many test scenes, else InvalidData."""
    if not isinstance(scenes, int) or isinstance(scenes, bool) or not 1 <= scenes <= MAX_SCENES:
        raise InvalidData(
            f"{scenes!r} scenes were asked for.",
            f"Figures are made on the first 1 to {MAX_SCENES} test scenes.",
            "Ask for a number in between.",
        )
    return scenes


def answer_scenes(
    model: "LocalModel",
    voices: Sequence[EvaluatedVoice],
    world: World,
    scenes: int,
    answers_file: Path,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, int]]:
    """Ask every voice the world's first question about each of the first `scenes` test scenes, greedily, in batches.

    Answers are appended to `answers_file` as they come; those it holds already are not asked for again. Yields
    (answers there, answers wanted), first before any work. Ends early, between two batches, when `stopped` says so.
    """
    question = world.questions[0]
    known = {(answer.scene, answer.voice) for answer in read_answers(answers_file)}
    wanted = check_scenes(scenes) * len(voices)
    done = 0
    yield len(known), wanted
    with tempfile.TemporaryDirectory(prefix="rlhfv-scenes-") as folder:
        for first in range(0, scenes, BATCH):
            drawn = [world.draw(SPLIT, seed) for seed in range(first, min(first + BATCH, scenes))]
            names = {source: _write_picture(Path(folder), picture) for picture, source in drawn}
            for voice in voices:
                asked = [source for source in names if (source, voice.id) not in known]
                if asked and stopped():
                    return
                done += len(names)
                if not asked:
                    continue
                prompts = [Prompt(question, (names[source],)) for source in asked]
                texts = model.answer_many(
                    prompts, voice.id or None, SAMPLING, Path(folder).joinpath, batch_size=len(prompts)
                )
                _append(
                    answers_file,
                    [SceneAnswer(scene, voice.id, text) for scene, text in zip(asked, texts, strict=True)],
                )
                yield done, wanted
            for name in names.values():
                (Path(folder) / name).unlink(missing_ok=True)


def read_answers(answers_file: Path) -> list[SceneAnswer]:
    """The answers so far; a line torn by a kill is passed over and asked again."""
    try:
        lines = answers_file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    answers = []
    for line in lines:
        try:
            row = json.loads(line)
            answers.append(SceneAnswer(row["scene"], row["voice"], row["answer"]))
        except (ValueError, KeyError, TypeError):
            continue
    return answers


def _append(answers_file: Path, answers: list[SceneAnswer]) -> None:
    text = "\n" + "\n".join(json.dumps(vars(answer)) for answer in answers) + "\n"
    with open(answers_file, "ab") as file:  # the leading newline closes a line that a kill may have torn
        file.write(text.encode())


def _write_picture(folder: Path, picture: bytes) -> str:
    name = f"{sha256(picture).hexdigest()}.png"
    (folder / name).write_bytes(picture)
    return name
