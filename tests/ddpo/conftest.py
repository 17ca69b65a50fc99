"""Tiny bases, pictures and pairs that the tests of training share."""

import hashlib
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from rlhfv.corrections.conversation import Prompt, Turn
from rlhfv.corrections.edits import CorrectedAnswer, Edit
from rlhfv.corrections.pairs import PreferencePair, Provenance
from rlhfv.ddpo.config import TrainingConfig
from tests.models.tiny import BUILDERS

torch.set_num_threads(1)

ANSWER = "There is a cat and a knife on the table 😀 with a red cup."
SHORT = TrainingConfig(batch_size=4, epochs=3, eval_fraction=0.0, learning_rate=1e-3, lora_rank=4, lora_alpha=8)
"""A run of nine steps on twelve pairs."""


@pytest.fixture(scope="session")
def bases(tmp_path_factory) -> dict[str, Path]:
    """Family → folder of a tiny random model."""
    root = tmp_path_factory.mktemp("bases")
    return {family: build(root / family) for family, build in BUILDERS.items()}


@pytest.fixture(scope="module")
def few_looks():
    """Every step is an event, and few looks are taken at the probes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlhfv.ddpo.trainer.EVENTS_A_SECOND", math.inf)
        patch.setattr("rlhfv.ddpo.attempt.LOOKS", 2)
        patch.setattr("rlhfv.ddpo.watch.PROBES", 2)
        yield


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """A folder of twelve content-addressed pictures of three sizes."""
    folder, colours = tmp_path_factory.mktemp("images"), random.Random(0)
    for number in range(12):
        picture = Image.radial_gradient("L").resize((40 + number % 3 * 16, 40)).convert("RGB")
        picture.paste(tuple(colours.randrange(256) for _ in range(3)), (5, 5, 20, 20))
        picture.save(folder / "new.png")
        name = hashlib.sha256((folder / "new.png").read_bytes()).hexdigest()
        (folder / "new.png").rename(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="session")
def names(images) -> list[str]:
    return sorted(path.name for path in images.iterdir())


def make_pair(identity: str, image: str, edits=None, answer: str = ANSWER, history: tuple[Turn, ...] = (), **fields):
    """A pair whose chosen answer is `answer` with `edits` ((old words, new words), …) applied."""
    edits = [("knife", "fork")] if edits is None else edits
    made = tuple(Edit(answer.index(old), answer.index(old) + len(old), new, "object") for old, new in edits)
    corrected = CorrectedAnswer(answer, made)
    values = {
        "chosen": corrected.corrected,
        "rejected": answer,
        "edits": corrected.edits,
        "outcome": "corrected",
        "provenance": Provenance(annotator="someone"),
    }
    return PreferencePair(identity, Prompt("describe this image in detail", (image,), history), **{**values, **fields})


@pytest.fixture(scope="session")
def pairs(names) -> list[PreferencePair]:
    """Twelve pairs on twelve pictures: replacements, deletions, an insertion before a word, some with a history."""
    edits = [[("knife", "fork")], [(" and a knife", "")], [("red", "red and blue"), ("cat", "dog")]]
    turns = [(), (), (), (Turn("what is there?", "a dog"),)]
    return [make_pair(f"p{n}", name, edits[n % 3], history=turns[n % 4]) for n, name in enumerate(names)]


@pytest.fixture(scope="session")
def find_image(images) -> Callable[[str], Path]:
    return lambda name: images / name
