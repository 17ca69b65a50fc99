"""Two rows are what each would be alone; where they cannot be, they are alone."""

import json
import shutil

import pytest
import torch

from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.models.local import BASELINE, LocalModel, Row, load_model
from rlhfv.models.prompts import encode_prompt
from tests.models.conftest import FAMILIES, GREEDY, SAMPLED, finish, generate, one_turn, two_turns
from tests.models.tiny import add_random_adapter


def alone(model, rows, sampling):
    return [generate(model, [row], sampling)[0] for row in rows]


# ---- two rows are what each would be alone (float32)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_equal_separate_runs(loaded, pictures, family, sampling):
    model, adapter = loaded[family]
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    both = generate(model, rows, sampling)
    assert [answer.row_layout for answer in both] == [(BASELINE, adapter)] * 2
    assert [answer.row for answer in both] == [0, 1]
    assert [answer.tokens for answer in both] == [answer.tokens for answer in alone(model, rows, sampling)]
    assert both[0].tokens != both[1].tokens
    assert all(len(answer.tokens) > 10 for answer in both)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_unequal_length_equal_separate_runs(loaded, pictures, family, sampling):
    """From the second turn each column has its own history: the shorter row is padded on the left."""
    model, adapter = loaded[family]
    short, long = two_turns(pictures[0]), two_turns(pictures[0], answer="there is a red car and a man " * 3)
    for rows in ([Row(None, short), Row(adapter, long)], [Row(adapter, short), Row(None, long)]):
        both = generate(model, rows, sampling)
        assert both[0].row_layout == both[1].row_layout == tuple(row.voice or BASELINE for row in rows)
        assert [answer.tokens for answer in both] == [answer.tokens for answer in alone(model, rows, sampling)]


@pytest.mark.parametrize("family", FAMILIES)
def test_several_images_and_an_image_that_joins_later(loaded, pictures, family):
    model, adapter = loaded[family]
    history = two_turns(pictures[0]).history
    several = one_turn(*pictures)
    joined = Prompt("and what is in this one?", (str(pictures[1]),), history)
    rows = [Row(None, several), Row(adapter, joined)]
    both = generate(model, rows)
    assert [answer.tokens for answer in both] == [answer.tokens for answer in alone(model, rows, GREEDY)]
    swapped = generate(model, [Row(None, one_turn(*reversed(pictures)))])
    assert swapped[0].tokens != both[0].tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_with_images_beside_one_without(loaded, pictures, family):
    model, adapter = loaded[family]
    for rows in (
        [Row(None, one_turn(pictures[0])), Row(adapter, one_turn())],
        [Row(None, one_turn()), Row(adapter, one_turn(*pictures))],
    ):
        both = generate(model, rows)
        assert both[0].row_layout == both[1].row_layout == (BASELINE, adapter)
        assert [answer.tokens for answer in both] == [answer.tokens for answer in alone(model, rows, GREEDY)]


def test_a_long_history_does_not_cut_the_answer_beside_it(llava, pictures):
    """Near the end of the context the padding of the longer row would take the shorter one's room."""
    model, adapter = llava
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(question="q" * 2015))]
    both = generate(model, rows)
    assert [len(answer.tokens) < GREEDY.max_new_tokens for answer in both] == [False, True]
    assert [answer.tokens for answer in both] == [answer.tokens for answer in alone(model, rows, GREEDY)]
    assert [answer.row_layout for answer in both] == [(BASELINE,), (adapter,)]


def test_a_penalty_of_the_makers_does_not_count_the_padding(folders, pictures, tmp_path):
    """Qwen's settings penalise repetition, and its padding is one of the tokens that end an answer."""
    rows = [Row(None, two_turns(pictures[0])), Row(None, two_turns(pictures[0], answer="there is a red car " * 3))]
    free = load_model(str(folders["llava"]))
    padding = generate(free, rows[:1])[0].tokens[0]
    free.unload()
    folder = shutil.copytree(folders["llava"], tmp_path / "llava")
    settings = json.loads((folder / "generation_config.json").read_text())
    settings |= {"repetition_penalty": 5.0, "pad_token_id": padding}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    model = load_model(str(folder))
    both = generate(model, rows)
    assert both[0].row_layout == (BASELINE, BASELINE)
    assert both[0].tokens[0] == padding
    assert [answer.tokens for answer in both] == [answer.tokens for answer in alone(model, rows, GREEDY)]
    model.unload()


