"""Beams and the repetition penalty: each row gets beside others what it would get alone, as transformers gives it."""

import json
import shutil
import threading

import pytest
import torch

from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.errors import GenerationFailed, InvalidData
from rlhfv.models.decoding import DECODINGS, Search, find_decoding
from rlhfv.models.local import Row, load_model
from rlhfv.models.prompts import encode_prompt
from tests.models.conftest import generate, hook_count, one_turn, two_turns
from tests.models.families import ARCHITECTURES
from tests.models.tiny import add_random_adapter

SHORT = Sampling(max_new_tokens=8)
RLHFV = DECODINGS["rlhfv"].search
QUESTIONS = ("what is on the table?", "describe this image in detail", "where?")


def prompts_of(pictures) -> list[Prompt]:
    """Different lengths and pictures, so that the batch is padded."""
    return [one_turn(pictures[number % 2], question=question) for number, question in enumerate(QUESTIONS)]


def with_ends(folder, model, prompts, target, search):
    """A copy of the folder whose answers end early: at a token in the middle of one that is free to go on."""
    text = model.answer_many(prompts[:1], None, SHORT, search=search)[0]
    tokens = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    shutil.copytree(folder, target)
    settings = target / "generation_config.json"
    kept = json.loads(settings.read_text())
    kept["eos_token_id"] = [model.tokenizer.eos_token_id, tokens[len(tokens) // 2]]
    settings.write_text(json.dumps(kept))
    return target


def compare_batched_with_alone(model, voice, prompts, search):
    together = model.answer_many(prompts, voice, SHORT, search=search)
    assert together == [model.answer_many([prompt], voice, SHORT, search=search)[0] for prompt in prompts]
    assert len(set(together)) > 1
    return together


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_rows_together_get_what_each_gets_alone(loaded, pictures, family):
    model, adapter = loaded[family]
    voices = [compare_batched_with_alone(model, voice, prompts_of(pictures), RLHFV) for voice in (None, adapter)]
    assert voices[0] != voices[1]
    assert hook_count(model) == 0


def test_rows_that_end_at_different_places_do_too(folders, loaded, pictures, tmp_path):
    prompts = prompts_of(pictures)
    folder = with_ends(folders["llava"], loaded["llava"][0], prompts, tmp_path / "ends", RLHFV)
    model = load_model(str(folder))
    answers = compare_batched_with_alone(model, None, prompts, RLHFV)
    assert min(map(len, answers)) < min(map(len, loaded["llava"][0].answer_many(prompts, None, SHORT, search=RLHFV)))
    model.unload()


def test_it_is_what_transformers_gives(folders, pictures):
    model, prompt = load_model(str(folders["llava"])), prompts_of(pictures)[0]
    inputs = encode_prompt(model.processor, prompt, pictures[0].parent.joinpath)
    settings = {"num_beams": 3, "repetition_penalty": 1.1, "max_new_tokens": 8, "do_sample": False}
    expected = model.model.generate(**inputs, **settings)[0, inputs["input_ids"].shape[1] :]
    expected = model.tokenizer.decode(expected, skip_special_tokens=True)
    assert model.answer_many([prompt], None, SHORT, search=RLHFV) == [expected]
    assert model.answer_many([prompt], None, SHORT) != [expected]
    model.unload()


@pytest.mark.parametrize("whose", ["the search's", pytest.param("the makers'", marks=pytest.mark.slow)])
def test_padding_is_not_penalised(folders, pictures, tmp_path, whose):
    """Padding is often the end token: pressed down only because other rows are longer, answers would go on."""
    folder, search = folders["llava"], Search(repetition_penalty=5.0)
    if whose == "the makers'":
        folder, search = shutil.copytree(folder, tmp_path / "llava"), None
        settings = folder / "generation_config.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"repetition_penalty": 5.0}))
    model, prompts = load_model(str(folder)), prompts_of(pictures)
    alone = [generate(model, [Row(None, prompt)], SHORT)[0].tokens for prompt in prompts]
    for first in {tokens[0] for tokens in alone}:  # what a row would say first of all is its padding
        model._engine._pad = first
        compare_batched_with_alone(model, None, prompts, search)
    model.unload()


def test_a_plain_search_is_greedy(llava, pictures):
    model, _ = llava
    prompts = prompts_of(pictures)
    assert model.answer_many(prompts, None, SHORT, search=Search()) == model.answer_many(prompts, None, SHORT)


@pytest.mark.slow
def test_what_the_makers_set_is_left_out(folders, pictures, tmp_path):
    folder = shutil.copytree(folders["llava"], tmp_path / "llava")
    settings = folder / "generation_config.json"
    theirs = {"repetition_penalty": 0.2, "length_penalty": 9.0, "early_stopping": True}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | theirs))
    model, plain = load_model(str(folder)), load_model(str(folders["llava"]))
    prompts = prompts_of(pictures)
    for search in (Search(), RLHFV):
        assert model.answer_many(prompts, None, SHORT, search=search) == plain.answer_many(
            prompts, None, SHORT, search=search
        )
    assert model.answer_many(prompts, None, SHORT) != plain.answer_many(prompts, None, SHORT)
    model.unload()
    plain.unload()


