"""The stored model is a LLaVA like any other, sees well, and answers what it is asked."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from transformers import AutoProcessor, AutoTokenizer, LlavaForConditionalGeneration

from rlhfv.ddpo.config import RECIPES
from rlhfv.models.demo import WEIGHTS
from rlhfv.models.demo.build import ask, load
from rlhfv.models.demo.language import DETAILED_PROMPT, answer_how_many, answer_present
from rlhfv.models.demo.objects import CLASSES
from rlhfv.models.demo.scenes import draw_scene, render, scene_source
from rlhfv.models.demo.world import DemoWorld, summarise
from rlhfv.models.identity import folder_identity
from rlhfv.models.local import load_model

SCENES = [draw_scene("validation", seed) for seed in range(24)]


@pytest.fixture(scope="module")
def loaded():
    return load(WEIGHTS)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(WEIGHTS)


def test_it_loads_like_any_other_and_computes_in_float32(loaded):
    model, processor = loaded
    assert isinstance(model, LlavaForConditionalGeneration) and model.dtype == torch.float32
    assert type(processor) is type(AutoProcessor.from_pretrained(WEIGHTS))
    assert 2e6 < model.num_parameters() < 6e6
    shipped = [*WEIGHTS.iterdir(), *WEIGHTS.with_name("adapter").iterdir()]
    assert sum(path.stat().st_size for path in shipped) <= 16 * 2**20


def test_descriptions_name_what_is_there(loaded):
    answers = ask(*loaded, [render(scene) for scene in SCENES], DETAILED_PROMPT)
    rates = summarise(
        DemoWorld().measure((scene_source(one), said) for one, said in zip(SCENES, answers, strict=True))
    )
    assert rates["recall"] > 0.85
    assert rates["response_rate"] > 0.1
    assert 20 < rates["words"] < 70


def test_short_questions_are_mostly_answered_right(loaded):
    right = 0
    for scene in SCENES[:8]:
        name = next(iter(scene.counts()))
        picture = [render(scene)]
        article = "an" if name[0] in "aeiou" else "a"
        right += ask(*loaded, picture, f"Is there {article} {name} in the picture?") == [answer_present(scene, name)]
        plural = next(one.plural for one in CLASSES if one.name == name)
        right += ask(*loaded, picture, f"How many {plural} are there?") == [answer_how_many(scene, name)]
    assert right >= 11


def test_lists_and_places_are_mostly_right(loaded):
    """As the oracle reads them: nothing false in a list, and the place of what is asked for."""
    world, right = DemoWorld(), {"list": 0, "where": 0}
    for scene in SCENES[:8]:
        picture, source = [render(scene)], scene_source(scene)
        name = scene.objects[0].name
        for kind, question in (("list", "List the objects in the picture."), ("where", f"Where is the {name}?")):
            (answer,) = ask(*loaded, picture, question)
            claims = world.review(source, question, answer)
            right[kind] += bool(claims) and all(claim.is_true for claim in claims)
    assert right["list"] >= 5 and right["where"] >= 5


def test_a_second_turn_is_answered(loaded):
    model, processor = loaded
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": DETAILED_PROMPT}]},
        {"role": "assistant", "content": [{"type": "text", "text": "The picture shows a kitchen."}]},
        {"role": "user", "content": [{"type": "text", "text": "Thank you."}]},
    ]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    inputs = processor(images=[render(SCENES[0])], text=[prompt], return_tensors="pt")
    row = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
    assert processor.decode(row, skip_special_tokens=True) == "You are welcome!"
    assert row[-1] == model.generation_config.eos_token_id


def test_an_answer_is_the_same_alone_and_in_a_batch(loaded):
    pictures = [render(scene) for scene in SCENES[:4]]
    together = ask(*loaded, pictures, DETAILED_PROMPT)
    assert together == [ask(*loaded, [picture], DETAILED_PROMPT)[0] for picture in pictures]


def test_the_template_marks_the_answers(loaded):
    processor = loaded[1]
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "Hello!"},
    ]
    coded = processor.tokenizer.apply_chat_template(
        messages, chat_template=processor.chat_template, return_dict=True, return_assistant_tokens_mask=True
    )
    marked = [one for one, mark in zip(coded["input_ids"], coded["assistant_masks"], strict=True) if mark]
    assert processor.tokenizer.decode(marked) == "Hello!<|end|>"


def test_words_of_the_world_are_single_tokens(tokenizer):
    for one in CLASSES:
        for word in f"{one.name} {one.plural}".split():
            assert len(tokenizer.tokenize(f" {word}")) == 1, word


@given(some.text(some.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_survives_the_tokenizer(text):
    tokenizer = AutoTokenizerOnce.tokenizer()
    coded = tokenizer(text, return_offsets_mapping=True, split_special_tokens=True)
    assert tokenizer.decode(coded["input_ids"]) == text
    position = 0
    for start, end in coded["offset_mapping"]:
        assert start <= position <= end <= len(text) or start >= position
        position = max(position, end)
    assert position == len(text)


class AutoTokenizerOnce:
    """Hypothesis and fixtures do not mix; loading anew for each example would take seconds."""

    loaded = None

    @classmethod
    def tokenizer(cls):
        cls.loaded = cls.loaded or AutoTokenizer.from_pretrained(WEIGHTS)
        return cls.loaded


def test_the_log_beside_the_weights_tells_seed_and_figures():
    lines = [json.loads(line) for line in (WEIGHTS / "build_log.jsonl").read_text().splitlines()]
    figures = [line for line in lines if line["kind"] == "figures"][-1]
    assert figures["scenes"] == 500
    assert 0.35 <= figures["response_rate"] <= 0.60 and figures["recall"] >= 0.88
    assert any(line["kind"] == "start" and "seed" in line for line in lines)
    took = {line["kind"]: line["seconds"] for line in lines if not line["kind"].endswith("resumed")}
    assert sum(took[kind] for kind in ("pictures", "tower", "figures")) < 90 * 60, "pictures, tower, then all the rest"


def test_the_adapter_that_ships_is_of_this_base_and_of_1400_oracle_pairs():
    card = json.loads((WEIGHTS.with_name("adapter") / "rlhfv.json").read_text())
    assert card["base"] == {"name": "demo", "revision": folder_identity(WEIGHTS).revision}
    assert (card["pairs"]["count"], card["pairs"]["annotators"]) == (1400, {"oracle": 1400})
    assert card["training"]["recipe"] in RECIPES
    model = load_model("demo", [WEIGHTS.with_name("adapter")])
    try:
        (info,) = model.adapters().values()
        assert info.mixes and not info.changes_nothing
    finally:
        model.unload()
