"""The world that the catalogue hands on."""

import io
import subprocess
import sys

from PIL import Image

from rlhfv.models.demo.world import DemoWorld, measure_description, summarise

WORLD = DemoWorld()


def test_a_scene_is_drawn_with_its_source_and_truth():
    picture, source = WORLD.draw("pairs", 3)
    assert Image.open(io.BytesIO(picture)).size == (336, 336)
    assert source == "demo:pairs/3" and WORLD.truth(source).seed == 3
    assert WORLD.picture(source) == picture


def test_examples_are_not_among_the_figures():
    assert len(WORLD.example_sources()) == 6
    assert all(WORLD.truth(source).split == "validation" for source in WORLD.example_sources())


def test_measurements_count_what_was_said():
    source = next(
        source
        for source in (f"demo:test/{seed}" for seed in range(500))
        if "fork" in WORLD.truth(source).counts() and "knife" not in WORLD.truth(source).counts()
    )
    there = len(WORLD.truth(source).counts())
    (measured,) = WORLD.measure([(source, "There is a fork and a knife.")])
    assert (measured.mentioned, measured.invented, measured.invented_names) == (2, 1, ("knife",))
    assert (measured.there, measured.recalled, measured.words) == (there, 1, 7)
    rates = summarise([measured, measure_description(WORLD.truth(source), "There is a fork.")])
    assert rates["response_rate"] == 0.5 and rates["mention_rate"] == round(1 / 3, 4)
    assert rates["recall"] == round(1 / there, 4)


def test_the_world_needs_no_torch():
    code = "import rlhfv.models.demo.world, sys; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