def test_beams_end_at_once_when_they_are_stopped(llava, pictures):
    model, _ = llava
    stop, steps = threading.Event(), []

    def stop_soon(*_):
        steps.append(1)
        if len(steps) == 4:
            stop.set()

    handle = model.model.get_decoder().layers[-1].register_forward_hook(stop_soon)
    assert model.answer_many(prompts_of(pictures), None, Sampling(max_new_tokens=500), stop=stop, search=RLHFV) == []
    handle.remove()
    assert len(steps) == 4
    assert hook_count(model) == 0


def several_pictures(pictures) -> list[Prompt]:
    """Two pictures, one, the same two the other way round, and two in two turns."""
    return [one_turn(*pictures), one_turn(pictures[1]), one_turn(*pictures[::-1]), two_turns(*pictures)]


def compare_beams_with_greedy(model, prompts):
    """At their first token all beams of a row have seen what the row sees alone: the same pictures, in their order."""
    seen = []
    hook = model.model.get_output_embeddings().register_forward_hook(
        lambda *told: seen.append(told[-1][:, -1].clone())
    )
    model.answer_many(prompts, None, Sampling(max_new_tokens=2), search=RLHFV)
    beams = seen[0].unflatten(0, (len(prompts), RLHFV.beams))
    alone = []
    for prompt in prompts:
        seen.clear()
        model.answer_many([prompt], None, Sampling(max_new_tokens=2))
        alone.append(seen[0])
    hook.remove()
    assert torch.allclose(beams, torch.stack(alone).expand_as(beams), atol=1e-5)
    assert not torch.allclose(alone[0], alone[2], atol=1e-5), "the order of the pictures matters"


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_each_beam_sees_all_pictures_of_its_row(loaded, pictures, family):
    model, adapter = loaded[family]
    compare_beams_with_greedy(model, several_pictures(pictures))
    compare_batched_with_alone(model, adapter, several_pictures(pictures), RLHFV)


def test_several_pictures_that_cannot_be_encoded_beforehand_are_refused(llava, pictures, monkeypatch):
    model, _ = llava
    monkeypatch.setattr(model._engine, "_features", lambda *_: None)
    with pytest.raises(GenerationFailed, match="several pictures"):
        model.answer_many([one_turn(*pictures)], None, SHORT, search=RLHFV)


def test_decodings_go_by_their_names():
    assert find_decoding("rlhfv").values() == {
        "beams": 3,
        "repetition_penalty": 1.1,
        "length_penalty": 1.0,
        "max_new_tokens": 1024,
    }
    assert find_decoding("greedy").values()["beams"] == 1
    with pytest.raises(InvalidData, match="greedy or rlhfv"):
        find_decoding("beam")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_every_family_answers_in_beams(architectures, pictures, tmp_path, family, dtype):
    model = load_model(
        str(architectures[family]), [add_random_adapter(architectures[family], tmp_path / "adapter", seed=1)]
    )
    model.model.to(dtype)
    model._engine.dtype = dtype
    for voice in (None, *model.adapters()):
        compare_batched_with_alone(model, voice, prompts_of(pictures), RLHFV)
    model.unload()


@pytest.mark.slow
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_each_beam_sees_all_pictures_of_its_row_in_every_family(architectures, pictures, family):
    model = load_model(str(architectures[family]))
    if not model.takes_several_images:
        pytest.skip("it takes one picture")
    model.model.to(torch.float64)
    model._engine.dtype = torch.float64
    compare_beams_with_greedy(model, several_pictures(pictures))
    model.unload()
