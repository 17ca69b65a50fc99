"""Pools of pairs that a world's oracle makes: what it prefers, and what is not asked twice."""

import json
import random
from dataclasses import dataclass, field
from hashlib import sha256

import pytest

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.corrections.pairs import load_pairs
from rlhfv.evaluation import oracle_pairs as pools
from rlhfv.evaluation.oracle_pairs import merit, oracle_pairs, ranking_pairs
from rlhfv.models.demo.language import describe
from rlhfv.models.demo.scenes import scene_from_source
from rlhfv.models.demo.world import DemoWorld

WORLD = DemoWorld()


@dataclass
class Inventor:
    """Describes scenes with their habits, and differently for each sampling seed; counts what it was asked."""

    identity: ModelIdentity = field(default_factory=lambda: ModelIdentity("inventor", "r1"))
    asked: int = 0
    fail_after: int = 10**9

    def answer_many(self, prompts, voice, sampling, image_path, batch_size):
        answers = []
        for number, prompt in enumerate(prompts):
            self.asked += 1
            if self.asked > self.fail_after:
                raise KeyboardInterrupt
            [name] = prompt.images
            assert name == sha256(image_path(name).read_bytes()).hexdigest() + ".png"
            seed = sampling.seed + number if sampling.temperature else 0
            answers.append(describe(scene_from_source(self.sources[name]), random.Random(seed), habits=True))
        return answers

    sources: dict = field(default_factory=dict)


@pytest.fixture
def model(monkeypatch):
    told = Inventor()

    def draw(split, seed):
        assert split == "pairs"
        source = f"demo:{split}/{seed}"
        picture = source.encode()  # drawing takes longer than all of a test
        told.sources[f"{sha256(picture).hexdigest()}.png"] = source
        return picture, source

    monkeypatch.setattr(WORLD, "draw", draw, raising=False)
    monkeypatch.setattr(pools, "SCENES_AT_ONCE", 8)
    return told


def test_corrections_are_made_once_and_a_larger_pool_goes_on(model, tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "export_pairs", export_without_pictures)
    few = oracle_pairs(model, WORLD, 5, tmp_path)
    asked = model.asked
    assert len({pair.id for pair in few}) == len(few) == 5
    assert all(pair.outcome == "corrected" and pair.edits for pair in few)
    assert all(not WORLD.annotate(pair.provenance.source, pair.prompt.question, pair.chosen) for pair in few)
    assert oracle_pairs(model, WORLD, 5, tmp_path) == few
    assert oracle_pairs(model, WORLD, 3, tmp_path) == few[:3]
    assert model.asked == asked
    more = oracle_pairs(model, WORLD, 30, tmp_path)
    assert [pair.id for pair in more[:5]] == [pair.id for pair in few]
    assert model.asked % 16 == 0
    blocks = len(list((tmp_path / "answers").iterdir()))
    assert model.asked == 16 * blocks  # none of the first block was asked again


def test_a_pool_goes_on_where_it_was_killed(model, tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "export_pairs", export_without_pictures)
    model.fail_after = 40
    with pytest.raises(KeyboardInterrupt):
        oracle_pairs(model, WORLD, 40, tmp_path)
    kept = len(list((tmp_path / "answers").iterdir()))
    assert kept == 2
    model.fail_after, model.asked = 10**9, 0
    pairs = oracle_pairs(model, WORLD, 40, tmp_path)
    blocks = len(list((tmp_path / "answers").iterdir()))
    assert model.asked == 16 * (blocks - kept)
    other = Inventor(ModelIdentity("inventor", "r2"), sources=model.sources)
    again = oracle_pairs(other, WORLD, 40, tmp_path)  # another base makes its own
    assert other.asked == 16 * blocks
    assert [pair.id for pair in again] == [pair.id for pair in pairs]
    assert again[0].provenance.model.revision == "r2"


def test_the_better_of_two_answers_is_chosen_and_equal_ones_are_left_out(model, tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "export_pairs", export_without_pictures)
    pairs = ranking_pairs(model, WORLD, 12, tmp_path)
    assert len({pair.id for pair in pairs}) == 12
    for pair in pairs:
        source, question = pair.provenance.source, pair.prompt.question
        assert (pair.outcome, pair.edits) == ("preferred", ())
        assert merit(WORLD, source, question, pair.chosen) > merit(WORLD, source, question, pair.rejected)
        assert pair.provenance.chosen_model == model.identity
    assert model.asked > 2 * len(pairs)
    assert all(pair.provenance.sampling.temperature == 0.8 for pair in pairs)


def test_fewer_false_claims_come_before_more_of_what_is_there():
    source = "demo:pairs/3"
    scene = scene_from_source(source)
    question = WORLD.description_question
    names = list(scene.counts())
    absent = next(name for name in ("fork", "toilet") if name not in scene.counts())
    truth = describe(scene, random.Random(0), habits=False)
    assert merit(WORLD, source, question, truth) > merit(WORLD, source, question, "")
    assert merit(WORLD, source, question, "")[0] == 0
    assert merit(WORLD, source, question, truth)[1] == len(names)
    lie = f"{truth} There is a {absent} on the left."
    assert merit(WORLD, source, question, "") > merit(WORLD, source, question, lie)


def export_without_pictures(pairs, folder, image_path):
    """What `load_pairs` reads of an export."""
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair.to_row()) + "\n" for pair in pairs))
    assert load_pairs(folder)