@pytest.mark.parametrize("family", FAMILIES)
def test_without_any_image(loaded, family):
    model, adapter = loaded[family]
    rows = [Row(None, one_turn()), Row(adapter, one_turn())]
    assert [a.tokens for a in generate(model, rows)] == [a.tokens for a in alone(model, rows, GREEDY)]


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_equal_what_transformers_and_peft_generate_plainly(folders, loaded, pictures, family):
    """Against the libraries' own way, with nothing of this room but the encoded prompt."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    model, adapter = loaded[family]
    prompt = two_turns(pictures[0])
    inputs = encode_prompt(model.processor, prompt, lambda name: name)
    plain = AutoModelForImageTextToText.from_pretrained(folders[family]).eval()
    plain.generation_config.eos_token_id = model.tokenizer.eos_token_id

    def tokens(generator):
        output = generator.generate(**inputs, max_new_tokens=24, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        ids = output.tolist()
        return tuple(ids[: ids.index(model.tokenizer.eos_token_id)] if model.tokenizer.eos_token_id in ids else ids)

    expected = [tokens(plain)]
    expected.append(tokens(PeftModel.from_pretrained(plain, folders[f"{family}-adapter"]).eval()))
    both = generate(model, [Row(None, prompt), Row(adapter, prompt)])
    assert [answer.tokens for answer in both] == expected


def test_the_image_is_encoded_once_for_both_rows_and_all_turns(llava, pictures, tmp_path):
    model, adapter = llava
    picture = shutil.copy(pictures[0], tmp_path / "new.png")
    images = model._engine.images
    before = images.encoded
    generate(model, [Row(None, one_turn(picture)), Row(adapter, one_turn(picture))])
    assert images.encoded == before + 1
    generate(model, [Row(None, two_turns(picture)), Row(adapter, two_turns(picture, answer="else"))])
    assert images.encoded == before + 1
    shutil.copy(pictures[1], picture)
    generate(model, [Row(None, one_turn(picture))])
    assert images.encoded == before + 2, "another picture under the same name"


def test_kept_images_are_bounded(llava, pictures, tmp_path, monkeypatch):
    model, _ = llava
    monkeypatch.setattr("rlhfv.models.rows.CACHE_BYTES", 4000)
    for number in range(6):
        generate(
            model,
            [Row(None, one_turn(shutil.copy(pictures[0], tmp_path / f"{number}.png")))],
            Sampling(max_new_tokens=1),
        )
    assert len(model._engine.images._cached) <= 4


# ---- adapters that cannot share a batch: two runs, still streamed


def fallback_rows(model, adapter, pictures):
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    answers, streamed = finish(model.answer_both(rows, GREEDY))
    assert [answer.row_layout for answer in answers] == [(BASELINE,), (adapter,)]
    assert [answer.row for answer in answers] == [0, 0]
    assert any(first and not second for first, second in streamed), "the first answer is shown while it is made"
    assert streamed[-1] == tuple(answer.text for answer in answers)
    assert answers[0].tokens != answers[1].tokens
    return answers


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"target_modules": r".*vision_tower.*(q_proj|fc1)", "scale": 0.5},
        {"target_modules": r".*multi_modal_projector\.linear_2", "scale": 0.5},
        {"modules_to_save": ["multi_modal_projector"]},
        {"modules_to_save": ["lm_head"]},
    ],
    ids=["DoRA", "tower", "projector", "whole projector", "whole head"],
)
def test_adapters_that_cannot_be_mixed_fall_back_to_two_runs(folders, pictures, tmp_path, settings):
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    folder = add_random_adapter(folders["llava"], tmp_path / "adapter", **settings)
    model = load_model(str(folders["llava"]), [folder])
    adapter = next(iter(model.adapters()))
    plain = generate(load_model(str(folders["llava"])), [Row(None, one_turn(pictures[0]))])[0].tokens
    answers = fallback_rows(model, adapter, pictures)
    assert answers[0].tokens == plain
    inputs = encode_prompt(model.processor, one_turn(pictures[0]), lambda name: name)
    reference = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(folders["llava"]), folder).eval()
    expected = reference.generate(**inputs, max_new_tokens=24, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert answers[1].tokens == tuple(expected.tolist())
    model.unload()


@pytest.mark.parametrize("family", ["smolvlm", "qwen2_5_vl"])
def test_adapters_on_towers_of_tiles_and_flat_patches_fall_back(folders, pictures, tmp_path, family):
    targets = {"smolvlm": r".*vision_model.*(q_proj|fc1)", "qwen2_5_vl": r".*visual\.blocks.*qkv"}[family]
    folder = add_random_adapter(folders[family], tmp_path / "adapter", target_modules=targets, scale=0.5)
    model = load_model(str(folders[family]), [folder])
    fallback_rows(model, next(iter(model.adapters())), pictures)
    model.unload()


def test_a_merged_adapter_falls_back_to_two_runs(folders, pictures):
    model = load_model(str(folders["llava"]), [folders["llava-adapter"]])
    adapter = next(iter(model.adapters()))
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    expected = generate(model, rows)
    model._engine._peft.merge_adapter()
    assert [answer.tokens for answer in fallback_rows(model, adapter, pictures)] == [a.tokens for a in expected]
    model.unload()


def test_a_model_that_takes_no_encoded_images_falls_back(folders, pictures):
    model = load_model(str(folders["llava"]), [folders["llava-adapter"]])
    adapter = next(iter(model.adapters()))
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    expected = generate(model, rows)
    model._engine.images.why_not = "it takes none"
    model._engine.images._cached.clear()
    assert [answer.tokens for answer in fallback_rows(model, adapter, pictures)] == [a.tokens for a in expected]
    model.unload()


# ---- lower precision


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bfloat16_the_scores_of_both_layouts_stay_close(folders, pictures, family):
    """Batched and single rows may part at a near-tie there, so it is the teacher-forced scores that are bounded: of
    the batched answer, per token, against float32; and where the two layouts part, the gap between the two tokens.
    """
    model = LocalModel.load(str(folders[family]), dtype=torch.bfloat16)
    adapter = model.attach(folders[f"{family}-adapter"])
    prompt = one_turn(pictures[0])
    rows = [Row(None, prompt), Row(adapter, prompt)]
    both, single = generate(model, rows), alone(model, rows, GREEDY)
    assert generate(model, rows) == both, "the same layout repeats the answer"
    reference = load_model(str(folders[family]), [folders[f"{family}-adapter"]])
    inputs = encode_prompt(model.processor, prompt, lambda name: name)
    for row, batched, separate in zip(rows, both, single, strict=True):
        scores = teacher_forced(model, row.voice, inputs, batched.tokens)
        exact = teacher_forced(reference, row.voice, inputs, batched.tokens)
        taken = torch.tensor(batched.tokens)[:, None]
        spread = exact.std(-1).mean()
        assert (scores.gather(1, taken) - exact.gather(1, taken)).abs().mean() < 0.05 * spread
        parted = [i for i, pair in enumerate(zip(batched.tokens, separate.tokens, strict=False)) if pair[0] != pair[1]]
        if parted:
            at = parted[0]
            gap = (exact[at, batched.tokens[at]] - exact[at, separate.tokens[at]]).abs()
            assert gap < 0.2 * spread
    model.unload()
    reference.unload()


def teacher_forced(model, voice, inputs, tokens):
    """Log-probabilities [answer, vocabulary] of the tokens of an answer after the prompt, in one plain forward."""
    ids = torch.cat([inputs["input_ids"], torch.tensor([tokens])], dim=1)
    extended = dict(inputs) | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "mm_token_type_ids" in inputs:
        padding = (0, len(tokens))
        extended["mm_token_type_ids"] = torch.nn.functional.pad(inputs["mm_token_type_ids"], padding)
    model.model.model.rope_deltas = None
    with torch.no_grad(), model._engine._speaking([voice]):
        logits = model._engine._generator()(**model._engine._to_device(extended)).logits.float()
    return torch.log_softmax(logits[0, inputs["input_ids"].shape[1] - 1 : -1], -1)
