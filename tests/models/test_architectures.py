"""Every family, from the loader to an adapter: it loads, both voices answer, one DDPO step is learnt and read back."""

import dataclasses
import hashlib
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from rlhfv.corrections.conversation import Prompt, Sampling, Turn
from rlhfv.ddpo.base import load_base
from rlhfv.ddpo.batches import PairEncoder
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.ddpo.crosscheck import _score_alone
from rlhfv.ddpo.train import train
from rlhfv.ddpo.vision import ImageInputs
from rlhfv.errors import GenerationFailed, RunFailed
from rlhfv.models.catalog import find_entry
from rlhfv.models.local import Reader, Row, load_model
from rlhfv.models.processors import copy_processor, load_processor
from rlhfv.models.prompts import control_tokens, encode_answer, encode_prompt, render_prompt
from rlhfv.run_folder import RunFolder
from tests.ddpo.conftest import make_pair
from tests.models.conftest import finish
from tests.models.families import ARCHITECTURES, build_instructblip
from tests.models.tiny import add_random_adapter

APART = {"InstructBLIP": "encodes an image together with the question"}
"""Families that answer two rows in two runs, and what they say of it."""
NOT_PACKED = {"Qwen3.5": "layers of the kind linear_attention", "InstructBLIP": "no decoder"}
"""Families that train on two rows a pair, and why."""
NO_CACHE = ("InstructBLIP",)
LEFT_OUT = {"PaliGemma": {"none"}, "InstructBLIP": {"none", "two", "later"}}
"""Conversations that a family does not take; pairs about them are left out of a run with that reason."""
ONE_STEP = TrainingConfig(
    batch_size=3, steps=1, warmup_ratio=0.0, eval_fraction=0.0, learning_rate=1e-3, lora_rank=4, lora_alpha=8
)
GREEDY = Sampling(max_new_tokens=12)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Three pictures of different shapes."""
    folder = tmp_path_factory.mktemp("images")
    for size in [(90, 70), (64, 120), (64, 64)]:
        Image.radial_gradient("L").resize(size).convert("RGB").save(folder / "new.png")
        name = hashlib.sha256((folder / "new.png").read_bytes()).hexdigest()
        (folder / "new.png").rename(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def names(images) -> list[str]:
    return sorted(path.name for path in images.iterdir())


@pytest.fixture(scope="module")
def find_image(images):
    return lambda name: images / name


@pytest.fixture(autouse=True)
def few_probes(monkeypatch):
    monkeypatch.setattr("rlhfv.ddpo.watch.PROBES", 1)


@pytest.fixture
def model(architectures, family, tmp_path):
    model = load_model(
        str(architectures[family]), [add_random_adapter(architectures[family], tmp_path / "adapter", seed=1)]
    )
    yield model
    model.unload()


def answer(model, rows, find_image):
    return finish(model.answer_both(rows, GREEDY, find_image))[0]


def events(folder, kind):
    return [event for event in RunFolder(folder).read_events()[0] if event["kind"] == kind]


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_both_voices_answer_as_each_does_alone(model, family, names, find_image):
    (voice,) = model.adapters()
    prompt = Prompt("what is on the table?", (names[0],))
    rows = [Row(None, prompt), Row(voice, prompt)]
    both = answer(model, rows, find_image)
    alone = [answer(model, [row], find_image)[0] for row in rows]
    assert [row.tokens for row in both] == [row.tokens for row in alone]
    assert both[0].tokens != both[1].tokens
    together = family not in APART
    assert all((row.row_layout == ("baseline", voice)) == together for row in both)
    assert all((APART[family] in row.apart) if family in APART else row.apart == "" for row in both)
    assert all(row.apart == "" for row in alone)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_an_answer_is_read_with_the_picture_and_without_what_follows(model, family, names, find_image):
    prompt = Prompt("what is on the table?", (names[1],))
    text = "There is a cat."
    reading = model.read(prompt, text, [Reader(None), Reader(None, blind=True)], find_image)
    assert len(reading.log_probs[0]) == len(reading.offsets)
    assert reading.log_probs[0] != reading.log_probs[1], "a grey picture is seen to be one"
    longer = model.read(prompt, f"{text} And a dog.", [Reader(None)], find_image)
    shared = len(reading.offsets)
    assert longer.offsets[:shared] == reading.offsets
    assert longer.log_probs[0][:shared] == pytest.approx(reading.log_probs[0], abs=1e-4)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_ddpo_step_is_learnt_and_the_adapter_read_back(architectures, family, names, images, find_image, tmp_path):
    pairs = [make_pair(f"p{number}", name) for number, name in enumerate(names)]
    result = train(pairs, ONE_STEP, images=images, output=tmp_path / "run", model=str(architectures[family]))
    (step,) = events(tmp_path / "run", "step")
    assert result.state == "done"
    assert not events(tmp_path / "run", "skip")
    assert step["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert not [event for event in events(tmp_path / "run", "log") if "more slowly" in event.get("text", "")]
    (way,) = [event for event in events(tmp_path / "run", "log") if "packed" in event]
    assert way["packed"] == (family not in NOT_PACKED)
    assert NOT_PACKED.get(family, "Packed") in way["text"]
    trained = load_model(str(architectures[family]), [result.path])
    try:
        (voice,) = trained.adapters()
        assert not trained.adapters()[voice].changes_nothing
        assert not trained.adapters()[voice].touches_vision
        answer(trained, [Row(None, pairs[0].prompt), Row(voice, pairs[0].prompt)], find_image)
    finally:
        trained.unload()


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bfloat16"},
        {"gradient_checkpointing": True},
        {"full_tuning": True, "learning_rate": 1e-5},
    ],
    ids=lambda settings: next(iter(settings)),
)
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_other_ways_of_training_learn_too(architectures, family, settings, names, images, find_image, tmp_path):
    pairs = [make_pair(f"p{number}", name) for number, name in enumerate(names)]
    config = ONE_STEP.changed(steps=2, **settings)
    result = train(pairs, config, images=images, output=tmp_path / "run", model=str(architectures[family]))
    first = next(event["loss"] for event in events(tmp_path / "run", "step"))
    assert first == pytest.approx(math.log(2), abs=0.02 if "precision" in settings else 1e-5)
    assert result.figures["loss"] < first
    model = load_model(str(result.path if "full_tuning" in settings else architectures[family]))
    answer(model, [Row(None, pairs[0].prompt)], find_image)
    model.unload()


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_conversations_of_every_shape_are_learnt_together_or_left_out_with_a_reason(
    architectures, family, names, images, tmp_path
):
    prompts = {
        "none": Prompt("what is said?"),
        "two": Prompt("compare them", tuple(names[:2])),
        "later": Prompt("and this one?", (names[2],), (Turn("what is it?", "a dog", (names[1],)),)),
        "turns": Prompt("and now?", (), (Turn("what is it?", "a dog", (names[0],)),)),
        "one": Prompt("what is it?", (names[1],)),
    }
    pairs = [dataclasses.replace(make_pair(name, names[0]), prompt=prompt) for name, prompt in prompts.items()]
    config = ONE_STEP.changed(batch_size=5)
    train(pairs, config, images=images, output=tmp_path / "run", model=str(architectures[family]))
    (step,) = events(tmp_path / "run", "step")
    skipped = {event["pair"]: event["reason"] for event in events(tmp_path / "run", "skip")}
    assert step["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert set(skipped) == LEFT_OUT.get(family, set())
    assert all("image(s)" in reason for reason in skipped.values())
    assert not [event for event in events(tmp_path / "run", "log") if "more slowly" in event.get("text", "")]


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_features_are_kept_where_they_depend_on_the_picture_alone(architectures, family, find_image):
    base = load_base(find_entry(str(architectures[family])), ONE_STEP)
    assert ImageInputs(base.model, base.processor, find_image).cached == (family not in NO_CACHE)


# ---- families that read a prompt in a way of their own


def score(folder, pair, find_image, side="chosen"):
    """Log-probabilities of an answer's tokens from one plain forward."""
    base = load_base(find_entry(str(folder)), ONE_STEP)
    images = ImageInputs(base.model, base.processor, find_image)
    encoder = PairEncoder(base.processor, find_image, ONE_STEP, base.end_tokens)
    with torch.no_grad():
        return _score_alone(base.model, images, encoder.encode(pair), side)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_no_token_of_an_answer_sees_what_follows(architectures, family, names, find_image):
    """PaliGemma reads its prompt without order; an answer that were part of it would know its own end."""
    pair = make_pair("p", names[0])
    other = make_pair("q", names[0], edits=[("cup", "bus")])
    first, second = score(architectures[family], pair, find_image), score(architectures[family], other, find_image)
    before = pair.chosen.index("fork") // 4  # some tokens before the first difference, whatever the tokenizer
    assert torch.allclose(first[:before], second[:before], atol=1e-5)
    assert not torch.allclose(first[-2:], second[-2:], atol=1e-5)


