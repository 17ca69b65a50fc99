"""Tiny model folders, built once a session, and what the tests of generation share."""

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from rlhfv.corrections.conversation import Prompt, Sampling, Turn
from rlhfv.models.local import Generated, LocalModel, Row, load_model
from tests.models.families import ARCHITECTURES
from tests.models.tiny import BUILDERS, add_random_adapter

torch.set_num_threads(1)
gc.freeze()  # `unload` collects garbage; walking all of transformers each time would take most of the tests' time
FAMILIES = tuple(BUILDERS)
GREEDY = Sampling(max_new_tokens=24)
SAMPLED = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=24, seed=7)


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Family → model folder; family + "-adapter" → folder of a LoRA adapter with random weights."""
    root = tmp_path_factory.mktemp("models")
    made = {}
    for family, build in BUILDERS.items():
        made[family] = build(root / family)
        made[f"{family}-adapter"] = add_random_adapter(made[family], root / f"{family}-adapter", seed=1)
    return made


@pytest.fixture(scope="session")
def architectures(tmp_path_factory) -> dict[str, Path]:
    """Family, by the name people know it by → model folder: all of them."""
    root = tmp_path_factory.mktemp("architectures")
    return {name: build(root / name.replace(" ", "-").lower()) for name, build in ARCHITECTURES.items()}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> tuple[Path, Path]:
    """Two pictures of different sizes."""
    root = tmp_path_factory.mktemp("pictures")
    paths = []
    for number, (size, colour) in enumerate([((90, 70), "red"), ((64, 120), "blue")]):
        picture = Image.radial_gradient("L").resize(size).convert("RGB")
        ImageDraw.Draw(picture).rectangle((10, 10, 40, 30), fill=colour)
        path = root / f"{number}.png"
        picture.save(path)
        paths.append(path)
    return tuple(paths)


@pytest.fixture(scope="session")
def loaded(folders) -> Iterator[dict[str, tuple[LocalModel, str]]]:
    """Family → model with one adapter attached, and the adapter's identity."""
    models = {}
    for family in FAMILIES:
        model = load_model(str(folders[family]), [folders[f"{family}-adapter"]])
        models[family] = (model, next(iter(model.adapters())))
    yield models
    for model, _ in models.values():
        model.unload()


@pytest.fixture
def llava(loaded) -> tuple[LocalModel, str]:
    return loaded["llava"]


def finish(answers: Iterator[tuple[str, ...]]) -> tuple[tuple[Generated, ...], list[tuple[str, ...]]]:
    """What the stream returned, and all that it yielded."""
    streamed = []
    while True:
        try:
            streamed.append(next(answers))
        except StopIteration as end:
            return end.value, streamed


def generate(model: LocalModel, rows: list[Row], sampling: Sampling = GREEDY, stop: threading.Event | None = None):
    return finish(model.answer_both(rows, sampling, stop=stop))[0]


def one_turn(*images: Path, question: str = "what is on the table?") -> Prompt:
    return Prompt(question, tuple(map(str, images)))


def two_turns(*images: Path, answer: str = "a cat", question: str = "where is it?") -> Prompt:
    return Prompt(question, (), (Turn("describe this image in detail", answer, tuple(map(str, images))),))


def hook_count(model: LocalModel) -> int:
    return sum(len(module._forward_pre_hooks) for module in model.model.modules())
