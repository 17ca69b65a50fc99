"""What the benchmarks of training measure by: a voice's figures on validation scenes of the demo world."""

from pathlib import Path

from rlhfv.corrections.conversation import Prompt
from rlhfv.evaluation.oracle_pairs import GREEDY, SCENES_AT_ONCE, keep_picture
from rlhfv.models.demo.world import DemoWorld, summarise
from rlhfv.models.local import LocalModel


def validation_figures(model: LocalModel, world: DemoWorld, voice: str | None, scenes: int, folder: Path) -> dict:
    """Rates of greedy descriptions of the first validation scenes, which no shipped figure is measured on."""
    images = folder / "validation"
    images.mkdir(parents=True, exist_ok=True)
    drawn = [world.draw("validation", seed) for seed in range(scenes)]
    prompts = [Prompt(world.description_question, (keep_picture(picture, images),)) for picture, _ in drawn]
    texts = model.answer_many(prompts, voice, GREEDY, images.joinpath, SCENES_AT_ONCE)
    return summarise(world.measure(zip((source for _, source in drawn), texts, strict=True)))
