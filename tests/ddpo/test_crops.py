"""Random crops of images: inside the picture, another one each time, the same again after a stop."""

import dataclasses
import random

import pytest
import torch
from PIL import Image

from rlhfv.corrections.conversation import Prompt
from rlhfv.ddpo import crops
from rlhfv.ddpo.train import run
from rlhfv.models.catalog import find_entry
from rlhfv.run_folder import RunFolder
from tests.ddpo.conftest import SHORT
from tests.ddpo.test_train import events, start, stop_after, weights

CROPPED = SHORT.changed(image_transform="random-crop", batch_size=5, eval_fraction=0.2)


@pytest.mark.parametrize(("width", "height"), [(112, 112), (640, 480), (480, 640), (40, 400), (1, 1)])
def test_a_crop_lies_in_the_image_and_shows_at_least_half_of_it(width, height):
    boxes = [crops.draw_box(width, height, random.Random(seed)) for seed in range(300)]
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert (right - left) * (bottom - top) >= 0.5 * width * height - max(width, height)
    if width > 40:
        assert len(set(boxes)) > 250
        assert min((right - left) * (bottom - top) for left, top, right, bottom in boxes) < 0.55 * width * height


def test_a_crop_is_the_part_in_its_box_at_the_image_s_own_size(monkeypatch):
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (20, 0, 40, 20))
    monkeypatch.setattr(crops, "draw_box", lambda *_: (20, 0, 40, 20))
    cut = crops.crop(image, random.Random(0))
    assert cut.size == (40, 20)
    assert cut.getcolors() == [(800, (0, 0, 255))]


@pytest.fixture
def seen(monkeypatch):
    """What was cropped: (moment, pair) → boxes, as the runs of a test drew them."""
    found = {}
    draw, inputs = crops.draw_box, crops.RandomCrops._inputs

    def note(self, pair):
        note.now = (self._moment, pair.id)
        return inputs(self, pair)

    def box(*arguments):
        found.setdefault(note.now, []).append(drawn := draw(*arguments))
        return drawn

    monkeypatch.setattr(crops.RandomCrops, "_inputs", note)
    monkeypatch.setattr(crops, "draw_box", box)
    return found


@pytest.mark.usefixtures("few_looks")
@pytest.mark.parametrize("family", ["llava", pytest.param("smolvlm", marks=pytest.mark.slow)])
def test_a_stopped_and_resumed_run_sees_the_crops_of_the_uninterrupted_one(
    bases, images, pairs, tmp_path, monkeypatch, seen, family
):
    """LLaVA takes features, and SmolVLM, whose images have several tiles, too; half of the run is done twice."""
    start(bases[family], images, pairs, tmp_path / "whole", CROPPED)
    whole = {key: set(boxes) for key, boxes in seen.items()}
    assert all(len(boxes) == 1 for boxes in whole.values())
    assert {moment for moment, _ in whole} == {"reference", "epoch 0", "epoch 1", "epoch 2"}
    held_out = {pair.id for pair in pairs} - {name for _, name in whole}
    assert len(held_out) == events(tmp_path / "whole", "state")[-1]["held_out"] > 0
    assert len({box for boxes in whole.values() for box in boxes}) > len(whole) / 2
    first = next(event["loss"] for event in events(tmp_path / "whole", "step") if "loss" in event)
    assert first != pytest.approx(0.6931, abs=1e-4)
    seen.clear()
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        start(bases[family], images, pairs, tmp_path / "broken", CROPPED)
    assert RunFolder(tmp_path / "broken").last_checkpoint()
    run(tmp_path / "broken", find_entry(str(bases[family])))
    assert {key: set(boxes) for key, boxes in seen.items()} == whole
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.usefixtures("few_looks")
def test_pairs_of_one_image_get_crops_of_their_own(bases, images, pairs, names, tmp_path, seen):
    some = [
        dataclasses.replace(pair, prompt=Prompt(f"question {n}", (names[n // 2],))) for n, pair in enumerate(pairs[:4])
    ]
    for way in ("auto", "off"):
        config = SHORT.changed(image_transform="random-crop", epochs=1, packed=way, learning_rate=1e-4)
        start(bases["llava"], images, some, tmp_path / way, config)
    texts = [event["text"] for event in events(tmp_path / "auto", "log")]
    assert any(text.startswith("Packed, one row a pair") for text in texts)
    assert "Pairs of one image do not share a row: each has a crop of its own." in texts
    assert len(seen) == 8
    both = [[event["loss"] for event in events(tmp_path / way, "step") if "loss" in event] for way in ("auto", "off")]
    assert both[0] == pytest.approx(both[1], abs=1e-5)