def test_two_questions_about_one_picture_keep_their_own_encoding(architectures, names, find_image):
    """InstructBLIP's Q-Former reads the question: what was kept of the picture for one is wrong for the other."""
    base = load_base(find_entry(str(architectures["InstructBLIP"])), ONE_STEP)
    images = ImageInputs(base.model, base.processor, find_image)
    encoder = PairEncoder(base.processor, find_image, ONE_STEP, base.end_tokens, images.keep)
    pairs = [make_pair("p", names[0])]
    pairs += [dataclasses.replace(pairs[0], id="q", prompt=Prompt("how many cups are there?", (names[0],)))]
    encoded = [encoder.encode(pair) for pair in pairs]
    for pair in (*encoded, encoded[0]):
        expected = encode_prompt(base.processor, pair.conversation, find_image)["qformer_input_ids"]
        assert torch.equal(images([pair])["qformer_input_ids"], expected)


def test_plain_prompts_of_families_without_a_template(architectures, names):
    turn = Turn("what is it?", "a cat", (names[0],))
    expected = {
        "PaliGemma": ("<image>where?", "<image>what is it?\na cat\nwhere?"),
        "InstructBLIP": ("Question: where? Answer:", "Question: what is it? Answer: a cat\nQuestion: where? Answer:"),
    }
    for family, (one, two) in expected.items():
        processor = load_processor(architectures[family])
        assert render_prompt(processor, Prompt("where?", (names[0],))) == one
        assert render_prompt(processor, Prompt("where?", (), (turn,))) == two
        for prompt in (Prompt("where?", (names[0],)), Prompt("where?", (), (turn,))):
            ids, offsets = encode_answer(processor, prompt, "on the table", [processor.tokenizer.eos_token_id])
            assert ids[-1] == processor.tokenizer.eos_token_id
            assert processor.tokenizer.decode(ids[:-1]).strip() == "on the table"
            assert offsets[-1] == (12, 12)


