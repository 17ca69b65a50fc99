import shutil
import threading
import time

import pytest
import torch

from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.errors import GenerationFailed, InvalidImage, ModelUnavailable
from rlhfv.models.local import BASELINE, Row, answer_both, load_model
from tests.models.conftest import (
    FAMILIES,
    GREEDY,
    SAMPLED,
    finish,
    generate,
    hook_count,
    one_turn,
    two_turns,
)
from tests.models.tiny import add_random_adapter, build_llava

LONG = Sampling(max_new_tokens=1500)


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
def test_without_any_image(loaded, family):
    model, adapter = loaded[family]
    rows = [Row(None, one_turn()), Row(adapter, one_turn())]
    assert [a.tokens for a in generate(model, rows)] == [a.tokens for a in alone(model, rows, GREEDY)]


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_equal_what_transformers_and_peft_generate_plainly(folders, loaded, pictures, family):
    """Against the libraries' own way, with nothing of this room but the encoded prompt."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    from rlhfv.models.prompts import encode_prompt

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


# ---- streaming


@pytest.mark.parametrize("family", FAMILIES)
def test_streamed_texts_end_as_the_answers(loaded, pictures, family):
    model, adapter = loaded[family]
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    answers, streamed = finish(answer_both(model, rows, GREEDY))
    assert streamed[-1] == tuple(answer.text for answer in answers)
    assert len(streamed) > 3
    assert all(len(texts) == 2 for texts in streamed)
    assert [answer.text for answer in answers] == [
        model.tokenizer.decode(answer.tokens, skip_special_tokens=True) for answer in answers
    ]


def test_a_row_that_ends_first_is_finished_and_the_other_goes_on(folders, pictures):
    """The end-of-text ids are a list; what the shorter row is fed afterwards is not part of its answer."""
    model = load_model(str(folders["llava"]), [folders["llava-adapter"]])
    adapter = next(iter(model.adapters()))
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    free = generate(model, rows)
    end = next(token for token in free[0].tokens[5:] if token not in free[1].tokens)
    model.unload()
    folder = folders["llava"].parent / "llava-with-ends"
    shutil.copytree(folders["llava"], folder)
    settings = folder / "generation_config.json"
    settings.write_text(settings.read_text().replace('"eos_token_id": 321', f'"eos_token_id": [321, {end}]'))
    model = load_model(str(folder), [folders["llava-adapter"]])
    both = generate(model, rows)
    assert both[0].tokens == free[0].tokens[: free[0].tokens.index(end)]
    assert both[1].tokens == free[1].tokens
    assert [answer.finished for answer in both] == [True, False]
    model.unload()


def test_the_makers_sampling_settings_do_not_leak_in(folders, pictures, tmp_path):
    folder = shutil.copytree(folders["llava"], tmp_path / "llava")
    settings = folder / "generation_config.json"
    settings.write_text(settings.read_text().replace("{", '{"do_sample": true, "temperature": 5.0, "top_k": 3,', 1))
    model, plain = load_model(str(folder)), load_model(str(folders["llava"]))
    row = [Row(None, one_turn(pictures[0]))]
    assert generate(model, row)[0].tokens == generate(plain, row)[0].tokens
    model.unload()
    plain.unload()


def test_seeds_repeat_and_differ(llava, pictures):
    model, adapter = llava
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    first, again = generate(model, rows, SAMPLED), generate(model, rows, SAMPLED)
    assert first == again
    other = generate(model, rows, Sampling(temperature=1.0, top_p=0.9, max_new_tokens=24, seed=8))
    assert other[0].tokens != first[0].tokens


# ---- stopping, failing, and what is left of it


def wait_for_text(answers):
    return next(texts for texts in answers if any(texts))


def test_stop_ends_both_rows_and_leaves_no_hooks(llava, pictures):
    model, adapter = llava
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    expected, hooks, stop = generate(model, rows), hook_count(model), threading.Event()
    answers = model.answer_both(rows, LONG, stop=stop)
    wait_for_text(answers)
    stop.set()
    stopped, _ = finish(answers)
    assert all(0 < len(answer.tokens) < 1000 and not answer.finished for answer in stopped)
    assert hook_count(model) == hooks
    assert generate(model, rows) == expected


def test_closing_the_generator_stops_the_thread(llava, pictures):
    model, adapter = llava
    answers = model.answer_both([Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))], LONG)
    wait_for_text(answers)
    started = time.monotonic()
    answers.close()
    generate(model, [Row(None, one_turn(pictures[0]))], Sampling(max_new_tokens=1))
    assert time.monotonic() - started < 2, "the next answer had to wait for the whole of the abandoned one"


def test_a_stopped_answer_that_waits_its_turn_is_never_made(llava, pictures):
    model, _ = llava
    row = [Row(None, one_turn(pictures[0]))]
    first, stop = model.answer_both(row, LONG), threading.Event()
    wait_for_text(first)
    stop.set()
    waiting, _ = finish(model.answer_both(row, LONG, stop=stop))
    assert (waiting[0].text, waiting[0].finished, waiting[0].row_layout) == ("", False, ())
    first.close()


def fail_in_layer(model, after: int):
    """Makes the last text layer raise on its call number `after`; returns the handle that ends it."""
    calls = iter(range(10**6))

    def explode(*_):
        if next(calls) == after:
            raise RuntimeError("a layer broke")

    return model.model.get_decoder().layers[-1].register_forward_hook(explode)


@pytest.mark.parametrize("after", [0, 5], ids=["in the prompt", "in the answer"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_exception_inside_leaves_no_hooks_and_the_next_call_right(loaded, pictures, family, after):
    model, adapter = loaded[family]
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    expected, hooks = generate(model, rows), hook_count(model)
    handle = fail_in_layer(model, after)
    with pytest.raises(GenerationFailed, match="a layer broke"):
        generate(model, rows)
    handle.remove()
    assert hook_count(model) == hooks
    assert generate(model, [rows[1]])[0].tokens == expected[1].tokens, "one row after two: stale names would raise"
    assert generate(model, rows) == expected


def test_peft_alone_would_leave_its_hooks(folders, pictures):
    """The pitfall that `hooks_restored` is for: without it this is what remains."""
    from rlhfv.models.prompts import encode_prompt

    model = load_model(str(folders["llava"]), [folders["llava-adapter"]])
    inputs = encode_prompt(model.processor, one_turn(), lambda name: name)
    batch = {name: value.repeat(2, 1) for name, value in inputs.items()}
    names = ["__base__", next(iter(model.adapters().values())).name]
    handle = fail_in_layer(model, 0)
    with pytest.raises(RuntimeError):
        model._engine._peft.generate(**batch, adapter_names=names, max_new_tokens=2)
    handle.remove()
    assert hook_count(model) > 0
    model.unload()


def test_a_failure_of_the_streamer_is_told_and_leaves_no_hooks(llava, pictures, monkeypatch):
    model, adapter = llava
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    expected = generate(model, rows)

    def fail():
        raise OSError("nobody listens")

    with pytest.raises(GenerationFailed, match="nobody listens"):
        model._engine.answer(rows, LONG, lambda name: name, [0, 0], lambda: False, on_token=fail)
    assert hook_count(model) == 0
    assert generate(model, rows) == expected


def test_out_of_memory_is_told_as_such(llava, pictures, monkeypatch):
    model, _ = llava

    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model._engine, "_generate", fail)
    with pytest.raises(GenerationFailed, match="ran out of memory"):
        generate(model, [Row(None, one_turn(pictures[0]))])


def test_a_missing_image_and_a_conversation_too_long_are_told(llava, pictures):
    model, _ = llava
    with pytest.raises(InvalidImage):
        generate(model, [Row(None, one_turn("/no/such/image.png"))])
    with pytest.raises(GenerationFailed, match="reads 2048 tokens at most"):
        generate(model, [Row(None, one_turn(pictures[0], question="zebra " * 2000))])
    near_the_end = generate(model, [Row(None, one_turn(question="q" * 2020))], LONG)[0]
    assert 0 < len(near_the_end.tokens) < 30


def test_one_or_two_rows():
    with pytest.raises(ValueError, match="one or two"):
        next(answer_both(load_stub(), []))


def load_stub():
    from rlhfv.models.local import LocalModel

    return object.__new__(LocalModel)


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

    from rlhfv.models.prompts import encode_prompt

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
    model._engine.images.shares = False
    model._engine.images._cached.clear()
    assert [answer.tokens for answer in fallback_rows(model, adapter, pictures)] == [a.tokens for a in expected]
    model.unload()


# ---- lower precision


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bfloat16_the_scores_of_both_layouts_stay_close(folders, pictures, family):
    """Batched and single rows may part at a near-tie there, so it is the teacher-forced scores that are bounded: of
    the batched answer, per token, against float32; and where the two layouts part, the gap between the two tokens.
    """
    from rlhfv.models.local import LocalModel
    from rlhfv.models.prompts import encode_prompt

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


# ---- many prompts, many visitors


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("voice", [False, True], ids=["baseline", "adapter"])
def test_answer_many_equals_one_by_one(loaded, pictures, family, voice):
    model, adapter = loaded[family]
    voice = adapter if voice else None
    prompts = [
        one_turn(pictures[0]),
        one_turn(pictures[1], question="how many cars are there in the street?"),
        two_turns(pictures[0]),
        one_turn(),
        one_turn(pictures[0], question="yes?"),
    ]
    done = []
    short = Sampling(max_new_tokens=20)
    answers = model.answer_many(prompts, voice, short, batch_size=3, progress=lambda *of: done.append(of))
    assert answers == [generate(model, [Row(voice, prompt)], short)[0].text for prompt in prompts]
    assert done == [(3, 5), (5, 5)]


def test_answer_many_samples_each_prompt_with_its_own_seed(llava, pictures):
    model, _ = llava
    sampling = Sampling(temperature=1.0, max_new_tokens=15, seed=3)
    answers = model.answer_many([one_turn(pictures[0])] * 4, None, sampling, batch_size=2)
    expected = [
        generate(model, [Row(None, one_turn(pictures[0]))], Sampling(temperature=1.0, max_new_tokens=15, seed=seed))
        for seed in range(3, 7)
    ]
    assert answers == [answer[0].text for answer in expected]
    assert len(set(answers)) == 4


def test_answer_many_stops_between_batches(llava, pictures):
    model, _ = llava
    stop = threading.Event()
    answers = model.answer_many(
        [one_turn(pictures[0])] * 6,
        None,
        Sampling(max_new_tokens=3),
        batch_size=2,
        progress=lambda *_: stop.set(),
        stop=stop,
    )
    assert len(answers) == 2


def test_twenty_visitors_are_served_in_turn_while_an_evaluation_runs(llava, pictures):
    model, adapter = llava
    prompts = [one_turn(pictures[number % 2], question=f"question {number}") for number in range(20)]
    short = Sampling(max_new_tokens=8)
    expected = [generate(model, [Row(None, prompt), Row(adapter, prompt)], short) for prompt in prompts]
    got, order = {}, []
    stop = threading.Event()
    crowd = threading.Thread(
        target=model.answer_many, args=([prompts[0]] * 4000, None, short), kwargs={"batch_size": 4, "stop": stop}
    )
    crowd.start()

    def visit(number):
        got[number] = generate(model, [Row(None, prompts[number]), Row(adapter, prompts[number])], short)
        order.append(number)

    visitors = [threading.Thread(target=visit, args=(number,)) for number in range(20)]
    for visitor in visitors:
        visitor.start()
        time.sleep(0.005)
    for visitor in visitors:
        visitor.join(timeout=60)
    stop.set()
    crowd.join(timeout=60)
    assert [got[number] for number in range(20)] == expected
    assert max(abs(place - number) for place, number in enumerate(order)) <= 3, "first come, first served"


def test_an_unloaded_model_says_so_and_stops_what_was_going_on(folders, pictures):
    model = load_model(str(folders["llava"]))
    answers = model.answer_both([Row(None, one_turn(pictures[0]))], LONG)
    wait_for_text(answers)
    waiting = model.answer_both([Row(None, one_turn(pictures[0]))], LONG)
    outcome = []

    def wait():
        try:
            finish(waiting)
        except ModelUnavailable as error:
            outcome.append(error)

    visitor = threading.Thread(target=wait)
    visitor.start()
    time.sleep(0.05)
    model.unload()
    visitor.join(timeout=10)
    assert "not in memory" in str(outcome[0])
    stopped, _ = finish(answers)
    assert not stopped[0].finished
    for use in (lambda: generate(model, [Row(None, one_turn())]), lambda: model.attach(folders["llava-adapter"])):
        with pytest.raises(ModelUnavailable, match="not in memory"):
            use()
    assert model.adapters() == {}


def test_tied_embeddings_count_as_present(tmp_path, pictures):
    folder = build_llava(tmp_path / "tied", tie=True)
    model = load_model(str(folder))
    assert generate(model, [Row(None, one_turn(pictures[0]))])[0].tokens
    model.unload()