def test_the_prompt_of_paligemma_is_the_published_one(architectures, names, find_image):
    processor = load_processor(architectures["PaliGemma"])
    ids = encode_prompt(processor, Prompt("where?", (names[0],)), find_image)["input_ids"][0]
    assert processor.tokenizer.decode(ids) == "<image>" * 4 + "<bos>where?\n"


@pytest.mark.parametrize("family", ["PaliGemma", "InstructBLIP"])
def test_a_question_without_a_picture_is_refused_with_a_reason(architectures, family):
    with pytest.raises(GenerationFailed, match="0 image"):
        encode_prompt(load_processor(architectures[family]), Prompt("where?"), lambda name: name)


def test_instructblip_answers_about_one_picture(architectures, names, find_image):
    processor = load_processor(architectures["InstructBLIP"])
    with pytest.raises(GenerationFailed, match="exactly one picture"):
        encode_prompt(processor, Prompt("where?", tuple(names[:2])), find_image)
    assert "<image>" in control_tokens(processor)


def test_a_text_model_with_an_encoder_answers_and_is_refused_for_training(names, find_image, tmp_path):
    """InstructBLIP with Flan-T5: its answer is no continuation of the prompt."""
    text = {"model_type": "t5", "d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 4, "d_kv": 16}
    folder = build_instructblip(tmp_path / "t5", text | {"vocab_size": 400, "decoder_start_token_id": 0})
    model = load_model(str(folder))
    assert len(answer(model, [Row(None, Prompt("where?", (names[0],)))], find_image)[0].tokens) == 12
    model.unload()
    with pytest.raises(RunFailed, match="reads its prompt with an encoder"):
        load_base(find_entry(str(folder)), ONE_STEP)


def test_a_copied_processor_keeps_the_tokenizer_of_its_q_former(architectures, names, find_image, tmp_path):
    copy_processor(architectures["InstructBLIP"], tmp_path)
    (tmp_path / "config.json").write_bytes((architectures["InstructBLIP"] / "config.json").read_bytes())
    prompt = Prompt("where?", (names[0],))
    whole, copied = (
        encode_prompt(load_processor(place), prompt, find_image) for place in (architectures["InstructBLIP"], tmp_path)
    )
    assert torch.equal(whole["qformer_input_ids"], copied["qformer_input_ids"])
